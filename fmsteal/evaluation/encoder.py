"""Is the stolen encoder as good as its target, and does it answer alike? Downstream tasks, and the task's test images.

Each encoder's embeddings of a set are computed once; the undefended target's, and its heads' predictions, are kept in
the store, so they are made once for all thieves of one target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.answers import Answers
from fmsteal.context import Context
from fmsteal.data.images import Ids, Images, Task
from fmsteal.errors import AttackError, ConfigError
from fmsteal.evaluation import downstream, metrics
from fmsteal.evaluation.base import Learners, Measured, Measurement, Pair, sample
from fmsteal.evaluation.by_class import show_classes
from fmsteal.evaluation.heads import Head, KNNHead
from fmsteal.evaluation.similarity import cka
from fmsteal.inference import logits
from fmsteal.store import Store
from fmsteal.victims.base import Victim

SEED = 0  # of every head: target's and thief's start alike, so that they differ by the encoders alone


@dataclass(frozen=True)
class EncoderEvaluation:
    """Compares a stolen encoder and its target.

    Attributes:
        downstream: tasks by name, each the config node of one.
        headline: which of the heads has the figures without a head's name.
        heads: classifiers by name that are trained on the embeddings of a task.
        images: how many of the task's test images for CKA, and of its training images for the kNN, at most.
        also: further measurements, by any name.
    """

    answers: ClassVar[Answers] = "embeddings"

    downstream: Mapping[str, Any]
    headline: str
    heads: Mapping[str, Head]
    images: int = 5000
    also: Mapping[str, Measurement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.downstream:
            raise ConfigError(
                "evaluation.downstream names no task: +data@evaluation.downstream.digits=digits, for example."
            )
        if self.headline not in self.heads:
            raise ConfigError(
                f"evaluation.headline={self.headline} is none of evaluation.heads ({', '.join(self.heads) or 'none'}): "
                f"+evaluation/head@evaluation.heads.{self.headline}={self.headline}, for example."
            )
        if self.images < 1:
            raise ConfigError(f"evaluation.images must be at least 1, not {self.images}.")

    def inputs(self, store: Store) -> dict[str, str]:
        """Digests of the downstream tasks' images, and of what the further measurements look at."""
        found: dict[str, str] = {}
        for name, task in downstream.tasks(self.downstream, store).items():
            found |= {f"downstream {name} train": task.train.digest, f"downstream {name} test": task.test.digest}
        return found | {name: value for further in self.also.values() for name, value in further.inputs(store).items()}

    def run(self, victim: Victim, thief: nn.Module, task: Task, learners: Learners, ctx: Context) -> Measured:
        """Evaluate once, after the attack; ``learners`` are how victim and thief were made.

        Per downstream set: accuracy of the target's head and of the thief's (TA, SA), SA/TA, and the share of test
        images to which both heads give the same label. Their means over the sets are ``test/...``.

        Raises:
            AttackError: the embeddings of one of them are of the wrong shape, not finite, or all the same.
        """
        both = Embeddings(victim, thief, ctx)
        pair = Pair(victim, thief, learners, task, both.of(task.test))
        measured = self._alike(pair, both)
        sets = downstream.tasks(self.downstream, ctx.store)
        for name, each in sets.items():
            for head in self.heads:
                self._judged(name, head, each, both, measured)
        for metric in ("target_accuracy", "stolen_accuracy", "ratio", "agreement"):
            names = [f"downstream/{name}/{metric}" for name in sets]
            shares = [measured.metrics[name] for name in names]
            measured.metrics[f"test/{metric}"] = float(np.mean(shares))
            if metric != "ratio":
                measured.intervals[f"test/{metric}"] = mean_interval(shares, [measured.intervals[n] for n in names])
        for further in self.also.values():
            measured.metrics.update(further.run(pair, ctx))
        return measured

    def _alike(self, pair: Pair, both: Embeddings) -> Measured:
        """How alike the embeddings of the task's own test images are; no head is trained."""
        task, (v, t) = pair.task, pair.logits
        some = sample(task.test, self.images)
        measured = Measured({"test/cka": cka(v[some], t[some])})
        if pair.comparable:
            measured.metrics["test/cosine"] = F.cosine_similarity(v, t).mean().item()
            measured.metrics["test/l2"] = (F.normalize(v) - F.normalize(t)).norm(dim=1).mean().item()
        if task.train.labels is not None:
            ids = sample(task.train, self.images)
            labels = torch.from_numpy(np.array(task.train.labels)[ids])
            nearest = [
                KNNHead().fit_predict(known, labels, asked, task.num_classes, SEED)
                for known, asked in zip(both.of(task.train, ids), (v, t), strict=True)
            ]
            measured.metrics["test/knn_agreement"] = share = _share(nearest[0] == nearest[1])
            measured.intervals["test/knn_agreement"] = metrics.wilson(share, len(v))
        return measured

    def _judged(self, name: str, head: str, task: Task, both: Embeddings, measured: Measured) -> None:
        """Add what a head finds on a set; those of the headline head have the contract's names."""
        labels = torch.from_numpy(np.array(task.test.labels))
        target, stolen = _target_head(self.heads[head], task, both), _stolen_head(self.heads[head], task, both)
        named = name if head == self.headline else f"{name}/{head}"
        place = f"downstream/{named}"
        shares = {
            f"{place}/target_accuracy": _share(target == labels),
            f"{place}/stolen_accuracy": _share(stolen == labels),
            f"{place}/agreement": _share(target == stolen),
        }
        ratio = shares[f"{place}/stolen_accuracy"] / max(shares[f"{place}/target_accuracy"], 1e-12)
        measured.metrics.update({**shares, f"{place}/ratio": ratio})
        measured.intervals.update({key: metrics.wilson(share, len(labels)) for key, share in shares.items()})
        found = {"victim": target, "thief": stolen, "label": labels}
        measured.predictions.update({f"{named}/{who}": rows.numpy() for who, rows in found.items()})
        if head == self.headline:
            show_classes(both.ctx.tracker, place, task.test, target.numpy(), stolen.numpy())


