"""Which of a job's figures are shown first."""

from __future__ import annotations

HEADLINE = "test/agreement"
HEADLINES = (  # shown of a job, and as means over a sweep's cells, if measured
    "test/victim_accuracy",
    "test/accuracy",
    "test/target_accuracy",
    "test/stolen_accuracy",
    "test/ratio",
    "test/cosine",
    "test/neighbours",
    "test/agreement",
)
BESIDE = {  # a figure, and others that are always reported with it
    "test/ratio": ("test/agreement", "test/neighbours", "test/cosine"),  # a trunk without queries has a high ratio
}
FURTHER = (  # the other figures that are shown of a single job
    "test/agreement_original",
    "test/kappa",
    "test/agreement_victim_wrong",
    "test/agreement_least_sure",
    "test/trunk_cka_unbiased",
    "test/cka_unbiased",
    "test/victim_entropy",
    "ood/noise/agreement",
    "ood/blur/agreement",
    "ood/contrast/agreement",
    "ood/jpeg/agreement",
    "transfer/pgd/changed",
    "test/adversarial_agreement",
    "honest/accuracy",
    "honest/downstream_accuracy",
    "honest/l1",
    "honest/ece",
    "honest/cosine",
    "honest/false_alarms",
)
