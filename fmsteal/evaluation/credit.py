"""Whose answers was the suspect trained on? CREDIT's verification for encoders (Shen et al., 2026, arXiv 2602.20419).

Information: how much the suspect's embeddings of test images tell of what the API answers to them, noise included, by
nearest neighbours, less what they tell when images are exchanged. Any two encoders of the same images tell of each
other: the same is said of a control that has seen no answer (the thief before the attack, or another pretrained trunk),
and of the victim, which no suspect can exceed by much. ``excess`` is the thief's less the control's.

Shift: how far the thief's embeddings lie in the API's secret direction, in units of the API's shift: about 1 for one
that was trained on shifted answers and learnt all of it. Its p is of directions that nobody used: the share of random
ones in which the thief's mean error lies as far.

What differs from the published code: that mixes both algorithms of its estimator, a bias of 1 / k that its permutation
removes again; it takes all dimensions (``dimensions: null``), where the estimate only ranks; and it passes the result
through a softplus. Its threshold compares distances of normalised embeddings with noise on others, and is left out: the
control says what is usual. Its score does not see the shift, which standardising removes; the second test is ours.
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
from fmsteal.evaluation.control import CONTROL, build_control, embed_all
from fmsteal.evaluation.mutual_information import estimate_excess, standardise
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.training.context import Context
from fmsteal.victims.base import VictimMaker


@dataclass(frozen=True)
class CreditVerification(Measurement):
    """Estimates what thief and control tell of the API's answers, and looks for the API's shift in the thief.

    Attributes:
        sigma: of `defense=credit` in front of the API: its noise, and the length of its shift.
        direction: the seed of its shift (``defense.seed``).
        images: how many test images, at most; memory for that many squared.
        neighbours: k of the estimator.
        dimensions: principal components of each embedding that are compared; None for all numbers, as published.
        permutations: of the images, for what chance gives.
        control: a pretrained trunk to compare with; None for what the thief started from.
        seed: of the noise and the permutations.
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
        """See that the control's weights are there."""
        if self.control is not None:
            self.control.require_buildable()
            self.control.require_weights()

    def check_task(self, task: Task) -> None:
        """Refuse a task that is too small.

        Raises:
            DataError: it has no more test images than neighbours.
        """
        if len(task.test) <= self.neighbours:
            raise DataError(
                f"CREDIT's verification looks at the {self.neighbours} nearest of the test images, but there are "
                f"{len(task.test)} in all: more images (data=...), or fewer neighbours "
                "(evaluation.also.credit.neighbours=...)."
            )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """``credit/{victim,thief,control}/information`` in nats, ``credit/excess``, ``credit/thief/{shift,shift_p}``.

        The last two only where the thief's numbers stand for the victim's.

        Raises:
            DataError: there are too few images.
            AttackError: embeddings of victim or thief that cannot be judged.
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
    """How far a thief's rows lie from the victim's, both ``(n, D)``, in the secret direction; and the test's p.

    The cosine c of the mean error with a direction that nobody used has ``c sqrt((D - 1) / (1 - c^2))`` distributed as
    Student's t with D - 1 degrees of freedom.
    """
    from scipy.stats import t

    error, secret = (thief.double() - victim.double()).mean(0), draw_direction(victim.shape[1], direction)
    along, length, free = float(error @ secret), float(error.norm()), len(secret) - 1
    cosine = along / length if length > 0 else 0.0
    score = cosine * (free / max(1 - cosine**2, 1e-300)) ** 0.5
    return along / sigma, float(t.sf(score, free)) if free else 0.5
