"""Dataset inference: the mixture and the test from their formulas, and encoders that know some images or none."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from fmsteal.base.errors import AttackError, ConfigError, DataError
from fmsteal.config import answers, build
from fmsteal.data.images import Images, Task
from fmsteal.evaluation.base import Pair, list_measurements, measure
from fmsteal.evaluation.dataset_inference import DatasetInference, infer_membership
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.victims.base import Victim
from tests.support.composing import composed
from tests.support.small_task import context, part

PIXELS = np.random.default_rng(0).integers(0, 256, (360, 3, 16, 16), dtype=np.uint8)
TASK = Task(Images(PIXELS[:240], "train"), Images(PIXELS[240:], "test"))
LEARNERS = part("victim", "task=embed"), part("thief", "task=embed", "thief=encoder_resnet10")


class Memory(nn.Module):
    """Knows some images: their embeddings lie near eight places, those of others anywhere."""

    def __init__(self, known: np.ndarray, width: int = 12, seed: int = 0) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.width = width
        self.known = torch.from_numpy(known).flatten(1).float()
        self.places = torch.randn(8, width, generator=random)[torch.randint(0, 8, (len(known),), generator=random)]
        self.blur = torch.randn(self.known.shape[1], width, generator=random) / 2000

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.flatten(1).float()
        distance, nearest = torch.cdist(pixels, self.known).min(1)
        return torch.where((distance < 1)[:, None], self.places[nearest], 0) + 0.5 * (pixels - 127) @ self.blur


def judged(folder: Path, thief: nn.Module, *, task: Task = TASK, **options: Any) -> dict[str, float]:
    ctx = context(folder)
    pair = Pair(Victim("owner", Memory(PIXELS[:240])), thief, LEARNERS, task, ctx)
    return measure(DatasetInference(components=8, **options), pair, ctx).values


def test_who_knows_the_training_images_is_told_from_who_does_not(tmp_path: Path) -> None:
    stolen = judged(tmp_path / "stolen", Memory(PIXELS[:240], width=20, seed=1))
    other = judged(tmp_path / "other", Memory(np.random.default_rng(1).integers(0, 256, (240, 3, 16, 16)), seed=2))
    for found in (stolen, other):
        assert found["dataset_inference/victim/p"] < 1e-6 and found["dataset_inference/control/p"] > 1e-3
        assert found["dataset_inference/excess"] == pytest.approx(
            found["dataset_inference/thief/effect"] - found["dataset_inference/control/effect"]
        )
    assert stolen["dataset_inference/thief/p"] < 1e-6 and stolen["dataset_inference/excess"] > 1
    assert other["dataset_inference/thief/p"] > 1e-3 and abs(other["dataset_inference/excess"]) < 1


def test_figures_are_those_of_the_formulas() -> None:
    random = torch.Generator().manual_seed(0)
    known, other, test = (torch.randn(n, 3, generator=random) for n in (60, 50, 40))
    known, other = known.abs(), other.abs()  # in an eighth of the sphere, where the test rows seldom are
    found = infer_membership(known, other, test, 4, seed=3)

    def unit(rows: Tensor) -> np.ndarray:
        return np.array([[float(x) / math.dist(row, (0, 0, 0)) for x in row] for row in rows.double().tolist()])

    mixture = GaussianMixture(4, covariance_type="diag", max_iter=1000, random_state=3).fit(unit(known))

    def likelihood(row: np.ndarray) -> float:
        each = [
            weight * math.prod(stats.norm.pdf(x, m, math.sqrt(v)) for x, m, v in zip(row, mean, variance, strict=True))
            for weight, mean, variance in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
        ]
        return math.log(sum(each))

    a, b = ([likelihood(row) for row in unit(rows)] for rows in (other, test))
    n, m = len(a), len(b)
    spread = math.sqrt((sum((x - np.mean(a)) ** 2 for x in a) + sum((x - np.mean(b)) ** 2 for x in b)) / (n + m - 2))
    difference = np.mean(a) - np.mean(b)
    error = spread * math.sqrt(1 / n + 1 / m)
    assert found.difference == pytest.approx(difference) and found.effect == pytest.approx(difference / spread)
    assert found.p == pytest.approx(stats.t.sf(difference / error, n + m - 2)) and found.p < 0.05
    wide = stats.t.ppf(0.975, n + m - 2) * error
    assert found.interval == pytest.approx((difference - wide, difference + wide))
    turned = infer_membership(known, test, other, 4, seed=3)
    assert turned.p > 0.95, "a difference of the wrong sign is no evidence: halving a two-sided p would make it some"


def test_where_there_is_nothing_to_know_five_in_a_hundred_are_accused() -> None:
    accused = 0
    for seed in range(120):
        rows = torch.randn(120, 4, generator=torch.Generator().manual_seed(seed))
        accused += infer_membership(*rows.split(40), 2, seed).p < 0.05
    assert 1 <= accused <= 13, "12 or fewer of 120 with a probability of .99"


def test_the_control_may_be_another_trunk_or_what_the_thief_started_from(tmp_path: Path) -> None:
    thief = Memory(PIXELS[:240], seed=1)
    weights = tmp_path / "weights.pth"
    torch.save(BackboneSpec("resnet10t", size=32).build(pretrained=False).trunk.state_dict(), weights)
    spec = BackboneSpec("resnet10t", size=32, weights=str(weights))
    start, trunk = judged(tmp_path, thief), judged(tmp_path, thief, control=spec)
    same = {name for name in start if start[name] == trunk[name]}
    assert {n for n in start if "control" not in n and "excess" not in n} == same
    missing = DatasetInference(control=replace(spec, weights=str(tmp_path / "none.pth")))
    with pytest.raises((DataError, ConfigError), match=r"none\.pth"):
        missing.check_victim(LEARNERS[0])
    ctx = context(tmp_path)
    pair = Pair(Victim("owner", Memory(PIXELS[:240])), thief, (part("victim"), part("thief")), TASK, ctx)
    with pytest.raises(AttackError, match="Nothing is known of what a thief by ClassifierLearner started from"):
        measure(DatasetInference(components=8), pair, ctx)


def test_halves_are_disjoint_and_of_one_size() -> None:
    for images, count in ((50, 50), (5000, 120)):
        one, other = DatasetInference(images=images).halves(TASK)
        assert len(one) == len(other) == count and not set(one) & set(other) and max(*one, *other) < 240
    odd = replace(TASK, train=Images(PIXELS[:241], "odd"))
    assert [len(half) for half in DatasetInference().halves(odd)] == [120, 120]


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    few = replace(TASK, train=Images(PIXELS[:39], "few"))
    with pytest.raises(DataError, match=r"at least 40 training and 2 test images, not 39 and 120.*components="):
        DatasetInference().check_task(few)
    with pytest.raises(DataError, match="not 240 and 1"):
        DatasetInference().check_task(replace(TASK, test=Images(PIXELS[:1], "one")))
    for options in ({"components": 0}, {"images": 1, "components": 1}, {"images": 19}):
        with pytest.raises(ConfigError, match=r"evaluation\.also\.dataset_inference\.components"):
            DatasetInference(**options)
    with pytest.raises(ConfigError, match=r"is made for embeddings"):
        answers.check(composed("evaluation=dataset_inference"))


def test_the_config_names_it() -> None:
    cfg = composed("task=embed", "evaluation=dataset_inference")
    build.check(cfg)
    made = list_measurements(build.make(cfg.evaluation))
    assert made["dataset_inference"] == DatasetInference() and "fidelity" in made and "encoder" in made
    own = composed("evaluation=dataset_inference", "+backbone@evaluation.also.dataset_inference.control=resnet10t")
    assert build.make(own.evaluation).also["dataset_inference"].control.model == "resnet10t"
