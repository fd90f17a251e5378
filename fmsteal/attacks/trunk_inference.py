"""Infers the public trunk behind an API: its answers are linear in that trunk's features (after PEI, Fu et al. 2024).

Pre-trained Encoder Inference compares answers to images made for each candidate; this needs no extra questions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fmsteal.attacks.base import ONLY_FITTED, AttackContext, affordable
from fmsteal.attacks.selection import Selection, select
from fmsteal.attacks.solve import RESIDUAL, require_frozen, solve_thief
from fmsteal.attacks.solved_head import FEWEST, LABELS, find_limit, shrinkage_gain, solve_head
from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.metric import Metric
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Classifier, Loss
from fmsteal.training.learners import ClassifierLearner, EncoderLearner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrunkInference:
    """Asks what `Solve` asks, solves for a head on each candidate trunk, and steals with the one that fits best.

    A candidate is named if its residual on held-out answers is the smallest, and no penalty lowers it by more than the
    factor ``gain``. Answers of a head on these very features carry no noise, so shrinking the head does not help; what
    other features leave unexplained acts like noise, and shrinking helps. Each candidate is thus its own null
    hypothesis at any number of answers; a bound on the residual itself would depend on that number. With few answers
    shrinking helps little in any case, and the best candidate is named. With a defense's noise possibly none is named;
    with labels none is.

    The result shows ``attack/residual/<candidate>``, ``attack/named/<candidate>`` (1 for the trunk named; all 0 if none
    is) and the best candidate's ``attack/gain``.

    Attributes:
        selection: chooses the images, without replacement.
        loss: takes the logits of a thief that is fitted, and the answers.
        candidates: public trunks by name.
        gain: largest factor by which a penalty may lower the residual.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = ONLY_FITTED

    selection: Selection
    loss: Loss
    candidates: Mapping[str, BackboneSpec]
    gain: float = 1.1

    def __post_init__(self) -> None:
        if not self.candidates or self.gain < 1:
            raise ConfigError(
                "attack.candidates must name a trunk at least (+backbone@attack.candidates.NAME=efficientnet_lite0), "
                f"and attack.gain be at least 1, not {self.gain}."
            )

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget for more than the pool holds, or too small to hold out any answers."""
        if affordable(budget, pool) < FEWEST:
            raise ConfigError(f"attack=trunk_inference needs {FEWEST} queries at least, not {budget.queries}.")

    def check_thief(self, thief: ClassifierLearner | EncoderLearner) -> None:
        """Refuse a thief whose trunk is not frozen, and candidates without weights."""
        require_frozen(thief, "attack=trunk_inference solves for a head")
        for name, spec in self.candidates.items():
            try:
                spec.require_weights()
            except DataError as error:
                raise _unusable(name, error) from error

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> Classifier:
        """Compute each candidate's features, ask, name the trunk, and steal with the best candidate."""
        ids = select(self.selection, pool, affordable(oracle.budget, pool), ctx)
        features = {name: _features(name, spec, pool, ids, ctx) for name, spec in self.candidates.items()}
        answers = oracle.ask(ids)
        if find_limit(answers) == LABELS:
            log.warning(
                "The API answers with labels alone: they name no trunk, and the job's own thief is fitted to them"
            )
            return solve_thief(pool, ids, answers, self.loss, ctx)
        best = self._best(features, answers, ctx)
        return solve_thief(pool, ids, answers, self.loss, ctx, self.candidates[best])

    def _best(self, features: Mapping[str, Tensor], answers: Tensor, ctx: AttackContext) -> str:
        """The candidate that fits best; the result says whether it is named."""
        solved = {name: solve_head(rows, answers, ctx.seed) for name, rows in features.items()}
        best = min(solved, key=lambda name: solved[name].residual)
        gain = 1.0 if solved[best].exact else shrinkage_gain(features[best], answers, ctx.seed)
        named = best if gain <= self.gain else None
        log.info("The trunk behind the API: %s", named or f"none of the candidates ({best} fits best)")
        ctx.report(Metric(f"residual/{name}", s.residual, f"{RESIDUAL}, {name}", False) for name, s in solved.items())
        ctx.report(Metric(f"named/{name}", float(name == named), f"{name} named", None) for name in solved)
        ctx.report([Metric("gain", gain, "residual without a penalty / with the best", higher_is_better=None)])
        return best


def _features(name: str, spec: BackboneSpec, pool: Images, ids: Ids, ctx: AttackContext) -> Tensor:
    """A candidate's features; if it cannot be loaded, the error names it, before any query is paid."""
    try:
        return ctx.public_features(pool, ids, spec)
    except (ConfigError, DataError) as error:
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"attack.candidates.{name} cannot be loaded: {error} Or leave it out: '~attack.candidates.{name}'. Nothing was "
        "asked."
    )
