"""CREDIT: the answers, what is found of them in a thief, and what is not found in an encoder that was not stolen."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fmsteal.base.directions import draw_direction
from fmsteal.base.errors import ConfigError, DataError
from fmsteal.config import answers, build
from fmsteal.data.images import Images, Task
from fmsteal.evaluation.base import Pair, list_measurements, measure
from fmsteal.evaluation.credit import CreditVerification, find_shift
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.victims.base import Victim
from tests.support.composing import composed
from tests.support.small_task import context, part

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (300, 3, 8, 8), dtype=np.uint8)
TASK = Task(Images(PIXELS[:20], "train"), Images(PIXELS[20:], "test"))
LEARNERS = part("victim", "task=embed"), part("thief", "task=embed", "thief=encoder_resnet10")
SIGMA = 0.3


class Looks(nn.Module):
    """Embeds by random linear looks at an image, 12 numbers, and what a thief of it has wrong: noise and a shift."""

    def __init__(self, seed: int, error: float = 0.0, shift: Tensor | None = None) -> None:
        super().__init__()
        self.width, self.error = 12, error
        random = torch.Generator().manual_seed(seed)
        self.looks, self.wrong = (torch.randn(192, 12, generator=random) / 14 for _ in range(2))
        self.shift = torch.zeros(12) if shift is None else shift.float()

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.flatten(1).float() - 127) / 74
        return pixels @ self.looks + self.error * pixels @ self.wrong + self.shift


def judged(folder: Path, thief: nn.Module, **options: Any) -> dict[str, float]:
    ctx = context(folder)
    pair = Pair(Victim("owner", Looks(0)), thief, LEARNERS, TASK, ctx)
    return measure(CreditVerification(sigma=SIGMA, **options), pair, ctx).values


def test_a_thief_tells_of_the_answers_and_one_that_was_not_stolen_does_not(tmp_path: Path) -> None:
    shift = SIGMA * draw_direction(12, 0)
    stolen, other = judged(tmp_path, Looks(0, 0.5, shift)), judged(tmp_path, Looks(1))
    for found in (stolen, other):
        assert found["credit/victim/information"] > 0.5 and abs(found["credit/control/information"]) < 0.1
        excess = found["credit/thief/information"] - found["credit/control/information"]
        assert found["credit/excess"] == pytest.approx(excess)
    assert 0.3 < stolen["credit/thief/information"] < stolen["credit/victim/information"]
    assert stolen["credit/excess"] > 0.3 > 0.1 > abs(other["credit/excess"])
    assert stolen["credit/thief/shift"] == pytest.approx(1, abs=0.3) and stolen["credit/thief/shift_p"] < 1e-3
    assert other["credit/thief/shift_p"] > 0.01
    elsewhere = judged(tmp_path, Looks(0, 0.5, shift), direction=1)
    assert elsewhere["credit/thief/shift_p"] > 0.01, "another owner's direction"
    assert elsewhere["credit/thief/information"] == pytest.approx(stolen["credit/thief/information"], abs=1e-6)


def test_a_thief_of_other_numbers_has_no_shift(tmp_path: Path) -> None:
    thief = Looks(0)
    thief.aligned = False
    found = judged(tmp_path, thief)
    assert not [name for name in found if "shift" in name] and found["credit/thief/information"] > 0.5


def test_answers_are_those_of_the_defense_in_distribution() -> None:
    rows = torch.randn(400, 12, generator=torch.Generator().manual_seed(0))
    measurement = CreditVerification(sigma=SIGMA, direction=4)
    noise = measurement.answer(rows) - rows - SIGMA * draw_direction(12, 4)
    assert float(noise.std()) == pytest.approx(SIGMA, rel=0.05) and abs(float(noise.mean())) < 0.02
    assert torch.equal(measurement.answer(rows), measurement.answer(rows))


def test_the_shifts_p_is_the_share_of_random_directions() -> None:
    random = torch.Generator().manual_seed(0)
    victim, error = torch.randn(50, 6, generator=random), torch.randn(6, generator=random)
    thief = victim + error
    shift, p = find_shift(victim, thief, 0.5, 3)
    assert shift == pytest.approx(float(error.double() @ draw_direction(6, 3)) / 0.5, abs=1e-5)
    directions = torch.nn.functional.normalize(torch.randn(200_000, 6, generator=random), dim=1)
    share = float((directions @ error >= 0.5 * shift).float().mean())
    assert p == pytest.approx(share, abs=0.005)
    values = [find_shift(victim, thief, 0.5, seed)[1] for seed in range(400)]
    assert stats.kstest(values, "uniform").pvalue > 0.001, "of directions that nobody used, any p is as likely"
    assert find_shift(victim, victim, 0.5, 3) == (0.0, 0.5)
    assert find_shift(victim, victim + draw_direction(6, 3).float(), 1.0, 3)[1] < 1e-6
    assert find_shift(victim[:, :1], thief[:, :1], 0.5, 3)[1] == 0.5


def test_what_cannot_be_measured_is_refused_by_name(tmp_path: Path) -> None:
    few = replace(TASK, test=Images(PIXELS[:5], "few"))
    with pytest.raises(DataError, match=r"5 nearest of the test images, but there are 5 in all.*neighbours="):
        CreditVerification().check_task(few)
    for options, says in (
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": math.inf}, "sigma"),
        ({"images": 5}, "images must be more than the 5 neighbours"),
        ({"neighbours": 0}, "neighbours"),
        ({"permutations": 0}, "permutations"),
        ({"dimensions": 0}, "dimensions"),
    ):
        with pytest.raises(ConfigError, match=rf"evaluation\.also\.credit\.{says}"):
            CreditVerification(**options)  # type: ignore[arg-type]
    with pytest.raises((DataError, ConfigError), match=r"none\.pth"):
        spec = BackboneSpec("resnet10t", size=32, weights=str(tmp_path / "none.pth"))
        CreditVerification(control=spec).check_victim(LEARNERS[0])
    with pytest.raises(ConfigError, match=r"is made for embeddings"):
        answers.check(composed("evaluation=credit"))


def test_the_config_names_it_and_its_defense_has_the_same_defaults() -> None:
    cfg = composed("task=embed", "defense=credit", "evaluation=credit")
    build.check(cfg)
    made, defense = list_measurements(build.make(cfg.evaluation))["credit"], build.make(cfg.defense)
    assert made == CreditVerification() and (made.sigma, made.direction) == (defense.sigma, defense.seed)