class Embeddings:
    """Of target and thief; the target's are kept in the store, the thief's for as long as this object lives."""

    def __init__(self, victim: Victim, thief: nn.Module, ctx: Context) -> None:
        self.victim, self.thief, self.ctx = victim, thief, ctx
        self._thiefs: dict[tuple[str, bytes], Tensor] = {}

    def of(self, images: Images, ids: Ids | None = None) -> tuple[Tensor, Tensor]:
        """The target's ``(n, D)`` and the thief's ``(n, D')`` of some of the images, or of all.

        Raises:
            AttackError: they are of the wrong shape, not finite, or all the same.
        """
        ids = np.arange(len(images)) if ids is None else ids
        victims = self.victim.raw(images, ids, self.ctx)
        key = images.whole().digest, images.place(ids).tobytes()
        if key not in self._thiefs:
            self._thiefs[key] = logits(self.thief, images, ids, self.ctx)
            _check("thief", self._thiefs[key], len(ids))
            _check("target", victims, len(ids))
        return victims, self._thiefs[key]


def mean_interval(shares: list[float], intervals: list[tuple[float, float]]) -> tuple[float, float]:
    """Interval of the mean of independent shares from the interval of each (MOVER; Zou & Donner, Stat. Med. 2008).

    The distances to the limits add up as standard errors do; of one share it is its own interval.
    """
    mean, p = float(np.mean(shares)), np.array(shares)
    low, high = np.array(intervals).T
    return mean - float(np.linalg.norm(p - low)) / len(p), mean + float(np.linalg.norm(high - p)) / len(p)


def _check(who: str, rows: Tensor, count: int) -> None:
    if rows.ndim != 2 or len(rows) != count:
        raise AttackError(
            f"The {who} answers {tuple(rows.shape)} for {count} images: an encoder answers one row for each, (n, D)."
        )
    if not rows.isfinite().all():
        raise AttackError(f"The {who}'s embeddings are not finite: its training diverged, or its weights are NaN.")
    if count > 1 and (rows - rows[0]).abs().max() <= 1e-6 * rows.abs().max():
        raise AttackError(
            f"The {who} gives all {count} images the same embedding: its training collapsed (a smaller learning rate "
            "may help), or its last layer is dead."
        )


def _target_head(head: Head, task: Task, both: Embeddings) -> Tensor:
    """The target's head's predictions, from the store: the same for every thief."""
    spec = {
        "victim": both.victim.key,
        "train": task.train.digest,
        "test": task.test.digest,
        "classes": task.num_classes,
        "head": head.identity(),
        "seed": SEED,
    }

    def build(out: Path, scratch: Path) -> None:
        found = _predictions(head, task, both.of(task.train)[0], both.of(task.test)[0], "target", both.ctx)
        np.save(out / "labels.npy", found.numpy())

    place = both.ctx.store.get("heads", type(head).__name__.lower(), spec, build)
    return torch.from_numpy(np.load(place / "labels.npy"))


def _stolen_head(head: Head, task: Task, both: Embeddings) -> Tensor:
    return _predictions(head, task, both.of(task.train)[1], both.of(task.test)[1], "thief", both.ctx)


def _predictions(head: Head, task: Task, train: Tensor, test: Tensor, who: str, ctx: Context) -> Tensor:
    device, labels = ctx.training.device, torch.from_numpy(np.array(task.train.labels))

    def tell(done: int, of: int) -> None:
        ctx.progress.update(f"{who}'s head", done, of)

    return head.fit_predict(train.to(device), labels, test.to(device), task.num_classes, SEED, tell)


def _share(which: Tensor) -> float:
    return which.double().mean().item()
