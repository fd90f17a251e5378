"""What an attack is: questions to an oracle about public images, and a thief in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from fmsteal.context import Context
from fmsteal.data.images import Ids, Images
from fmsteal.learners import ClassifierLearner
from fmsteal.modules.classifier import Loss
from fmsteal.oracle.oracle import Budget, Oracle


@dataclass(frozen=True)
class AttackContext:
    """What an attacker has besides the oracle: a thief to train, a seed, the job's surroundings."""

    thief: ClassifierLearner
    job: Context

    @property
    def seed(self) -> int:
        """The job's seed."""
        return self.job.seed

    def fit_thief(self, pool: Images, ids: Ids, answers: Tensor, loss: Loss, stage: str = "thief") -> nn.Module:
        """Train a fresh thief on pool images and their answers ``(n, C)``; it has as many classes as an answer."""
        return self.thief.fit(
            pool, ids, answers, answers.shape[1], loss, self.job, stage=stage, scratch=self.job.scratch(stage)
        )


class Attack(Protocol):
    """One file, one YAML with its ``_target_``: that is all it takes to add one."""

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse, with a clear error and before anything is trained, what cannot work."""
        ...

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask within the oracle's budget and return the thief: raw images in, logits ``(n, C)`` out.

        Deterministic given the answers: a killed run is started again and asks the same questions.
        """
        ...
