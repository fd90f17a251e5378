"""Which figures stand first, of all that a job may measure."""

from __future__ import annotations

HEADLINE = "test/agreement"
HEADLINES = (  # what is shown of a job, and as a mean of a sweep's cells: those of them that were measured
    "test/victim_accuracy",
    "test/accuracy",
    "test/target_accuracy",
    "test/stolen_accuracy",
    "test/ratio",
    "test/cosine",
    "test/neighbours",
    "test/agreement",
)
BESIDE = {  # what a figure is never reported without
    "test/ratio": ("test/agreement", "test/neighbours", "test/cosine"),  # a trunk that asked nothing has a high one
}
FURTHER = (  # of all other figures, what is shown of a single job
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
