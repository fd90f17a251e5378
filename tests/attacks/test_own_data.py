"""Thieves that ask nothing: what they are trained on, what it costs, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.own_data import find_labelled_images
from fmsteal.attacks.selection import random
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config import build
from fmsteal.data.digits import digits
from tests.support import colour_api
from tests.support.commands import Run
from tests.support.composing import composed
from tests.support.small_task import context

TASK = digits(size=8, test=60, train_count=300)


def test_unseen_images_are_none_of_the_victims(tmp_path: Path) -> None:
    unseen = find_labelled_images(build.make(composed("attack=own_data").attack), TASK)
    assert unseen is not None and len(unseen) == 1797 - 60 - 300
    seen = set(TASK.train.image_digests(np.arange(300)))  # digits has a few scans twice
    assert len(seen & set(unseen.image_digests(np.arange(len(unseen))))) < 5
    assert find_labelled_images(build.make(composed("attack=own_data_ceiling").attack), TASK) is TASK.train
    assert find_labelled_images(build.make(composed("attack=knockoff").attack), TASK) is None


def test_the_thief_is_the_one_trained_on_those_labels(tmp_path: Path) -> None:
    cfg, labels = composed(*colour_api.QUICK, "attack=own_data", "attack.images=30"), np.arange(80) % 4
    images = replace(colour_api.POOL, labels=labels, classes=tuple("abcd"))
    ctx = context(tmp_path)
    oracle = colour_api.oracle_for(ctx, 0)
    attack = AttackContext(build.make(cfg.thief), ctx, labelled=images)
    thief = build.make(cfg.attack).run(oracle, colour_api.POOL, attack)
    assert oracle.used == 0
    ids = random(80, 30, ctx.seed)
    again = AttackContext(build.make(cfg.thief), context(tmp_path / "again"))
    answers = F.one_hot(torch.from_numpy(labels[ids]), 4).float()
    due = again.fit_thief(colour_api.POOL, ids, answers, soft_cross_entropy)
    assert colour_api.same_weights(thief, due)


def test_what_is_not_there_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trained on all of the 1737 that there are.*data\.train_count=N"):
        find_labelled_images(build.make(composed("attack=own_data").attack), digits(size=8, test=60))
    more = build.make(composed("attack=own_data", "attack.images=1438").attack)
    with pytest.raises(ConfigError, match=r"attack\.images=1438 is more than the 1437 .* did not see: choose"):
        find_labelled_images(more, TASK)
    ceiling = build.make(composed("attack=own_data_ceiling", "attack.images=301").attack)
    with pytest.raises(ConfigError, match="301 is more than the 300 labelled images that the victim was trained on"):
        find_labelled_images(ceiling, TASK)
    with pytest.raises(ConfigError, match=r"attack\.images must be at least 1"):
        build.make(composed("attack=own_data", "attack.images=0").attack)
    ctx = context(tmp_path)
    with pytest.raises(AttackError, match="was handed none"):
        attack = AttackContext(build.make(composed(*colour_api.QUICK).thief), ctx)
        build.make(composed("attack=own_data").attack).run(colour_api.oracle_for(ctx, 0), colour_api.POOL, attack)


@pytest.mark.slow
def test_a_job_of_no_query_goes_all_the_way(fmsteal: Run, tmp_path: Path) -> None:
    words = ("experiment=smoke", "tracker=none", "trainer=cpu", "data.train_count=400", "attack=own_data", "budget=0")
    done = fmsteal(*words, "attack.images=200")
    assert "0 of 0" in done.stdout
    refused = fmsteal(*words, "budget=100", ok=False)
    assert "asks nothing, but the budget is 100 queries. Set budget=0" in refused.stdout + refused.stderr
    fmsteal("-m", *words, "attack=own_data,own_data_ceiling", "attack.images=100", "sweep_id=none")
    assert "all 2 results are what their predictions say" in fmsteal("verify", "outputs/sweeps/none").stdout
