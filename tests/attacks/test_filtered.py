from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fmsteal.attacks.filtered import Filtered, find_nearest
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.selection import random
from fmsteal.base.errors import ConfigError
from fmsteal.defenses.base import RowDefense
from fmsteal.oracle.guard import Ask
from fmsteal.training.inference import compute_outputs
from fmsteal.victims.base import Victim
from tests.attacks.brightest_api import POOL, Brightest, thief_of
from tests.support.an_api import in_front_of
from tests.support.small_task import context


@pytest.mark.parametrize("drop", [0.1, 0.25, 0.99])
def test_the_farthest_answers_are_left_out(drop: float) -> None:
    generator = torch.Generator().manual_seed(3)
    answers, expected = torch.rand(17, 4, generator=generator), torch.rand(17, 4, generator=generator)
    rows = zip(answers.tolist(), expected.tolist(), strict=True)
    apart = [sum(abs(a - e) for a, e in zip(*pair, strict=True)) for pair in rows]
    kept = find_nearest(answers, expected, drop)
    assert kept.tolist() == sorted(kept) and len(kept) == 17 - int(17 * drop)
    left = set(range(17)) - set(kept.tolist())
    assert max(apart[i] for i in kept) < min(apart[i] for i in left)


class SometimesWrong(RowDefense):
    """Turns the answers of a fifth of the images round: the brightest channel is called another."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        wrong = torch.arange(len(answers)) % 5 == 0
        return torch.where(wrong[:, None], answers.roll(1, dims=1), answers)


def test_a_thief_without_the_wrong_answers_is_nearer_to_the_victim(tmp_path: Path) -> None:
    shares = {}
    for name, attack in {
        "all": Knockoff(random, soft_cross_entropy),
        "kept": Filtered(random, soft_cross_entropy),
    }.items():
        ctx = context(tmp_path / name)
        victim = Victim("brightest", Brightest(), "probabilities")
        oracle = in_front_of(victim, POOL, ctx, 60, SometimesWrong())
        thief = attack.run(oracle, POOL, thief_of(ctx))
        wanted = Brightest()(torch.from_numpy(np.array(POOL.pixels))).softmax(1)
        got = compute_outputs(thief, POOL, np.arange(60), ctx).softmax(1)
        shares[name] = float((got - wanted).abs().sum(1).mean())
        assert oracle.used == 60
    assert shares["kept"] < shares["all"], shares


@pytest.mark.parametrize("drop", [0.0, 1.0, -0.5])
def test_a_share_that_leaves_all_or_nothing_is_refused(drop: float) -> None:
    with pytest.raises(ConfigError, match=r"attack\.drop must be above 0 and below 1"):
        Filtered(random, soft_cross_entropy, drop)
