"""Stolen encoders judged: figures against plain forward passes, the target's share of the work done once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.base.seeds import seed_block
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.digits import digits
from fmsteal.data.images import Task
from fmsteal.evaluation import metrics
from fmsteal.evaluation.base import Measured, Pair, measure_all
from fmsteal.evaluation.encoder import EncoderEvaluation, mean_interval
from fmsteal.evaluation.fidelity import Fidelity
from fmsteal.evaluation.heads import Head, KNNHead, LinearHead, MLPHead
from fmsteal.evaluation.similarity import cka
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.victims.base import Victim
from tests.support.composing import composed
from tests.support.small_task import context, part

TASK = digits(size=16, test=31, train_count=40)
SCANS = {"_target_": "fmsteal.data.digits.digits", "size": 12, "test": 50, "train_count": 120, "seed": 1}
MORE = {**SCANS, "size": 20, "test": 21, "train_count": 60, "seed": 2}
LEARNERS = part("victim", "task=embed"), part("thief", "task=embed")


def trunk(seed: int, model: str = "resnet10t") -> nn.Module:
    with seed_block(seed):
        return BackboneSpec(model, size=32).build(pretrained=False).eval()


@dataclass(frozen=True)
class Counting(Head):
    """A linear head that remembers how often it was trained."""

    def fit_predict(self, *args: Any, **more: Any) -> Tensor:
        FITTED.append(len(args[0]))
        return LinearHead().fit_predict(*args, **more)


FITTED: list[int] = []


def evaluated(
    folder: Path, victim: Victim, thief: nn.Module, sets: dict[str, Any], task: Task = TASK, **heads: Head
) -> Measured:
    evaluation = EncoderEvaluation(sets, next(iter(heads or {"linear": 0})), heads or {"linear": LinearHead()})
    ctx = context(folder)
    return measure_all(evaluation, Pair(victim, thief, LEARNERS, task, ctx), ctx)


@torch.no_grad()
def embedded(model: nn.Module, pixels: Any) -> Tensor:
    return torch.cat([model(torch.from_numpy(np.array(pixels[[i]]))) for i in range(len(pixels))])


def test_figures_are_those_of_plain_forward_passes(tmp_path: Path) -> None:
    victim, thief = Victim("v", trunk(0)), trunk(1)
    found = evaluated(tmp_path, victim, thief, {"scans": SCANS, "more": MORE}, linear=LinearHead(), knn=KNNHead(k=9))
    heads = {"": LinearHead(), "knn/": KNNHead(k=9)}
    for name, node in (("scans", SCANS), ("more", MORE)):
        task = build.make(OmegaConf.create(node))
        labels = torch.from_numpy(np.array(task.test.labels))
        train = torch.from_numpy(np.array(task.train.labels))
        for place, head in heads.items():
            target, stolen = (
                head.fit_predict(embedded(m, task.train.pixels), train, embedded(m, task.test.pixels), 10, 0)
                for m in (victim.model, thief)
            )
            at, kept = f"downstream/{name}/{place}", f"{name}/{place}"
            want = {
                "target_accuracy": (target == labels).double().mean().item(),
                "stolen_accuracy": (stolen == labels).double().mean().item(),
                "agreement": (target == stolen).double().mean().item(),
            }
            one_image = 1.01 / len(labels)  # what rounding can turn
            for metric, value in want.items():
                assert found.values[at + metric] == pytest.approx(value, abs=one_image)
                assert found.intervals[at + metric] == metrics.wilson(found.values[at + metric], len(labels))
            ratio = found.values[at + "stolen_accuracy"] / found.values[at + "target_accuracy"]
            assert found.values[at + "ratio"] == pytest.approx(ratio)
            v, t, y = (found.predictions[kept + who] for who in ("victim", "thief", "label"))
            assert (v == t).mean() == pytest.approx(found.values[at + "agreement"])
            assert (v == y).mean() == pytest.approx(found.values[at + "target_accuracy"])
            assert (t == y).mean() == pytest.approx(found.values[at + "stolen_accuracy"])
    for metric in ("target_accuracy", "stolen_accuracy", "ratio", "agreement"):
        each = [found.values[f"downstream/{name}/{metric}"] for name in ("scans", "more")]
        assert found.values[f"test/{metric}"] == pytest.approx(np.mean(each))
    v, t = embedded(victim.model, TASK.test.pixels), embedded(thief, TASK.test.pixels)
    assert found.values["test/cosine"] == pytest.approx(float(F.cosine_similarity(v, t).mean()), abs=1e-5)
    apart = [float((a / a.norm() - b / b.norm()).norm()) for a, b in zip(v, t, strict=True)]
    assert found.values["test/l2"] == pytest.approx(np.mean(apart), abs=1e-5)
    assert found.values["test/cka"] == pytest.approx(cka(v, t), abs=1e-4)
    both = [
        NearestNeighbors(n_neighbors=10, metric="cosine").fit(m.numpy()).kneighbors(return_distance=False)
        for m in (v, t)
    ]
    common = [len(set(a.tolist()) & set(b.tolist())) / 10 for a, b in zip(*both, strict=True)]
    assert found.values["test/neighbours"] == pytest.approx(np.mean(common), abs=0.005)
    order = np.random.default_rng(0).permutation(len(TASK.train))
    known = torch.from_numpy(np.array(TASK.train.labels)[order])
    near = [
        KNNHead().fit_predict(embedded(m, TASK.train.pixels)[order], known, rows, 10, 0)
        for m, rows in ((victim.model, v), (thief, t))
    ]
    assert found.values["test/knn_agreement"] == pytest.approx(float((near[0] == near[1]).double().mean()), abs=0.04)


def test_a_copy_is_the_same_in_every_figure(tmp_path: Path) -> None:
    found = evaluated(tmp_path, Victim("v", trunk(0)), trunk(0), {"scans": SCANS}, mlp=MLPHead(epochs=3)).values
    for name in ("test/agreement", "test/knn_agreement", "test/ratio", "test/cosine", "test/cka", "test/neighbours"):
        assert found[name] == pytest.approx(1.0)
    assert found["test/l2"] == pytest.approx(0.0, abs=1e-6)


def test_the_target_is_embedded_and_its_head_trained_once_for_all_thieves(tmp_path: Path) -> None:
    FITTED.clear()
    first, again = Victim("v", trunk(0)), Victim("v", trunk(0))
    one = evaluated(tmp_path, first, trunk(1), {"scans": SCANS}, counting=Counting())
    assert FITTED == [120, 120] and first.forwards == 31 + 40 + 120 + 50
    other = evaluated(tmp_path, again, trunk(2), {"scans": SCANS}, counting=Counting())
    assert FITTED == [120] * 3 and again.forwards == 0
    assert (one.predictions["scans/victim"] == other.predictions["scans/victim"]).all()
    assert (one.predictions["scans/thief"] != other.predictions["scans/thief"]).any()
    evaluated(tmp_path, again, trunk(2), {"scans": SCANS}, mlp=MLPHead(epochs=1))
    evaluated(tmp_path, again, trunk(2), {"scans": {**SCANS, "train_count": 100}}, counting=Counting())
    assert FITTED == [120] * 3 + [100] * 2, "a head of its own for another set, and another head"
    evaluated(tmp_path, Victim("w", trunk(3)), trunk(2), {"scans": SCANS}, counting=Counting())
    assert FITTED[5:] == [120, 120], "and for another target"


def test_embeddings_may_differ_in_width(tmp_path: Path) -> None:
    thief = trunk(1, "tf_efficientnet_lite0")
    found = evaluated(tmp_path, Victim("v", trunk(0)), thief, {"scans": SCANS}).values
    assert not {"test/cosine", "test/l2"} & found.keys() and 0 <= found["test/cka"] <= 1


def test_a_task_without_labels_has_no_knn(tmp_path: Path) -> None:
    task = replace(TASK, train=replace(TASK.train, labels=None))
    found = evaluated(tmp_path, Victim("v", trunk(0)), trunk(1), {"scans": SCANS}, task)
    assert "test/knn_agreement" not in found.values and "test/agreement" in found.values


class Answers(nn.Module):
    """Gives what it is told to."""

    def __init__(self, rows: Any) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, images: Tensor) -> Tensor:
        return self.rows(len(images))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (lambda n: torch.randn(n, 4, 4), r"answers \(31, 4, 4\) for 31 images"),
        (lambda n: torch.full((n, 4), torch.nan), "embeddings are not finite"),
        (lambda n: torch.tensor([1.0, 2.0, 3.0]).expand(n, 3), "gives all 31 images the same embedding"),
        (lambda n: torch.zeros(n, 3), "gives all 31 images the same embedding"),
    ],
)
def test_what_is_no_encoder_is_refused_by_name(rows: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(AttackError, match="The thief.*" + says):
        evaluated(tmp_path, Victim("v", trunk(0)), Answers(rows), {"scans": SCANS})
    if "4, 4" not in says:
        with pytest.raises(AttackError, match="The target.*" + says):
            evaluated(tmp_path, Victim("w", Answers(rows)), trunk(0), {"scans": SCANS})


def test_the_interval_of_a_mean_is_that_of_one_and_narrower_of_more() -> None:
    one = metrics.wilson(0.8, 50)
    assert mean_interval([0.8], [one]) == pytest.approx(one)
    two = mean_interval([0.8, 0.8], [one, one])
    assert np.subtract(two, 0.8) == pytest.approx(np.subtract(one, 0.8) / np.sqrt(2))
    random = np.random.default_rng(0)
    within = 0
    for _ in range(400):
        shares = [random.binomial(n, p) / n for n, p in ((60, 0.9), (200, 0.4))]
        low, high = mean_interval(shares, [metrics.wilson(s, n) for s, n in zip(shares, (60, 200), strict=True)])
        within += low <= 0.65 <= high
    assert 0.92 <= within / 400 <= 0.98


@pytest.mark.parametrize("name", ["encoder", "encoder_paper"])
def test_sets_and_heads_are_named_in_the_config(name: str, tmp_path: Path) -> None:
    cfg = composed(
        f"evaluation={name}", "evaluation.downstream.digits.size=12", "+data@evaluation.downstream.scans=digits",
        "evaluation.downstream.scans.test=20", "+evaluation/head@evaluation.heads.near=knn",
    )  # fmt: skip
    build.check(cfg)
    evaluation = build.make(cfg.evaluation)
    assert isinstance(evaluation, EncoderEvaluation) and evaluation.answers == "embeddings"
    headline = LinearHead() if name == "encoder" else MLPHead(hidden=[512, 256])
    assert evaluation.also == {"fidelity": Fidelity()}
    assert list(evaluation.heads.values()) == [headline, KNNHead()]
    inputs = evaluation.inputs(Store(tmp_path))
    assert inputs["downstream digits train"] == digits(size=12).train.digest
    assert inputs["downstream scans test"] == digits(test=20).test.digest and len(inputs) == 4
    without = composed(f"evaluation={name}", "~data@evaluation.downstream.digits", "+data@evaluation.downstream.x=svhn")
    assert list(build.make(without.evaluation).downstream) == ["x"]


def test_what_makes_no_sense_in_the_config_is_named(tmp_path: Path) -> None:
    for wrong, says in (
        ({"downstream": {}}, r"downstream names no task: \+data@"),
        ({"heads": {}}, r"headline=linear is none of evaluation\.heads \(none\): \+evaluation/head@"),
        ({"images": 0}, r"images must be at least 1"),
    ):
        with pytest.raises(ConfigError, match=says):
            EncoderEvaluation(
                **{"downstream": {"scans": SCANS}, "headline": "linear", "heads": {"linear": LinearHead()}, **wrong}
            )
    with pytest.raises(ConfigError, match=r"svhn\.bogus: .* has no option 'bogus'"):
        build.check(
            composed(
                "evaluation=encoder", "+data@evaluation.downstream.svhn=svhn", "+evaluation.downstream.svhn.bogus=1"
            )
        )
    query = composed(
        "evaluation=encoder", "+query@evaluation.downstream.letters=glyphs", "evaluation.downstream.letters.count=5"
    )
    with pytest.raises(ConfigError, match=r"downstream\.letters must be a task, not Images"):
        build.make(query.evaluation).inputs(Store(tmp_path))
    one_class = {"scans": {**SCANS, "train_count": 1}}
    with pytest.raises(ConfigError, match=r"downstream\.scans must have training images of at least two classes"):
        EncoderEvaluation(one_class, "linear", {"linear": LinearHead()}).inputs(Store(tmp_path))
