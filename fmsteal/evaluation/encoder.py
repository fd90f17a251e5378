"""Is the stolen encoder as good as its target, and does it answer alike? Downstream tasks, and the task's test images.

Each encoder's embeddings of a set are computed once; the undefended target's, and its heads' predictions, are kept in
the store, so they are made once for all thieves of one target.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric, index_by_name
from fmsteal.base.store import Store
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images, Task
from fmsteal.evaluation import downstream, metrics
from fmsteal.evaluation.base import Measured, Measurement, Pair, Predictions, sample
from fmsteal.evaluation.by_class import show_classes
from fmsteal.evaluation.fidelity import find_nearest, overlap
from fmsteal.evaluation.forwards import embed
from fmsteal.evaluation.heads import Head, KNNHead
from fmsteal.evaluation.similarity import cka
from fmsteal.training.context import Context

log = logging.getLogger(__name__)

NEIGHBOURS = 10
SEED = 0  # seed of every head: target's and thief's start alike, so they differ only by the encoders
LABELS = {
    "target_accuracy": "target's downstream accuracy",
    "stolen_accuracy": "stolen encoder's downstream accuracy",
    "ratio": "accuracy ratio, stolen / target",
    "agreement": "agreement",
}
BETTER = {"target_accuracy": None, "stolen_accuracy": True, "ratio": True, "agreement": True}


@dataclass(frozen=True)
class EncoderEvaluation(Measurement):
    """Compares a stolen encoder and its target.

    Attributes:
        downstream: config nodes of tasks, by name.
        headline: the head whose figures carry no head's name.
        heads: classifiers, by name, that are trained on the embeddings of a task.
        images: maximum number of the task's test images for CKA and neighbours, and of its training images for kNN.
        also: further measurements, by any name.
    """

    name: ClassVar[str] = "encoder"
    answers: ClassVar[Answers] = "embeddings"
    version: ClassVar[int] = 2

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
        """Digests of the downstream tasks' images."""
        return downstream.digests(self.downstream, store)

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """Compare once, after the attack.

        Per downstream set: accuracy of the target's head and of the thief's (TA, SA), SA/TA, and the share of test
        images to which both heads give the same label. Their means over the sets are ``test/...``.

        Raises:
            AttackError: the embeddings of one of the two have the wrong shape, are not finite, or are all the same.
        """
        both = Embeddings(pair, ctx)
        found = self._alike(pair, both)
        predictions: Predictions = {}
        sets = downstream.tasks(self.downstream, ctx.store)
        for name, each in sets.items():
            for head in self.heads:
                judged = self._judge(name, head, each, both)
                found += judged.metrics
                predictions |= judged.predictions
        return Measured([*found, *_means(index_by_name(found), list(sets))], predictions)

    def _alike(self, pair: Pair, both: Embeddings) -> list[Metric]:
        """How alike the embeddings of the task's own test images are; no head is trained.

        ``test/neighbours``: mean share of an image's ten nearest others, by cosine, that both encoders have in common.
        ``test/cosine`` and ``test/l2`` are defined if the thief's numbers mean what the target's mean.
        """
        task, (v, t) = pair.task, pair.logits
        some = sample(task.test, self.images)
        found = [Metric("test/cka", cka(v[some], t[some]), "CKA of embeddings")]
        if len(some) > 1:
            reach = min(NEIGHBOURS, len(some) - 1)
            share = overlap(find_nearest(v[some], reach), find_nearest(t[some], reach), reach)
            found.append(Metric("test/neighbours", share, f"common of {NEIGHBOURS} nearest neighbours"))
        if not pair.comparable:
            log.info(
                "No test/cosine and no test/l2: the thief's %d numbers do not stand for the target's %d",
                t.shape[1],
                v.shape[1],
            )
        else:
            apart = (F.normalize(v) - F.normalize(t)).norm(dim=1).mean().item()
            found += [
                Metric("test/cosine", F.cosine_similarity(v, t).mean().item(), "cosine of embeddings"),
                Metric("test/l2", apart, "L2 distance of embeddings", False),
            ]
        if task.train.labels is not None:
            ids = sample(task.train, self.images)
            labels = torch.from_numpy(np.array(task.train.labels)[ids])
            judged = [
                KNNHead().fit_predict(known, labels, asked, task.num_classes, SEED)
                for known, asked in zip(both.of(task.train, ids), (v, t), strict=True)
            ]
            share = _share(judged[0] == judged[1])
            interval = metrics.wilson(share, len(v))
            found.append(Metric("test/knn_agreement", share, "agreement of nearest neighbours", interval=interval))
        return found

    def _judge(self, name: str, head: str, task: Task, both: Embeddings) -> Measured:
        """A head's figures on a set; those of the headline head have the contract's names."""
        labels = torch.from_numpy(np.array(task.test.labels))
        target, stolen = _target_head(self.heads[head], task, both), _stolen_head(self.heads[head], task, both)
        named = name if head == self.headline else f"{name}/{head}"
        place = f"downstream/{named}"
        shares = {
            "target_accuracy": _share(target == labels),
            "stolen_accuracy": _share(stolen == labels),
            "agreement": _share(target == stolen),
        }
        where = f"on {name}" if head == self.headline else f"on {name}, {head} head"
        found = [
            Metric(
                f"{place}/{kind}", share, f"{LABELS[kind]} {where}", BETTER[kind], metrics.wilson(share, len(labels))
            )
            for kind, share in shares.items()
        ]
        ratio = shares["stolen_accuracy"] / max(shares["target_accuracy"], 1e-12)
        found.append(Metric(f"{place}/ratio", ratio, f"{LABELS['ratio']} {where}", BETTER["ratio"]))
        if head == self.headline:
            show_classes(both.ctx.tracker, place, task.test, target.numpy(), stolen.numpy())
        rows = {"victim": target, "thief": stolen, "label": labels}
        return Measured(found, {f"{named}/{who}": each.numpy() for who, each in rows.items()})


