"""Agreement and related figures of a stolen classifier and the undefended victim, on the victim's test set.

Where a defense puts another model in the victim's place, the thief is compared with that one, before any perturbation;
accuracy is compared with the victim's own, and ``test/agreement_original`` is the agreement with it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.config.answers import Answers
from fmsteal.evaluation import metrics
from fmsteal.evaluation.base import Measured, Measurement, Pair
from fmsteal.evaluation.by_class import show_classes
from fmsteal.evaluation.sound import answers_one_class
from fmsteal.training.context import Context

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassifierEvaluation(Measurement):
    """Compares thief and victim.

    Attributes:
        k: the k of ``test/agreement@k``: the victim's top-1 is among the thief's top-k.
        also: further measurements, by any name.
    """

    version: ClassVar[int] = 2  # added kappa and the agreement on two kinds of hard images
    name: ClassVar[str] = "classify"
    answers: ClassVar[Answers] = "probabilities"

    k: int = 5
    also: Mapping[str, Measurement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"evaluation.k must be at least 1, not {self.k}.")

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """Compare once, after the attack.

        Raises:
            AttackError: the thief's outputs have the wrong shape, or are not finite.
        """
        test, (victim, thief) = pair.task.test, pair.logits
        served, original = (victim, None) if pair.serve is None else (pair.serve(), victim)
        if answers_one_class(served):
            log.warning("The victim answers one class to all %d test images: any constant agrees with it", len(test))
        measured = self.compare(served, thief, torch.from_numpy(np.array(test.labels)), original)
        show_classes(ctx.tracker, "test", test, measured.predictions["victim"], measured.predictions["thief"])
        return measured

    def compare(self, victim: Tensor, thief: Tensor, labels: Tensor, original: Tensor | None = None) -> Measured:
        """All figures from both models' logits ``(n, C)`` and the labels ``(n,)``, which are kept as predictions.

        ``victim`` is the model that serves; ``original`` is the victim as it was trained, if that is another one.
        """

        def share(name: str, value: float, label: str, higher_is_better: bool | None = True) -> Metric:
            return _share(name, value, label, len(labels), higher_is_better)

        plain = victim if original is None else original
        own, victims = metrics.accuracy(thief, labels), metrics.accuracy(plain, labels)
        at_k = metrics.agreement_at(self.k, victim, thief)
        found = [
            share("agreement", metrics.agreement(victim, thief), "agreement"),
            share(f"agreement@{self.k}", at_k, f"agreement with the thief's top {self.k}"),
            share("accuracy", own, "thief accuracy"),
            share("victim_accuracy", victims, "victim accuracy", None),
            Metric("test/kl", metrics.kl(victim, thief), "KL(victim || thief), nats", False),
            Metric("test/l1", metrics.l1(victim, thief), "L1 distance of probabilities", False),
            Metric("test/relative_accuracy", own / max(victims, 1e-12), "thief accuracy / victim accuracy"),
            *self._hard(victim, thief, labels),
        ]
        predictions = {
            "victim": victim.argmax(1).numpy(),
            "thief": thief.argmax(1).numpy(),
            "label": labels.numpy(),
            "victim_logits": victim.numpy(),
            "thief_logits": thief.numpy(),
        }
        if original is not None:
            with_it = metrics.agreement(original, thief)
            found.append(share("agreement_original", with_it, "agreement with the victim that was replaced"))
            predictions |= {"original": original.argmax(1).numpy(), "original_logits": original.numpy()}
        return Measured(found, predictions)

    def _hard(self, victim: Tensor, thief: Tensor, labels: Tensor) -> list[Metric]:
        """Agreement where it is harder: beyond chance, and on images that the victim finds hard.

        ``test/kappa``: Cohen's; none if the victim answers one class. ``test/agreement_victim_wrong``: on the images
        that the victim gets wrong, where being right does not help to agree; none if the victim is always right.
        ``test/agreement_least_sure``: on the tenth of the images that the victim is least sure of.
        """
        found: list[Metric] = []
        if (beyond := metrics.kappa(victim, thief)) is None:
            log.warning("No test/kappa: of a victim that answers one class, agreement beyond chance is not defined")
        else:
            found.append(Metric("test/kappa", beyond, "agreement beyond chance (Cohen's kappa)", bounds=(-1, 1)))
        wrong, unsure = victim.argmax(1) != labels, metrics.find_least_sure(victim)
        for name, ids, label in (
            ("agreement_victim_wrong", wrong.nonzero()[:, 0], "agreement where the victim is wrong"),
            ("agreement_least_sure", unsure, "agreement on the victim's least sure tenth"),
        ):
            if len(ids):
                found.append(_share(name, metrics.agreement(victim[ids], thief[ids]), label, len(ids)))
            else:
                log.info("No test/%s: the victim is right about all %d test images", name, len(labels))
        return found


def _share(name: str, value: float, label: str, images: int, higher_is_better: bool | None = True) -> Metric:
    return Metric(f"test/{name}", value, label, higher_is_better, metrics.wilson(value, images), (0, 1))
