"""How ActiveThief chooses a round's questions: by the outputs of the last round's thief on the pool."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.deepfool import distances, distances_of_code
from fmsteal.attacks.kcenter import pick_farthest_first
from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import mark_answers
from fmsteal.data.images import Ids, Images

Form = Literal["paper", "code"]


@dataclass(frozen=True)
class Round:
    """What a strategy may look at.

    Attributes:
        pool: the query set.
        asked: ids of the images that the thief is trained on.
        unasked: ids of the images never asked about, in a random order.
        fit: trains the thief; only called if the strategy looks at the thief.
        ctx: the attack's context.
        random: this round's own random numbers.
        answers: the answers to the images in ``asked``, ``(n, C)``.
        budget: number of questions of the whole attack.
    """

    pool: Images
    asked: Ids
    unasked: Ids
    fit: Callable[[], nn.Module]
    ctx: AttackContext
    random: np.random.Generator
    answers: Tensor | None = None
    budget: int = 0

    @functools.cached_property
    def thief(self) -> nn.Module:
        """The thief, trained on all answers so far."""
        return self.fit()

    def probabilities(self, ids: Ids) -> Tensor:
        """The thief's softmax rows ``(n, C)`` for pool images."""
        return self.ctx.logits(self.thief, self.pool, ids).softmax(dim=1)

    def to_boundary(self, ids: Ids, steps: int, classes: int | None, form: Form = "paper") -> Tensor:
        """The distance of pool images from where the thief's label changes ``(n,)``, by DeepFool or ActiveThief's code.

        See `deepfool.distances` and `deepfool.distances_of_code`.
        """
        if form not in get_args(Form):
            raise ConfigError(f"attack.strategy.form must be one of {', '.join(get_args(Form))}, not {form}.")
        measure = functools.partial(distances if form == "paper" else distances_of_code, steps=steps, classes=classes)
        return self.ctx.per_image(self.thief, self.pool, ids, measure)

    def candidates(self, most: int | None, count: int) -> Ids:
        """At most ``most`` (None: all) of the unasked images at random, but at least ``count``."""
        if most is None or max(most, count) >= len(self.unasked):
            return self.unasked
        return self.random.permutation(self.unasked)[: max(most, count)]


class Strategy(Protocol):
    """Chooses the images to ask about next."""

    def __call__(self, round: Round, count: int) -> Ids:
        """``count`` distinct ids of unasked images."""
        ...


@mark_answers("probabilities")
def by_chance(round: Round, count: int) -> Ids:
    """Uniformly at random: the baseline for the other strategies."""
    return round.unasked[:count]


@mark_answers("probabilities")
def by_entropy(round: Round, count: int, candidates: int | None = None) -> Ids:
    """Where the thief's entropy is highest (the paper's uncertainty strategy)."""
    ids = round.candidates(candidates, count)
    return pick_lowest(ids, -entropy(round.probabilities(ids)), count)


@mark_answers("probabilities")
def by_margin(round: Round, count: int, candidates: int | None = None) -> Ids:
    """Where the thief's two likeliest classes are closest."""
    ids = round.candidates(candidates, count)
    return pick_lowest(ids, margin(round.probabilities(ids)), count)


@mark_answers("probabilities")
def by_kcenter(round: Round, count: int, candidates: int | None = None) -> Ids:
    """Greedy k-center on the thief's softmax rows; the images already asked about are the first centres."""
    ids = round.candidates(candidates, count)
    return ids[pick_farthest_first(round.probabilities(ids), round.probabilities(round.asked), count)]


@mark_answers("probabilities")
def by_dfal(
    round: Round,
    count: int,
    candidates: int | None = 10_000,
    steps: int = 20,
    classes: int | None = 10,
    form: Form = "paper",
) -> Ids:
    """Where DeepFool needs the smallest perturbation of the image to change the thief's label (DeepFool-based Active
    Learning, Ducoffe & Precioso 2018).

    Args:
        round: what the strategy may look at.
        count: number of images to choose.
        candidates: DeepFool is run on at most this many random unasked images (None: all), but on at least ``count``.
        steps: maximum number of DeepFool steps.
        classes: number of likeliest classes, per image, whose boundaries DeepFool considers (None: all).
        form: ``paper``: DeepFool on logits, until the label changes; ``code``: on the softmax, all steps, as
            ActiveThief's code runs it (`deepfool.distances_of_code`).
    """
    ids = round.candidates(candidates, count)
    return pick_lowest(ids, round.to_boundary(ids, steps, classes, form), count)


@mark_answers("probabilities")
def by_dfal_kcenter(
    round: Round,
    count: int,
    factor: int | None = 5,
    candidates: int | None = 10_000,
    steps: int = 20,
    classes: int | None = 10,
    form: Form = "paper",
) -> Ids:
    """Greedy k-center on the ``factor * count`` images that DFAL ranks first; other arguments as in `by_dfal`.

    With ``factor`` None the shortlist is as long as the attack's whole budget, as in ActiveThief's code. It is never
    longer than the list of candidates.
    """
    ids = round.candidates(candidates, count)
    length = max(round.budget, count) if factor is None else max(factor, 1) * count
    shortlist = pick_lowest(ids, round.to_boundary(ids, steps, classes, form), length)
    return shortlist[pick_farthest_first(round.probabilities(shortlist), round.probabilities(round.asked), count)]


def entropy(probabilities: Tensor) -> Tensor:
    """``-sum_k p_k log p_k`` of each row, in nats; 0 log 0 = 0."""
    return torch.special.entr(probabilities).sum(dim=1)


def margin(probabilities: Tensor) -> Tensor:
    """The largest minus the second largest number of each row."""
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    return first - second


def pick_lowest(ids: Ids, scores: Tensor, count: int) -> Ids:
    """The ``count`` ids with the lowest scores, lowest first; ties go to the first."""
    return ids[scores.argsort(stable=True)[:count].numpy()]
