"""Why was it easy to steal? How alike victim and thief see images, before the attack and after it.

Linear CKA (Kornblith et al., ICML 2019, eq. 1 with a linear kernel): ``||Y'X||^2 / (||X'X|| ||Y'Y||)`` of centred
features ``X (n, p)``, ``Y (n, q)``, Frobenius norms; 1 for features equal up to rotation and scale. With as many
features as images it is biased upwards (independent features are not near 0), hence the unbiased form beside it (HSIC_1
of Song et al., JMLR 2012, as in Nguyen et al., ICLR 2021), which is 0 in expectation for independent features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.base.metric import Metric
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Task
from fmsteal.evaluation.base import Measured, Measurement, Pair, sample
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.inference import penultimate
from fmsteal.training.learners import ClassifierLearner, Learner, Role
from fmsteal.victims.base import VictimMaker
from fmsteal.victims.zero_shot import ZeroShotVictim


@dataclass(frozen=True)
class Similarity(Measurement):
    """CKA of the penultimate features, CKA of the two trunks before any training, and the victim's uncertainty.

    Attributes:
        images: maximum number of test images (the unbiased form needs memory for its square).
    """

    answers: ClassVar[Answers] = "probabilities"

    images: int = 2000

    def __post_init__(self) -> None:
        if self.images < 4:
            raise ConfigError(f"evaluation.also.similarity.images must be at least 4, not {self.images}.")

    def check_victim(self, victim: VictimMaker) -> None:
        """Refuse a victim whose features cannot be looked at, before anything is paid for."""
        if getattr(victim, "paid", False):
            raise ConfigError(
                f"evaluation=similarity compares the features of victim and thief, and {type(victim).__name__} answers "
                "over a network: nobody sees its features. Leave it out (evaluation=classify)."
            )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """``test/cka``, ``test/trunk_cka`` (each also ``_unbiased``), and ``test/victim_entropy`` in nats."""
        ids = sample(pair.task.test, self.images)
        victim, thief = pair.learners
        before, after = zip(
            _features(pair.victim.model, victim, "victim", pair.task, ids, ctx),
            _features(pair.thief, thief, "thief", pair.task, ids, ctx),
            strict=True,
        )
        return Measured(
            [
                Metric("test/cka", cka(*after), "CKA after the attack, biased"),
                Metric("test/cka_unbiased", cka_unbiased(*after), "CKA after the attack"),
                Metric("test/trunk_cka", cka(*before), "CKA before the attack, biased", None),
                Metric("test/trunk_cka_unbiased", cka_unbiased(*before), "CKA before the attack", None),
                Metric("test/victim_entropy", entropy(pair.logits[0]), "victim's entropy (nats)", None),
            ]
        )


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of features ``(n, p)`` and ``(n, q)`` of the same n images."""
    x, y = _centred(x), _centred(y)
    return _ratio((y.T @ x).square().sum(), (x.T @ x).square().sum(), (y.T @ y).square().sum())


def cka_unbiased(x: Tensor, y: Tensor) -> float:
    """The same from unbiased estimates of HSIC; needs n >= 4, and may be slightly negative."""
    x, y = _centred(x), _centred(y)
    k, g = x @ x.T, y @ y.T
    return _ratio(_hsic(k, g), _hsic(k, k), _hsic(g, g))


def entropy(logits: Tensor) -> float:
    """Mean entropy of the softmax rows, in nats."""
    log_p = logits.double().log_softmax(1)
    return float(-(log_p.exp() * log_p).sum(1).mean())


def _centred(features: Tensor) -> Tensor:
    return features.double() - features.double().mean(0)


def _hsic(k: Tensor, g: Tensor) -> Tensor:
    """HSIC_1 of two Gram matrices ``(n, n)`` (Song et al. 2012, eq. 5)."""
    n = len(k)
    k, g = (m - torch.diag(m.diagonal()) for m in (k, g))
    cross = (k * g).sum() + k.sum() * g.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k.sum(0) * g.sum(0)).sum()
    return cross / (n * (n - 3))


def _ratio(cross: Tensor, own: Tensor, other: Tensor) -> float:
    """Cross over the geometric mean; 0 if a side does not vary at all."""
    scale = float((own.clamp(min=0) * other.clamp(min=0)).sqrt())
    return float(cross) / scale if scale > 0 else 0.0


def _features(
    model: nn.Module, learner: Learner, role: Role, task: Task, ids: Ids, ctx: Context
) -> tuple[Tensor, Tensor]:
    """Features of a trunk before any training, pretrained or at its own random initialisation, and of the model."""
    if not isinstance(model, Classifier) or not isinstance(learner, ClassifierLearner | ZeroShotVictim):
        raise AttackError(f"evaluation=similarity compares classifiers, not a {type(model).__name__}.")
    after = penultimate(model, task.test, ids, ctx)
    if model.frozen is not None or not isinstance(learner, ClassifierLearner):  # its trunk is unchanged
        return after, after
    start = learner.build(task.num_classes, role)
    if learner.adaptation in ("full", "lora"):  # the same trunk as a probe's: its features may be in the store
        start.frozen = learner.backbone
    return penultimate(start, task.test, ids, ctx), after
