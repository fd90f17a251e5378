"""What the bandit itself costs, without victim and thief: 1,600 questions in batches of 32, 1,000 arms (ImageNet).

    OMP_NUM_THREADS=1 pytest tests/bench/test_bandit.py -n 0 --benchmark-enable --benchmark-only -s

Beside a plain restatement of the paper: the policy computed over all arms for each draw and each update, in Python.
Both take turns, are given the same answers and must draw the same images; the figure is the median of the paired
ratios. Claim: 70 % of the known ratio (7.5).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pytest_benchmark.fixture import BenchmarkFixture

from fmsteal.attacks.bandit import Bandit, Shelves
from fmsteal.attacks.bandit_rewards import Rewards
from tests.bench.turns import paired

QUESTIONS, BATCH, ARMS, CLASSES, WINDOW = 1600, 32, 1000, 10, 25
POOL = 20_000
OF = np.arange(POOL) % ARMS
ANSWERS = np.random.default_rng(0).dirichlet(np.ones(CLASSES), POOL).astype(np.float32)
CERTAIN = np.diff(np.sort(ANSWERS, axis=1)[:, -2:], axis=1)[:, 0].astype(np.float64)
LOSS = np.random.default_rng(1).random(POOL)
CLAIM = 5.2


def plain() -> list[int]:
    random = np.random.default_rng(2)
    shelves = [random.permutation(np.flatnonzero(arm == OF)).tolist() for arm in range(ARMS)]
    preferences, counts, asked = [0.0] * ARMS, [0] * ARMS, list[int]()
    series: dict[str, list[float]] = {"certainty": [], "diversity": [], "loss": []}

    def policy(open_: list[bool]) -> list[float]:
        top = max(h for h, o in zip(preferences, open_, strict=True) if o)
        weights = [math.exp(h - top) if o else 0.0 for h, o in zip(preferences, open_, strict=True)]
        total = sum(weights)
        return [w / total for w in weights]

    for _ in range(0, QUESTIONS, BATCH):
        open_ = [bool(ids) for ids in shelves]
        drawn = []
        for _ in range(BATCH):
            arm = int(random.choice(ARMS, p=policy([bool(ids) for ids in shelves])))
            drawn.append((arm, shelves[arm].pop()))
        for arm, image in drawn:
            asked.append(image)
            past = ANSWERS[asked[-WINDOW:]].astype(np.float64)
            series["certainty"].append(float(CERTAIN[image]))
            series["diversity"].append(float(np.maximum(0, past[-1] - past.mean(axis=0)).sum()))
            series["loss"].append(float(LOSS[image]))
            advantage = 0.0
            for values in series.values():
                last = values[-WINDOW:]
                spread = max(last) - min(last)
                advantage += (last[-1] - sum(last) / len(last)) / spread / 3 if spread > 1e-6 else 0.0
            counts[arm] += 1
            chances = policy(open_)
            for a in range(ARMS):
                preferences[a] += advantage / counts[arm] * ((a == arm) - chances[a])
    return asked


def ours() -> list[int]:
    random, asked = np.random.default_rng(2), list[int]()
    shelves: Shelves = Shelves(OF, random)
    bandit, rewards = Bandit(ARMS), Rewards(("certainty", "diversity", "loss"), WINDOW)
    for _ in range(0, QUESTIONS, BATCH):
        open_: npt.NDArray[np.bool_] = shelves.open.copy()
        for arm, image in shelves.draw(bandit, BATCH, random):
            asked.append(image)
            found = {"certainty": float(CERTAIN[image]), "loss": float(LOSS[image])}
            bandit.update(arm, rewards.advantage(ANSWERS[image], found), open_)
    return asked


def test_bandit(benchmark: BenchmarkFixture) -> None:
    def same(theirs: list[int], mine: list[int]) -> None:
        assert theirs == mine and len(set(mine)) == QUESTIONS

    paired(benchmark, plain, ours, same, CLAIM, row=("the bandit, 1,000 arms", "plain Python", "all picks"))
