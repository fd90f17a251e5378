"""Which figures stand first, of all that a job may measure."""

from __future__ import annotations

HEADLINE = "test/agreement"
HEADLINES = {  # what is shown of a job, and as a mean of a sweep's cells: those of them that were measured
    "test/victim_accuracy": "victim accuracy",
    "test/accuracy": "thief accuracy",
    "test/target_accuracy": "target's downstream accuracy",
    "test/stolen_accuracy": "stolen encoder's",
    "test/ratio": "ratio",
    "test/cosine": "cosine",
    "test/agreement": "agreement",
}
FURTHER = {  # of what an evaluation may also measure, what is shown of a single job
    "test/trunk_cka_unbiased": "CKA before the attack",
    "test/cka_unbiased": "CKA after it",
    "test/victim_entropy": "victim's entropy (nats)",
    "ood/noise/agreement": "agreement under noise",
    "ood/blur/agreement": "agreement under blur",
    "ood/contrast/agreement": "agreement at low contrast",
    "ood/jpeg/agreement": "agreement under JPEG",
    "transfer/pgd/changed": "victim fooled by PGD on thief",
    "test/adversarial_agreement": "agreement on those examples",
}
