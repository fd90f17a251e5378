"""GRAD^2, gradient redirection: answers turn a thief's gradient away from a direction (Mazeika et al., ICML 2022).

Given the scores ``g = G z`` of a row's classes (G: the Jacobian of a surrogate's ``log q`` by all its weights), the
answer that minimises ``<G'y, z>`` within an L1 ball moves mass from the classes of highest g to the lowest (the paper's
algorithm 1, here for all rows at once). The scores are one forward-mode derivative; no Jacobian is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, jvp

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import choose_ids
from fmsteal.defenses.base import name_of
from fmsteal.defenses.probabilities import to_distributions
from fmsteal.defenses.surrogate import AT_ONCE, Surrogate, apply_in_parts
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question
from fmsteal.oracle.simulated import cannot_simulate

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

Direction = Mapping[str, Tensor]


class GradientRedirection:
    """Returns ``argmin_y <G'y, z>`` with ``|y - p|_1 <= epsilon``, on the simplex; the label may change.

    As published, z is the mean gradient ``G'p`` of the batch that is answered: ``batch: 64``. Without a ``batch`` it is
    that of 64 training images chosen by the seed, so that an answer depends only on its own image. ``z: ones`` is the
    published variant without data.
    """

    answers: ClassVar[Answers] = "probabilities"

    def __init__(
        self, epsilon: float = 0.5, z: Literal["mean", "ones"] = "mean", batch: int | None = None, seed: int = 0
    ) -> None:
        """``epsilon`` is the largest L1 distance of an answer from p; ``seed`` that of the surrogate and its images."""
        if not epsilon >= 0:
            raise ConfigError(f"defense.epsilon must be 0 or more, not {epsilon}.")
        if batch is not None and batch < 1:
            raise ConfigError(f"defense.batch must be at least 1, or null, not {batch}.")
        self.epsilon, self.z, self.batch, self.seed = epsilon, z, batch, seed

    @property
    def depends(self) -> Depends:
        """The batch if one is set and gives the direction, else the row."""
        return "row" if self.batch is None or self.z == "ones" else "batch"

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Create the surrogate; without a batch, ask the victim about training images."""
        if self.z == "ones":
            return self.simulate(victim.width, self.seed)
        surrogate, name = Surrogate(victim.width, self.seed), name_of(self)
        if self.depends == "batch":
            assert self.batch is not None
            return BatchGuard(surrogate, self.epsilon, name, self.batch)
        ids = choose_ids(len(train), min(AT_ONCE, len(train)), self.seed)
        p = victim.answer(victim.raw(train, ids, ctx))
        return RedirectingGuard(
            surrogate, self.epsilon, name, mean_gradient(surrogate, torch.from_numpy(np.array(train.pixels[ids])), p)
        )

    def simulate(self, width: int, seed: int) -> Guard:
        """The guard of ``z: ones``, with a surrogate of another seed; other directions need the victim's answers.

        Raises:
            ConfigError: the direction is not ``ones``.
        """
        if self.z != "ones":
            raise cannot_simulate(self)
        surrogate = Surrogate(width, seed)
        return RedirectingGuard(surrogate, self.epsilon, name_of(self), ones(surrogate))


class RedirectingGuard:
    """Redirects each row by one fixed direction z."""

    def __init__(self, surrogate: Surrogate, epsilon: float, name: str, direction: Direction) -> None:
        self.width = surrogate.head.out_features
        self._surrogate, self._epsilon, self._name, self._direction = surrogate, epsilon, name, direction

    def reply(self, ask: Ask) -> Reply:
        """The redirected rows."""
        p = to_distributions(ask.answers, self._name)
        if not len(p):
            return Reply(p)
        g = apply_in_parts(lambda images: scores(self._surrogate, images, self._direction), ask.images())
        return Reply(redirect(p, g, self._epsilon).float())

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """There is no state."""


class BatchGuard(RedirectingGuard):
    """Redirects each batch by its own mean gradient."""

    def __init__(self, surrogate: Surrogate, epsilon: float, name: str, batch: int) -> None:
        super().__init__(surrogate, epsilon, name, {})
        self.batch = batch

    def reply(self, ask: Ask) -> Reply:
        """The redirected rows of a batch."""
        self._direction = mean_gradient(
            self._surrogate, ask.images(), to_distributions(ask.answers, self._name).float()
        )
        return super().reply(ask)


def ones(surrogate: Surrogate) -> Direction:
    """The direction in which all weights grow equally."""
    return {name: torch.ones_like(weight) for name, weight in surrogate.named_parameters()}


def mean_gradient(surrogate: Surrogate, images: Tensor, p: Tensor) -> Direction:
    """The mean of ``G'p`` over images, by the surrogate's weight names."""
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in surrogate.named_parameters()}
    fit = (p * functional_call(surrogate, weights, images)).sum(1).mean()
    return dict(zip(weights, torch.autograd.grad(fit, list(weights.values())), strict=True))


def scores(surrogate: Surrogate, images: Tensor, direction: Direction) -> Tensor:
    """``g = G z`` of each image, ``(n, K)``: how ``log q`` changes when the weights move along z."""
    weights = {name: weight.detach() for name, weight in surrogate.named_parameters()}
    moved = jvp(lambda w: functional_call(surrogate, w, images), (weights,), (dict(direction),))
    return moved[1].detach()


def redirect(p: Tensor, g: Tensor, epsilon: float) -> Tensor:
    """The row within epsilon of p with the least ``<y, g>``; p, g and the result are float64 ``(n, K)``."""
    order = g.argsort(dim=1, descending=True, stable=True)
    mass = p.gather(1, order)
    moved = (1 - mass[:, -1:]).clip(min=0, max=epsilon / 2)
    taken = torch.minimum((moved - (mass.cumsum(1) - mass)).clip(min=0), mass)
    left = torch.cat([mass[:, :-1] - taken[:, :-1], mass[:, -1:] + moved], dim=1)
    return torch.empty_like(p).scatter_(1, order, left)
