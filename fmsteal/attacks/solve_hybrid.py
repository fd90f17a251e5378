"""For fine-tuned victims: train a trunk on the answers, then solve for the head (Zanella-Beguelin et al., 2021)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from fmsteal.attacks.base import FITTED_TO_ANSWERS, AttackContext, affordable
from fmsteal.attacks.equations import EquationHead, Equations
from fmsteal.attacks.selection import Selection, select
from fmsteal.attacks.solved_head import FEWEST, choose_penalty, find_limit, solve_with, split_rows
from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Classifier, Loss
from fmsteal.training.learners import ClassifierLearner, EncoderLearner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SolveHybrid:
    """Trains a whole thief on the answers, then corrects its head by solving on the features that it has learned.

    The penalty is on the distance from the trained head, so a large penalty keeps that head. It is chosen on a fifth of
    the answers, which a first thief was not trained on: on its own training images a trunk's features look better than
    they are. The thief that is returned is trained on all answers. Its head is solved for if the first thief's solved
    head agreed with the held-out answers more often than its trained head did. This takes two trainings.

    Attributes:
        selection: chooses the images, without replacement.
        loss: takes the thief's logits and the answers.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = FITTED_TO_ANSWERS

    selection: Selection
    loss: Loss

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget for more than the pool holds."""
        affordable(budget, pool)

    def check_thief(self, thief: ClassifierLearner | EncoderLearner) -> None:
        """Refuse a thief with a frozen trunk: `attack=solve` is for those."""
        if thief.adaptation == "probe":
            raise ConfigError(
                "attack=solve_hybrid trains the trunk before it solves for the head, but thief.adaptation=probe keeps "
                "it frozen. Choose attack=solve, or thief.adaptation=full (a thief as efficientnet_lite0_full)."
            )

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, train, then solve."""
        ids = select(self.selection, pool, affordable(oracle.budget, pool), ctx)
        answers = oracle.ask(ids)
        why = find_limit(answers) if len(ids) >= FEWEST else f"fewer than {FEWEST}"
        penalty = self._penalty(pool, ids, answers, ctx) if why is None else None
        if why is not None:
            log.info("The answers are %s: the thief is fitted to them", why)
        thief = cast("Classifier", ctx.fit_thief(pool, ids, answers, self.loss))
        ctx.report([Metric("solved", float(penalty is not None), "head was solved for", higher_is_better=None)])
        if penalty is not None:
            features = ctx.features(thief, pool, ids)
            solve_with(penalty, features, Equations.of(answers), EquationHead.of(thief.head)).write(thief.head)
        return thief

    def _penalty(self, pool: Images, ids: Ids, answers: Tensor, ctx: AttackContext) -> float | None:
        """The penalty for the head; None if the trained head is at least as good."""
        train, held = split_rows(len(ids), ctx.seed)
        part = cast("Classifier", ctx.fit_thief(pool, ids[train], answers[train], self.loss, "thief-compared"))
        features, trained = ctx.features(part, pool, ids), EquationHead.of(part.head)
        penalty, head, _ = choose_penalty(features, Equations.of(answers), train, held, trained)
        others = torch.from_numpy(held)
        hits = [(h(features[others]).argmax(1) == answers[others].argmax(1)).double().mean() for h in (head, trained)]
        log.info("Held-out agreement: %.3f solved for, %.3f as trained", *hits)
        return penalty if hits[0] > hits[1] else None