class Embeddings:
    """Embeddings of target and thief: the target's are kept in the store, the thief's while this object lives."""

    def __init__(self, pair: Pair, ctx: Context) -> None:
        self.victim, self.thief, self.ctx = pair.victim, pair.thief, ctx
        test = pair.task.test
        self._thiefs = {_key(test, np.arange(len(test))): pair.logits[1]}

    def of(self, images: Images, ids: Ids | None = None) -> tuple[Tensor, Tensor]:
        """The target's ``(n, D)`` and the thief's ``(n, D')`` of some of the images, or of all.

        Raises:
            AttackError: the embeddings have the wrong shape, are not finite, or are all the same.
        """
        ids = np.arange(len(images)) if ids is None else ids
        key = _key(images, ids)
        if key in self._thiefs:
            return self.victim.raw(images, ids, self.ctx), self._thiefs[key]
        victims, self._thiefs[key] = embed(self.victim, self.thief, images, ids, self.ctx)
        return victims, self._thiefs[key]


def mean_interval(shares: list[float], intervals: list[tuple[float, float]]) -> tuple[float, float]:
    """Interval of the mean of independent shares from the interval of each (MOVER; Zou & Donner, Stat. Med. 2008).

    The distances to the limits add up as standard errors do; for a single share it is that share's interval.
    """
    mean, p = float(np.mean(shares)), np.array(shares)
    low, high = np.array(intervals).T
    return mean - float(np.linalg.norm(p - low)) / len(p), mean + float(np.linalg.norm(high - p)) / len(p)


def _means(found: Mapping[str, Metric], sets: list[str]) -> list[Metric]:
    """The mean over the downstream sets of each of the headline head's figures."""
    means = []
    for kind in ("target_accuracy", "stolen_accuracy", "ratio", "agreement"):
        each = [found[f"downstream/{name}/{kind}"] for name in sets]
        shares = [metric.value for metric in each]
        intervals = [metric.interval for metric in each if metric.interval is not None]
        interval = mean_interval(shares, intervals) if intervals else None
        means.append(Metric(f"test/{kind}", float(np.mean(shares)), LABELS[kind], BETTER[kind], interval))
    return means


def _key(images: Images, ids: Ids) -> tuple[str, bytes]:
    return images.whole().digest, images.place(ids).tobytes()


def _target_head(head: Head, task: Task, both: Embeddings) -> Tensor:
    """The predictions of the target's head, from the store: the same for every thief."""
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
