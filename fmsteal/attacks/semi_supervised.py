"""The common base of semi-supervised attacks, which also train on images that were never asked about."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fmsteal.attacks.base import FITTED_TO_ANSWERS, AttackContext, affordable
from fmsteal.attacks.selection import Selection, select
from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.config.answers import Answers
from fmsteal.data.augment import apply_augment
from fmsteal.data.beside import Beside
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.held_out import HeldOut
from fmsteal.training.learners import Untrained
from fmsteal.training.recipe import Recipe, StealModule


@dataclass(frozen=True)
class TransferSet:
    """The pool images asked about: ``ids`` with their ``answers (n, C)``, and the part held out of the training."""

    pool: Images
    ids: Ids
    answers: Tensor
    held_out: HeldOut | None


@dataclass(frozen=True, kw_only=True)
class SemiSupervised:
    """Asks as `Knockoff` does, then trains on the answers and on further pool images, about which it asks nothing.

    This loss is not convex, so the thief takes the steps of its recipe even if that is convex for other attacks. The
    recipe counts its epochs in passes over the labelled images, and its augmentation makes the views of both kinds of
    images. A probe's trunk is run once for each image, or view; the rest works on its features. The thief that is
    returned has the moving average of the trained weights (`AveragedModule`).

    Attributes:
        selection: chooses the images to ask about, without replacement.
        unlabelled: number of unlabelled images, chosen at random; None for all that are left in the pool.
        ratio: unlabelled images per labelled image in a step.
        validation: share of the budget held out to choose the best epoch; with 0 the last epoch's weights are kept.
        ema: decay of the moving average; 0 for no averaging.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = FITTED_TO_ANSWERS

    selection: Selection
    unlabelled: int | None = None
    ratio: int = 1
    validation: float = 0.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        if self.ratio < 1 or (self.unlabelled is not None and self.unlabelled < 1):
            raise ConfigError(
                "attack.ratio must be at least 1, and attack.unlabelled at least 1 or null for all that are left, not "
                f"{self.ratio} and {self.unlabelled}."
            )
        if not 0 <= self.validation < 1 or not 0 <= self.ema < 1:
            raise ConfigError(
                "attack.validation and attack.ema must be at least 0 and below 1, not "
                f"{self.validation} and {self.ema}."
            )

    @property
    def each(self) -> int:
        """Views of an unlabelled image in a step."""
        return 1

    def module(self, start: Untrained, recipe: Recipe, transfer: TransferSet, ctx: AttackContext) -> StealModule:
        """The method: trains ``start.net`` on batches ``(inputs, answers, others)``, see `Beside`."""
        raise NotImplementedError

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget that leaves too little of the pool.

        Raises:
            ConfigError: the budget is for more images than the pool holds, or leaves too few unlabelled ones.
        """
        left, wanted = len(pool) - affordable(budget, pool), self.unlabelled or 1
        if left < wanted:
            raise ConfigError(
                f"This attack trains on images that it does not ask about, {wanted} at least, but a budget of "
                f"{budget.queries} queries leaves {left} of the query set's {len(pool)}. Choose a smaller budget "
                "(budget=...), a larger query set (query=..., query.count=N) or fewer of them (attack.unlabelled=N)."
            )

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, then train on the answered images and on those not asked about."""
        start = ctx.untrained(oracle.width)  # refuses a thief that is not a classifier, before any query is paid
        queries = oracle.budget.queries
        asked = select(self.selection, pool, queries, ctx)
        ids, kept = np.split(asked, [queries - self.count_held_out(queries)])
        answers = oracle.ask(ids)
        transfer = TransferSet(pool, ids, answers, HeldOut(kept, oracle.ask(kept)) if len(kept) else None)
        others = start.inputs(pool, self.rest(len(pool), asked, ctx.seed))
        beside = partial(Beside, others=others, ratio=self.ratio, each=self.each)
        loader = start.loader(pool, ids, answers, beside)
        module = self.module(start, start.recipe.for_steps(len(loader)), transfer, ctx)
        ctx.train(module, loader, callbacks=start.choosing(pool, transfer.held_out))
        start.net.requires_grad_(True)
        return start.model.cpu().eval()

    def count_held_out(self, queries: int) -> int:
        """The number of held-out images; at least two are left to train on if the budget allows two."""
        return min(int(queries * self.validation), max(0, queries - 2))

    def rest(self, count: int, asked: Ids, seed: int) -> Ids:
        """The ids, of ``count`` images, that are trained on without an answer, in ascending order."""
        left = np.setdiff1d(np.arange(count), asked)
        random = np.random.default_rng(derive_seed("unlabelled", seed))
        return left if self.unlabelled is None else np.sort(random.permutation(left)[: self.unlabelled])


class AveragedModule(StealModule):
    """Trains a copy of the network, ``student``; ``net`` is the moving average of its weights, kept in eval mode.

    After step t the average moves by ``1 - min(ema, (1 + t) / (10 + t))`` of the way to the student, as TensorFlow's
    average does when given the step: with a fixed decay, short trainings would keep much of their initialisation.
    BatchNorm's statistics are averaged like weights.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, seed: int, ema: float) -> None:
        super().__init__(net, recipe, seed)
        self.student = copy.deepcopy(net)
        self.net.requires_grad_(False)
        self.ema = ema
        self.augment = recipe.augment

    def setup(self, stage: str) -> None:
        """Compile both networks, if compiling is on."""
        super().setup(stage)
        if self.compiled:
            self.student.compile()

    def on_train_epoch_start(self) -> None:
        """Put all parts but the student into eval mode: measuring between epochs leaves the average in train mode."""
        super().on_train_epoch_start()
        for part in self.children():
            part.train(part is self.student)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Update the average after a step."""
        self.follow(self.trainer.global_step)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the average after step ``step``, counted from 1."""
        pairs = list(zip(self.net.state_dict().values(), self.student.state_dict().values(), strict=True))
        numbers = [(mean, new) for mean, new in pairs if mean.is_floating_point()]
        move = get_ema_multi_avg_fn(min(self.ema, (1 + step) / (10 + step)))
        move([mean for mean, _ in numbers], [new for _, new in numbers], step)
        for mean, new in pairs:
            if not mean.is_floating_point():
                mean.copy_(new)

    def show(self, inputs: Tensor) -> Tensor:
        """Views of a batch of images, float in [0, 1]; features are returned as they are."""
        return apply_augment(self.augment, inputs) if inputs.ndim == 4 else inputs
