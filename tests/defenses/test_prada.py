"""PRADA's flags against its published loop, with SciPy's test, on a stream that raises alarms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.defenses.prada import Prada, shrink
from tests.support.asking import guard_of
from tests.support.published_defenses import CLASSES, Agent, ask_of, stream


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
    assert shrink(small).shape == (5, 3072) and (shrink(small) == small.flatten(1).numpy()).all()
    assert (shrink(small.float() / 255) == shrink(small)).all()
    large: Tensor = torch.from_numpy(random.integers(0, 256, (5, 3, 50, 70), dtype=np.uint8))
    assert all((shrink(large[i : i + 1])[0] == shrink(large)[i]).all() for i in range(5))


@pytest.mark.parametrize("delta", [0.0, 1.1, float("nan")])
def test_settings_without_meaning_are_refused(delta: float) -> None:
    with pytest.raises(ConfigError, match=r"defense\.delta"):
        Prada(delta)
