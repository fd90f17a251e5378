"""Was the suspect made from the owner's training data? Dataset inference for encoders (Dziedzic et al., NeurIPS 2022).

A mixture of 20 Gaussians with diagonal covariances is fitted to the suspect's normalised embeddings of one half of the
owner's training images. If the log-likelihood of the other half is larger than that of test images, by a one-sided
t-test, the suspect knows the training data: it is the victim, or stolen from it.

A difference alone says little, since training and test images may differ for other reasons. So the same is measured
for the victim, where it must hold, and for a control that has seen none of the victim's answers: the thief before the
attack, or another pretrained trunk. ``excess`` is the thief's effect minus the control's.

The published code halves the p of a two-sided test, which equals the one-sided p only if the difference is positive;
here p is one-sided. The published code embeds random crops of the images, here the images themselves are embedded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.metric import Metric
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Task
from fmsteal.evaluation.base import Measured, Measurement, Pair, sample
from fmsteal.evaluation.control import CONTROL, WHO, build_control, embed_all, require_control
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.context import Context
from fmsteal.victims.base import VictimMaker

FIT_STEPS = 1000  # maximum number, for the mixture


@dataclass(frozen=True)
class DatasetInference(Measurement):
    """Fits a mixture to one half of the training images, and tests the other half against the test images.

    Attributes:
        images: maximum number of images in each half, and of test images.
        components: number of Gaussians in the mixture.
        control: a pretrained trunk to compare with; None for what the thief started from.
        seed: seed of the halves and of the mixture's start.
    """

    answers: ClassVar[Answers] = "embeddings"

    images: int = 5000
    components: int = 20
    control: BackboneSpec | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.components < 1 or self.images < max(2, self.components):
            raise ConfigError(
                "evaluation.also.dataset_inference.components must be at least 1, and .images at least 2 and as many "
                f"as components, not {self.components} and {self.images}."
            )

    def check_victim(self, victim: VictimMaker) -> None:
        """Check that the control's weights are there."""
        require_control(self.control)

    def check_task(self, task: Task) -> None:
        """Refuse a task that is too small.

        Raises:
            DataError: too few training images in a half for the mixture, or fewer than 2 test images.
        """
        least = 2 * max(2, self.components)
        if len(task.train) < least or len(task.test) < 2:
            raise DataError(
                f"Dataset inference needs at least {least} training and 2 test images, not {len(task.train)} and "
                f"{len(task.test)}: more images (data=...), or a smaller mixture "
                "(evaluation.also.dataset_inference.components=...)."
            )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """``dataset_inference/<who>/{difference,effect,p}`` for ``victim``, ``thief``, ``control``; and ``excess``.

        ``difference``: mean log-likelihood of the other half minus that of test images, in nats, with its 95 %
        interval; ``effect``: the same in units of the pooled standard deviation; ``p``: of the one-sided t-test.
        ``dataset_inference/excess``: the thief's effect minus the control's.

        Raises:
            DataError: there are too few images.
            AttackError: embeddings of victim or thief have the wrong shape, are not finite, or are all the same.
        """
        self.check_task(pair.task)
        control = build_control(pair, self.control)
        train = embed_all(pair, control, pair.task.train, np.concatenate(self.halves(pair.task)), ctx)
        test = embed_all(pair, control, pair.task.test, sample(pair.task.test, self.images), ctx)
        found = {}
        for number, who in enumerate(WHO):
            known, other = train[who].chunk(2)
            found[who] = infer_membership(known, other, test[who], self.components, self.seed)
            ctx.progress.update("dataset inference", number + 1, len(WHO))
        metrics = [metric for who, each in found.items() for metric in _describe(who, each)]
        excess = found["thief"].effect - found[CONTROL].effect
        return Measured(
            [*metrics, Metric("dataset_inference/excess", excess, "dataset inference, thief above control")]
        )

    def halves(self, task: Task) -> tuple[Ids, Ids]:
        """Ids of training images: one half for the mixture, and the same number for the test."""
        count = min(self.images, len(task.train) // 2)
        order = np.random.default_rng(self.seed).permutation(len(task.train))
        return order[:count], order[count : 2 * count]


class Membership(NamedTuple):
    """Whether a mixture fitted to training images fits other training images better than test images (see `run`)."""

    difference: float
    interval: tuple[float, float]
    effect: float
    p: float


def infer_membership(known: Tensor, other: Tensor, test: Tensor, components: int, seed: int) -> Membership:
    """Fit a mixture to embeddings ``known`` and test ``other`` against ``test``; all ``(n, D)`` and normalised here."""
    from scipy.stats import ttest_ind
    from sklearn.mixture import GaussianMixture

    rows = [F.normalize(part.double(), dim=1).numpy() for part in (known, other, test)]
    mixture = GaussianMixture(components, covariance_type="diag", max_iter=FIT_STEPS, random_state=seed).fit(rows[0])
    likely, less = (mixture.score_samples(part) for part in rows[1:])
    test_of = ttest_ind(likely, less)
    n, m = len(likely), len(less)
    spread = np.sqrt(((n - 1) * likely.var(ddof=1) + (m - 1) * less.var(ddof=1)) / (n + m - 2))
    difference, (low, high) = float(likely.mean() - less.mean()), test_of.confidence_interval()
    p = float(ttest_ind(likely, less, alternative="greater").pvalue)
    return Membership(difference, (float(low), float(high)), difference / max(float(spread), 1e-12), p)


def _describe(who: str, found: Membership) -> list[Metric]:
    place, said = f"dataset_inference/{who}", f"dataset inference, {who}"
    more, less = (True, False) if who == "thief" else (None, None)
    return [
        Metric(f"{place}/difference", found.difference, f"{said}: log-likelihood (nats)", more, found.interval),
        Metric(f"{place}/effect", found.effect, f"{said}: effect", more),
        Metric(f"{place}/p", found.p, f"{said}: p", less, bounds=(0, 1)),
    ]
