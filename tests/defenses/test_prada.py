"""PRADA's flags against its published loop, with SciPy's test, on a stream that raises alarms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import shapiro
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.prada import Prada, compared
from fmsteal.oracle.guard import Ask
from fmsteal.oracle.ledger import Question
from tests.defenses.asking import guard_of

Pixels = npt.NDArray[np.uint8]
CLASSES = 4


class Agent:
    """The published agent, restated: one image at a time."""

    def __init__(self, delta: float) -> None:
        self.delta, self.alarm, self.processed = delta, False, 0
        self.sets: dict[int, list[Pixels]] = {}
        self.kept: dict[int, list[float]] = {}
        self.threshold: dict[int, float] = {}
        self.asked: dict[int, list[float]] = {}

    def ask(self, image: Pixels, label: int) -> bool:
        if label not in self.sets:
            self.sets[label], self.kept[label], self.threshold[label] = [image], [0.0], 0.0
        else:
            nearest = min(np.linalg.norm((image - other.astype(float)) / 255) for other in self.sets[label])
            self.asked.setdefault(label, []).append(float(nearest))
            if nearest > self.threshold[label]:
                self.sets[label].append(image)
                self.kept[label].append(float(nearest))
                new = np.mean(self.kept[label]) - np.std(self.kept[label])
                self.threshold[label] = max(self.threshold[label], float(new))
        if self.processed % 10 == 0:
            found = np.array([d for asked in self.asked.values() if len(asked) >= 10 for d in asked])
            found = found[np.abs(found - found.mean()) < 3 * found.std()] if len(found) else found
            if len(found) > 100:
                self.alarm = shapiro(found[-5000:]).statistic < self.delta
        self.processed += 1
        return self.alarm


def stream(count: int, seed: int = 0) -> tuple[Pixels, list[int], list[int]]:
    """Images, labels and clients: client 0 asks about smooth noise, client 1 soon about copies with a little noise."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    clients = random.integers(0, 2, count).tolist()
    for row in range(count):
        if clients[row] == 1 and row > count // 3 and row % 3:
            near = images[random.integers(0, row)].astype(int) + random.integers(-20, 21, (3, 32, 32))
            images[row] = near.clip(0, 255).astype(np.uint8)
    return images, random.integers(0, CLASSES, count).tolist(), clients


def ask_of(images: Pixels, labels: list[int], clients: list[int]) -> Ask:
    questions = [Question(c, i.tobytes()[:16], 0) for c, i in zip(clients, images, strict=True)]
    answers = torch.eye(CLASSES)[torch.tensor(labels)]
    return Ask(questions, answers, answers, lambda: torch.from_numpy(images))


def test_flags_are_those_of_the_published_loop() -> None:
    images, labels, clients = stream(900)
    agents = {0: Agent(0.9), 1: Agent(0.9)}
    wanted = [agents[c].ask(i, k) for i, k, c in zip(images, labels, clients, strict=True)]
    guard = guard_of(Prada(0.9), CLASSES)
    flags: list[bool] = []
    for start, end in ((0, 1), (1, 8), (8, 400), (400, 900)):
        ask = ask_of(images[start:end], labels[start:end], clients[start:end])
        said = guard.reply(ask)
        assert said.log is not None and torch.equal(said.answers, ask.answers)
        assert guard.reply(ask).log == said.log, "a reply changes nothing"
        flags += said.flags["prada"].tolist()
        guard.fold(ask.questions, said.log)
    assert flags == wanted
    alarms = [flag for flag, client in zip(flags, clients, strict=True) if client == 1]
    assert 20 < sum(alarms) < len(alarms) and sum(flags) == sum(alarms), "client 0 is not to blame"
    again = guard_of(Prada(0.9), CLASSES)  # one that goes on from a log
    logs = [guard_of(Prada(0.9), CLASSES).reply(ask_of(images, labels, clients)).log]
    assert logs[0] is not None
    again.fold(ask_of(images, labels, clients).questions, logs[0])
    more = ask_of(*stream(30, seed=1))
    assert again.reply(more).log == guard.reply(more).log


def test_images_of_any_size_and_kind_are_compared_alike(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    small = torch.from_numpy(random.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))
    assert compared(small).shape == (5, 3072) and (compared(small) == small.flatten(1).numpy()).all()
    assert (compared(small.float() / 255) == compared(small)).all()
    large: Tensor = torch.from_numpy(random.integers(0, 256, (5, 3, 50, 70), dtype=np.uint8))
    assert all((compared(large[i : i + 1])[0] == compared(large)[i]).all() for i in range(5))


@pytest.mark.parametrize("delta", [0.0, 1.1, float("nan")])
def test_settings_without_meaning_are_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match=r"defense\.delta"):
        Prada(delta)
