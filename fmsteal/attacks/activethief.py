"""ActiveThief (Pal et al., AAAI 2020): ask in rounds, each about the images that are most informative to the thief."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from fmsteal.attacks.base import CONVEX_THIEF, ONLY_FITTED, AttackContext, affordable
from fmsteal.attacks.selection import Selection, random, select
from fmsteal.attacks.strategies import Round, Strategy
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Loss
from fmsteal.training.held_out import By, HeldOut, require_choice, require_each_class


@dataclass(frozen=True)
class ActiveThief:
    """Asks about a random seed set, then in rounds about the images a strategy chooses; the whole budget is spent.

    In each round, and once more at the end, a thief is trained from scratch on all answers so far. A random part of the
    answers is held out of the training and decides which epoch's weights are kept. A run resumed after a kill trains no
    thief for a round whose images were already chosen. A convex thief (see `Recipe`) has no epochs: the held-out part
    chooses its penalty, and the thief is then fitted to that part too.

    Attributes:
        selection: chooses the seed set and the held-out images; candidates come in a random order.
        strategy: chooses the images of each round.
        loss: takes the thief's logits and the answers.
        rounds: number of rounds after the seed set; the rest of the budget is divided evenly among them.
        seed_share: share of the budget for the seed set, at least two images: BatchNorm cannot be trained on one.
        validation: share of the budget for the held-out images, paid for like the others; with 0 the last epoch's
            weights are kept.
        patience: stop training after this many measured epochs without a better fit to the held-out part; None: train
            to the end of the recipe. Early stopping goes with a constant learning rate.
        by: measures epochs on the held-out part: ``agreement`` or ``macro_f1`` with the answers' argmax; ``macro_f1``
            needs at least as many held-out images as classes.
        every: measure once in this many epochs.

    Held-out share, epochs and convex thieves are ours; `conf/attack/activethief_code.yaml` follows the authors' code:
    the best epoch by macro-F1, a patience of 20, the whole pool as candidates. In that code 1,000 images of a separate
    set are held out, whatever the budget, and training does not stop early while its loss is above 1.5.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = {**ONLY_FITTED, "patience": CONVEX_THIEF}

    selection: Selection
    strategy: Strategy
    loss: Loss
    rounds: int = 10
    seed_share: float = 0.1
    validation: float = 0.2
    patience: int | None = None
    by: By = "agreement"
    every: int = 1

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 < self.seed_share <= 1:
            raise ConfigError(
                "attack.rounds must be at least 1 and attack.seed_share above 0 and at most 1, not "
                f"{self.rounds} and {self.seed_share}."
            )
        if not 0 <= self.validation < 1 or (self.patience is not None and self.patience < 1):
            raise ConfigError(
                "attack.validation must be at least 0 and below 1, and attack.patience at least 1 or null, not "
                f"{self.validation} and {self.patience}."
            )
        if self.patience is not None and not self.validation:
            raise ConfigError(
                f"attack.patience={self.patience} has no effect without images held out: set attack.validation above "
                "0, or leave attack.patience at null."
            )
        require_choice(self.validation, self.by, self.every)

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget that the pool cannot use up."""
        affordable(budget, pool)

    def schedule(self, queries: int) -> tuple[int, list[int]]:
        """The number of held-out images, and the numbers of images asked about: the seed set, then each round.

        They add up to the budget, and at least two images are left to train on if the budget allows two.

        If the budget does not divide evenly, the first rounds get one image more; if it is too small for all rounds,
        there are fewer.
        """
        held = min(int(queries * self.validation), max(0, queries - 2))
        first = min(max(2, round(queries * self.seed_share)), queries - held)
        each, more = divmod(queries - held - first, self.rounds)
        counts = [each + (number < more) for number in range(self.rounds)]
        return held, [first, *(count for count in counts if count)]

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask in rounds, then fit the last thief to all answers.

        Raises:
            ConfigError: ``by`` is macro-F1, but fewer images are held out than there are classes; before any query.
        """
        held, (first, *further) = self.schedule(oracle.budget.queries)
        if self.by == "macro_f1":
            require_each_class(held, oracle.width, self.validation)
        asked, kept = np.split(select(self.selection, pool, first + held, ctx), [first])
        order = random(len(pool), len(pool), ctx.seed)
        unasked = order[~np.isin(order, [*asked, *kept])]
        answers = oracle.ask(asked)
        held_out = HeldOut(kept, oracle.ask(kept), self.patience, self.by, self.every) if held else None
        for number, count in enumerate(further, start=1):
            stage = f"thief-round-{number}"
            fit = functools.partial(ctx.fit_thief, pool, asked, answers, self.loss, stage, held_out)
            numbers = np.random.default_rng(derive_seed("activethief", number, ctx.seed))
            look = Round(pool, asked, unasked, fit, ctx, numbers, answers, oracle.budget.queries)
            choose = functools.partial(self._chosen, look, count)
            chosen = ctx.kept(f"round-{number}", choose)
            answers = torch.cat([answers, oracle.ask(chosen)])
            asked, unasked = np.concatenate([asked, chosen]), unasked[~np.isin(unasked, chosen)]
        return ctx.fit_thief(pool, asked, answers, self.loss, held_out=held_out)

    def _chosen(self, round: Round, count: int) -> Ids:
        """A round's images; a choice that would waste questions is refused.

        Raises:
            AttackError: the strategy chose another number of images, one image twice, or one already asked about.
        """
        chosen = self.strategy(round, count)
        fresh = int(np.isin(np.unique(chosen), round.unasked).sum())
        if len(chosen) != count or fresh != count:
            raise AttackError(
                f"attack.strategy chose {len(chosen)} images, {fresh} of them different and not asked about yet, where "
                f"{count} were due."
            )
        return chosen
