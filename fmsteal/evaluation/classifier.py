"""Agreement and its kin between a stolen classifier and the undefended victim, on the victim's test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.answers import Answers
from fmsteal.context import Context
from fmsteal.data.images import Task
from fmsteal.errors import AttackError, ConfigError
from fmsteal.evaluation import metrics
from fmsteal.evaluation.base import Learners, Measured, Measurement, Pair
from fmsteal.evaluation.by_class import show_classes
from fmsteal.inference import logits
from fmsteal.store import Store
from fmsteal.victims.base import Victim


@dataclass(frozen=True)
class ClassifierEvaluation:
    """Compares thief and victim.

    Attributes:
        k: of ``test/agreement@k``: the victim's top-1 among the thief's top-k.
        also: further measurements, by any name.
    """

    answers: ClassVar[Answers] = "probabilities"

    k: int = 5
    also: Mapping[str, Measurement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ConfigError(f"evaluation.k must be at least 1, not {self.k}.")

    def inputs(self, store: Store) -> dict[str, str]:
        """Digests of what the further measurements look at beside the task."""
        return {name: value for further in self.also.values() for name, value in further.inputs(store).items()}

    def run(self, victim: Victim, thief: nn.Module, task: Task, learners: Learners, ctx: Context) -> Measured:
        """Evaluate once, after the attack; ``learners`` are how victim and thief were made.

        Raises:
            AttackError: the thief's outputs are of the wrong shape, or not finite.
        """
        ids = np.arange(len(task.test))
        labels = torch.from_numpy(np.array(task.test.labels))
        v = victim.raw(task.test, ids, ctx)
        t = logits(thief, task.test, ids, ctx)
        if t.shape != v.shape:
            raise AttackError(f"The thief answers {tuple(t.shape)} where the victim answers {tuple(v.shape)}.")
        if not t.isfinite().all():
            raise AttackError("The thief's logits are not finite: its training diverged, or its weights are NaN.")
        measured = self.compare(v, t, labels)
        pair = Pair(victim, thief, learners, task, (v, t))
        for further in self.also.values():
            measured.metrics.update(further.run(pair, ctx))
        show_classes(ctx.tracker, "test", task.test, measured.predictions["victim"], measured.predictions["thief"])
        return measured

    def compare(self, victim: Tensor, thief: Tensor, labels: Tensor) -> Measured:
        """All figures from both models' logits ``(n, C)`` and the labels ``(n,)``, which are kept as predictions."""
        n = len(labels)
        found = {
            "test/agreement": metrics.agreement(victim, thief),
            f"test/agreement@{self.k}": metrics.agreement_at(self.k, victim, thief),
            "test/accuracy": metrics.accuracy(thief, labels),
            "test/victim_accuracy": metrics.accuracy(victim, labels),
            "test/kl": metrics.kl(victim, thief),
            "test/l1": metrics.l1(victim, thief),
        }
        found["test/relative_accuracy"] = found["test/accuracy"] / max(found["test/victim_accuracy"], 1e-12)
        shares = ("test/agreement", f"test/agreement@{self.k}", "test/accuracy", "test/victim_accuracy")
        return Measured(
            metrics=found,
            intervals={name: metrics.wilson(found[name], n) for name in shares},
            predictions={
                "victim": victim.argmax(1).numpy(),
                "thief": thief.argmax(1).numpy(),
                "label": labels.numpy(),
                "victim_logits": victim.numpy(),
                "thief_logits": thief.numpy(),
            },
        )
