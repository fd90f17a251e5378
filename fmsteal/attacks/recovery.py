"""What attackers have in common that know the API's defense and undo it before they train a thief."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import ONLY_FITTED, AttackContext, affordable
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.attacks.losses import hard_cross_entropy
from fmsteal.attacks.prior import draw_rows
from fmsteal.attacks.simulation import Simulation
from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.oracle.simulated import KnownDefense, simulate
from fmsteal.training.held_out import HeldOut

Prior = Literal["shadow", "answers", "flat"]
FLOOR = 0.05  # added to each Dirichlet parameter: a class that an answer leaves out may still have a probability
SHADOWS = 2  # each is fitted without one part of the answers, and predicts that part


@dataclass(frozen=True, kw_only=True)
class Recovery(Knockoff):
    """As `Knockoff`, on recovered answers: a method defines how (`recover`).

    The attacker carries out the defense itself on made-up clean rows, and learns from the pairs which clean row an
    answer may stand for. It knows the defense's class and options, and neither its secrets nor a single clean answer.
    Where the defense changes nothing, nothing is recovered, and the attack is `Knockoff`.

    Attributes:
        defense: what the attacker takes the API's defense to be; by config the one that it has.
        prior: where the made-up rows lie. ``shadow``: around the predictions of `SHADOWS` first thieves, fitted to the
            labels of the answers, for the images that each was not fitted to. ``answers``: around the defended answers
            themselves. ``flat``: anywhere, a Dirichlet distribution with all parameters ``1 / K``.
        rows: number of made-up rows, spread evenly over the images that were asked about.
        concentration: the larger, the nearer they lie: a Dirichlet distribution's parameters sum to about K times it.
    """

    ignores: ClassVar[Ignores] = {**ONLY_FITTED, "concentration": {"prior": "flat"}}

    defense: KnownDefense
    prior: Prior = "shadow"
    rows: int = 100_000
    concentration: float = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 2 or not 0 < self.concentration < float("inf"):
            raise ConfigError(
                "attack.rows must be at least 2, and attack.concentration above 0 and finite, not "
                f"{self.rows} and {self.concentration}."
            )
        simulate(self.defense, 2, 0)  # refuses one that cannot be simulated before anything is trained

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse also fewer rows than images, and too few images to train shadows on.

        Raises:
            ConfigError: the budget does not fit the pool or the attack's options.
        """
        super().check(budget, pool)
        count = affordable(budget, pool)
        if self.rows < count:
            raise ConfigError(
                f"attack.rows={self.rows} is fewer than the {count} images that are asked about, and each has its "
                "own rows. Choose more rows, or a smaller budget (budget=...)."
            )
        if self.prior == "shadow" and count < 2 * SHADOWS:
            raise ConfigError(
                f"The budget is {budget.queries} queries, but attack.prior=shadow trains {SHADOWS} first thieves, each "
                f"on a part of at least {2 * SHADOWS} images. Choose a larger budget (budget=...), or another "
                "attack.prior (answers, flat)."
            )

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, recover the answers, then fit a thief to them.

        Raises:
            ConfigError: the defense changes the width of answers, or too few images are held out; before any query.
            DefenseError: the defense fails on made-up rows; before any query.
        """
        asked, kept = self.choose(oracle, pool, ctx)
        copy = Simulation(self.defense, oracle.width, pool, ctx.seed)
        idle = copy.changes_nothing(oracle.width)
        ids = np.concatenate([asked, kept])
        answers = oracle.ask(ids)
        found = answers if idle else self.recover(answers, ids, pool, copy, ctx)
        moved = float((found - answers).abs().sum(1).mean())
        ctx.report([Metric("moved", moved, "mean L1 distance of a recovered answer from the API's", None)])
        if not len(kept):
            return ctx.fit_thief(pool, ids, found, self.loss)
        held_out = HeldOut(kept, found[len(asked) :], None, self.by, self.every)
        return ctx.fit_thief(pool, asked, found[: len(asked)], self.loss, held_out=held_out)

    def recover(self, answers: Tensor, ids: Ids, pool: Images, copy: Simulation, ctx: AttackContext) -> Tensor:
        """The rows to learn from, float32 ``(n, K)``, for the API's ``answers`` about the pool images ``ids``."""
        raise NotImplementedError

    def make_pairs(
        self, answers: Tensor, ids: Ids, pool: Images, copy: Simulation, ctx: AttackContext
    ) -> tuple[Tensor, Tensor]:
        """Made-up clean rows, and what the defense makes of them: float32 ``(rows, K)`` both."""
        seed, classes = derive_seed("prior", ctx.seed), answers.shape[1]
        if self.prior == "flat":
            clean, of = draw_rows(torch.zeros_like(answers), self.rows, 1 / classes, 0.0, seed)
        else:
            centres = answers if self.prior == "answers" else predict_by_shadows(answers, ids, pool, ctx)
            clean, of = draw_rows(centres, self.rows, self.concentration, FLOOR, seed)
        return clean, copy.answer(clean, ids[of])


def predict_by_shadows(answers: Tensor, ids: Ids, pool: Images, ctx: AttackContext) -> Tensor:
    """Probabilities ``(n, K)`` for images by first thieves that were fitted to the labels of the others' answers."""
    found = torch.empty_like(answers)
    for number in range(SHADOWS):
        part = np.arange(len(ids)) % SHADOWS == number
        rest, own = torch.from_numpy(~part), torch.from_numpy(part)
        shadow = ctx.fit_thief(pool, ids[~part], answers[rest], hard_cross_entropy, stage=f"thief-shadow-{number}")
        found[own] = ctx.logits(shadow, pool, ids[part]).softmax(dim=1)
    return found
