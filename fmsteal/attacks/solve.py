"""Equation solving (Tramer et al., USENIX Security 2016) for a victim whose trunk is public: grey-box extraction.

As in Zanella-Beguelin et al. (ICML 2021), the victim's trunk is known, and its last layer is solved for.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from fmsteal.attacks.base import ONLY_FITTED, AttackContext, affordable
from fmsteal.attacks.equations import Equations
from fmsteal.attacks.selection import Selection, select
from fmsteal.attacks.solved_head import FEWEST, TRUNCATED, SolvedHead, find_limit, solve_exactly, solve_head, split_rows
from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Classifier, Loss
from fmsteal.training.learners import ClassifierLearner, EncoderLearner

log = logging.getLogger(__name__)
RESIDUAL = "relative residual of held-out equations"


@dataclass(frozen=True)
class Solve:
    """Asks about as many pool images as the budget allows, and solves the answers for the head on the thief's trunk.

    Answers that are found to be rounded, or labels, give no equations: the thief is fitted to them by its recipe, as in
    `Knockoff`. It is also fitted if the answers are truncated and the remaining entries do not determine the head, or
    if a fitted thief agrees with held-out answers more often than the solved head, by more than chance: then the victim
    has another trunk, or its answers are noisy.

    Attributes:
        selection: chooses the images, without replacement.
        loss: takes the logits of a thief that is fitted, and the answers.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = ONLY_FITTED

    selection: Selection
    loss: Loss

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget for more than the pool holds."""
        affordable(budget, pool)

    def check_thief(self, thief: ClassifierLearner | EncoderLearner) -> None:
        """Refuse a thief whose trunk is not frozen: its features are not known before it is trained."""
        require_frozen(thief, "attack=solve solves for the head")

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> Classifier:
        """Ask, then solve."""
        ids = select(self.selection, pool, affordable(oracle.budget, pool), ctx)
        return solve_thief(pool, ids, oracle.ask(ids), self.loss, ctx)


def solve_thief(
    pool: Images, ids: Ids, answers: Tensor, loss: Loss, ctx: AttackContext, trunk: BackboneSpec | None = None
) -> Classifier:
    """A thief on a frozen public trunk (None: the job's) whose head is solved for, or fitted if that is better."""
    why, solved = _solved(pool, ids, answers, loss, ctx, trunk)
    residual = [] if solved is None else [Metric("residual", solved.residual, RESIDUAL, higher_is_better=False)]
    ctx.report([Metric("solved", float(why is None), "head was solved for", higher_is_better=None), *residual])
    if why is None and solved is not None:
        thief = ctx.untrained(answers.shape[1], trunk).model
        solved.head.write(thief.head)
        return thief.eval()
    log.info("The answers are %s: the thief is fitted to them", why)
    return cast("Classifier", ctx.fit_thief(pool, ids, answers, loss, trunk=trunk))


def _solved(
    pool: Images, ids: Ids, answers: Tensor, loss: Loss, ctx: AttackContext, trunk: BackboneSpec | None
) -> tuple[str | None, SolvedHead | None]:
    """The reason to fit the thief instead, None if there is none; and the solved head, if there is one."""
    if len(ids) < FEWEST:
        return f"fewer than {FEWEST}", None
    why = find_limit(answers)
    if why not in (None, TRUNCATED):
        return why, None
    features = ctx.public_features(pool, ids, trunk)
    if why is not None:
        whole = solve_exactly(features, Equations.of(answers), ctx.seed)
        return (why, None) if whole is None else (None, whole)
    solved = solve_head(features, answers, ctx.seed)
    if solved.exact or not _fitted_is_better(solved, features, pool, ids, answers, loss, ctx, trunk):
        return None, solved
    return "solved for less well than fitted (another trunk's, or noisy)", solved


def require_frozen(thief: ClassifierLearner | EncoderLearner, what: str) -> None:
    """Check that a thief is a head on a frozen public trunk.

    Raises:
        ConfigError: the thief's trunk is trained.
    """
    if thief.adaptation != "probe":
        raise ConfigError(
            f"{what} of a frozen public trunk, but thief.adaptation={thief.adaptation} trains the trunk. Choose "
            "thief.adaptation=probe (a thief as efficientnet_lite0), or attack=solve_hybrid."
        )


def _fitted_is_better(
    solved: SolvedHead,
    features: Tensor,
    pool: Images,
    ids: Ids,
    answers: Tensor,
    loss: Loss,
    ctx: AttackContext,
    trunk: BackboneSpec | None,
) -> bool:
    """Whether a fitted head agrees with held-out answers more often than the solved one, by over a standard error."""
    train, held = split_rows(len(ids), ctx.seed)
    fitted = ctx.fit_thief(pool, ids[train], answers[train], loss, "thief-compared", trunk=trunk)
    due = answers[held].argmax(1)
    theirs = ctx.logits(fitted, pool, ids[held]).argmax(1) == due
    ours = solved.part(features[torch.from_numpy(held)]).argmax(1) == due
    return is_better(theirs, ours)


def is_better(first: Tensor, second: Tensor) -> bool:
    """Whether the first of two hit sets on the same images ``(n,)`` is larger by over a standard error (McNemar)."""
    more, less = int((first & ~second).sum()), int((second & ~first).sum())
    return more - less > np.sqrt(more + less)
