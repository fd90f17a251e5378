"""What an attack is: questions to an oracle about public images, and a thief in the end."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from fmsteal.context import Context
from fmsteal.data.images import Ids, Images
from fmsteal.inference import logits
from fmsteal.learners import ClassifierLearner
from fmsteal.modules.classifier import Loss
from fmsteal.oracle.oracle import Budget, Oracle


class AttackContext:
    """What an attacker has besides the oracle: a thief to train, a way to look at it, a seed.

    The job's surroundings are not among it: its store holds the victim.
    """

    def __init__(self, thief: ClassifierLearner, job: Context) -> None:
        self.thief = thief
        self.seed = job.seed

        def fit(pool: Images, ids: Ids, answers: Tensor, loss: Loss, stage: str) -> nn.Module:
            scratch = job.scratch(stage)
            return thief.fit(pool, ids, answers, answers.shape[1], loss, job, stage=stage, scratch=scratch)

        def look(model: nn.Module, pool: Images, ids: Ids) -> Tensor:
            return logits(model, pool, ids, job)

        self._fit, self._look = fit, look

    def fit_thief(self, pool: Images, ids: Ids, answers: Tensor, loss: Loss, stage: str = "thief") -> nn.Module:
        """Train a fresh thief on pool images and their answers ``(n, C)``; it has as many classes as an answer.

        ``stage`` names its curves and its checkpoints: give each of several thieves its own.
        """
        return self._fit(pool, ids, answers, loss, stage)

    def logits(self, model: nn.Module, pool: Images, ids: Ids) -> Tensor:
        """The logits ``(n, C)`` of a thief on pool images, without autograd."""
        return self._look(model, pool, ids)


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
