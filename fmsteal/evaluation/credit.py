"""Whose answers was the suspect trained on? CREDIT's verification for encoders (Shen et al., 2026, arXiv 2602.20419).

Information: the mutual information between the suspect's embeddings of test images and the API's answers to them
(noise included), estimated by nearest neighbours, minus its value when images are permuted. Any two encoders share
information about the same images, so the same is measured for a control that has seen no answer (the thief before the
attack, or another pretrained trunk), and for the victim, which no suspect can exceed by much. ``excess`` is the thief's
minus the control's.

Shift: how far the thief's embeddings are moved in the API's secret direction, in units of the API's shift: about 1 for
a thief that was trained on shifted answers and learnt the whole shift. Its p refers to directions that nobody used: the
share of random ones in which the thief's mean error lies as far.

Differences from the published code: that code mixes both algorithms of its estimator, a bias of 1 / k which its
permutation removes again; it uses all dimensions (``dimensions: null``), where the estimate is only a ranking; and it
passes the result through a softplus. Its threshold compares distances of normalised embeddings with noise on others; it
is left out, and the control shows what is usual. Its score does not see the shift, which standardising removes; the
second test is our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fmsteal.base.directions import draw_direction
from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.metric import Metric
from fmsteal.base.seeds import derive_seed
from fmsteal.config.answers import Answers
from fmsteal.data.images import Task
from fmsteal.evaluation.base import Measured, Measurement, Pair, sample
from fmsteal.evaluation.control import CONTROL, build_control, embed_all, require_control
from fmsteal.evaluation.mutual_information import estimate_excess, standardise
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.context import Context
from fmsteal.victims.base import VictimMaker


@dataclass(frozen=True)
class CreditVerification(Measurement):
    """Estimates how much thief and control reveal about the API's answers, and looks for the API's shift in the thief.

    Attributes:
        sigma: ``sigma`` of the API's `defense=credit`: its noise and the length of its shift.
        direction: the seed of the shift (``defense.seed``).
        images: maximum number of test images; memory grows with its square.
        neighbours: k of the estimator.
        dimensions: number of principal components of each embedding to compare; None for all numbers, as published.
        permutations: number of permutations of the images, which estimate the chance level.
        control: a pretrained trunk to compare with; None for what the thief started from.
        seed: seed of the noise and the permutations.
    """

    answers: ClassVar[Answers] = "embeddings"

    sigma: float = 0.1
    direction: int = 0
    images: int = 1000
    neighbours: int = 5
    dimensions: int | None = 8
    permutations: int = 10
    control: BackboneSpec | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.sigma < float("inf"):
            raise ConfigError(f"evaluation.also.credit.sigma must be above 0, and finite, not {self.sigma}.")
        if self.images <= self.neighbours:
            raise ConfigError(
                f"evaluation.also.credit.images must be more than the {self.neighbours} neighbours, not {self.images}."
            )
        for name in ("neighbours", "permutations", "dimensions"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"evaluation.also.credit.{name} must be at least 1, not {value}.")

    def check_victim(self, victim: VictimMaker) -> None:
        """Check that the control's weights are there."""
        require_control(self.control)

    def check_task(self, task: Task) -> None:
        """Refuse a task that is too small.

        Raises:
            DataError: there are not more test images than neighbours.
        """
        if len(task.test) <= self.neighbours:
            raise DataError(
                f"CREDIT's verification looks at the {self.neighbours} nearest of the test images, but there are "
                f"{len(task.test)} in all: more images (data=...), or fewer neighbours "
                "(evaluation.also.credit.neighbours=...)."
            )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """``credit/{victim,thief,control}/information`` in nats, ``credit/excess``, ``credit/thief/{shift,shift_p}``.

        The last two only if the thief's numbers mean what the victim's mean.

        Raises:
            DataError: there are too few images.
            AttackError: embeddings of victim or thief have the wrong shape, are not finite, or are all the same.
        """
        self.check_task(pair.task)
        ids = sample(pair.task.test, self.images)
        rows = embed_all(pair, build_control(pair, self.control), pair.task.test, ids, ctx)
        answers = standardise(self.answer(rows["victim"]).numpy(), self.dimensions)
        found = {}
        for number, (who, each) in enumerate(rows.items()):
            compared = standardise(each.double().numpy(), self.dimensions)
            found[who] = estimate_excess(answers, compared, self.neighbours, self.permutations, self.seed)
            ctx.progress.update("credit", number + 1, len(rows))
        metrics = [
            Metric(f"credit/{who}/information", nats, f"information on the API, {who} (nats)", who == "thief" or None)
            for who, nats in found.items()
        ]
        excess = found["thief"] - found[CONTROL]
        metrics.append(Metric("credit/excess", excess, "information on the API, thief above control (nats)"))
        if pair.comparable:
            shift, p = find_shift(rows["victim"], rows["thief"], self.sigma, self.direction)
            metrics += [
                Metric("credit/thief/shift", shift, "the API's shift in the thief"),
                Metric("credit/thief/shift_p", p, "the API's shift in the thief: p", False, bounds=(0, 1)),
            ]
        return Measured(metrics)

    def answer(self, rows: Tensor) -> Tensor:
        """What `defense=credit` answers for the victim's embeddings, float64 ``(n, D)``."""
        random = torch.Generator().manual_seed(derive_seed("credit", self.seed))
        noise = torch.randn(rows.shape, generator=random, dtype=torch.float64) + draw_direction(
            rows.shape[1], self.direction
        )
        return rows.double() + self.sigma * noise


def find_shift(victim: Tensor, thief: Tensor, sigma: float, direction: int) -> tuple[float, float]:
    """How far a thief's rows ``(n, D)`` are moved from the victim's in the secret direction; and the test's p.

    For the cosine c of the mean error with a direction that nobody used, ``c sqrt((D - 1) / (1 - c^2))`` follows
    Student's t distribution with D - 1 degrees of freedom.
    """
    from scipy.stats import t

    error, secret = (thief.double() - victim.double()).mean(0), draw_direction(victim.shape[1], direction)
    along, length, free = float(error @ secret), float(error.norm()), len(secret) - 1
    cosine = along / length if length > 0 else 0.0
    score = cosine * (free / max(1 - cosine**2, 1e-300)) ** 0.5
    return along / sigma, float(t.sf(score, free)) if free else 0.5
