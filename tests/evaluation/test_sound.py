"""A victim that answers one class, or by chance, is named before anything is asked of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fmsteal.base.errors import VictimError
from fmsteal.data.images import Images, Task
from fmsteal.evaluation.sound import answers_one_class, require_telling
from fmsteal.victims.base import Victim
from tests.support.commands import Run
from tests.support.composing import SMALL
from tests.support.small_task import context

LABELS = np.arange(60) % 3
PIXELS = np.broadcast_to((LABELS * 80).astype(np.uint8)[:, None, None, None], (60, 3, 4, 4)).copy()
IMAGES = Images(PIXELS, "levels", LABELS, ("dark", "grey", "light"))
TASK = Task(IMAGES, IMAGES)


class Levels(nn.Module):
    """Tells the three levels apart, if ``scale`` is 1; else always answers 'grey', or what ``noise`` says."""

    width = 3

    def __init__(self, scale: float, noise: float = 0.0) -> None:
        super().__init__()
        self.scale, self.noise, self.weight = scale, noise, nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        level = images.float().mean((1, 2, 3)) / 80
        known = -(level[:, None] - torch.arange(3)).abs() * self.scale
        return known + torch.tensor([0.0, 0.1, 0.0]) + self.noise * torch.randn(len(images), 3)


def victim(net: nn.Module, **fields: object) -> Victim:
    return Victim(f"levels-{id(net)}", net.eval(), **fields)  # type: ignore[arg-type]


def test_a_victim_of_one_class_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(VictimError, match=r"the same class, 'grey', to all of the 60 test images.*victim\.recipe"):
        require_telling(victim(Levels(0.0)), TASK, context(tmp_path))


def test_a_random_victim_is_named_and_a_good_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ctx = context(tmp_path)
    good = victim(Levels(1.0))
    require_telling(good, TASK, ctx)
    assert not caplog.records
    assert good.calls.computed == {"measurement": 60}
    good.raw(TASK.test, np.arange(60), ctx)
    assert sum(good.calls.computed.values()) == 60, "the measurements find the answers"
    torch.manual_seed(0)
    require_telling(victim(Levels(0.0, noise=1.0)), TASK, ctx)
    assert "no more than chance: always answering the commonest class would be right on 20" in caplog.text


def test_where_it_cannot_be_told_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ctx = context(tmp_path)
    require_telling(victim(Levels(0.0), answers="embeddings"), TASK, ctx)
    require_telling(victim(Levels(0.0)), Task(IMAGES.unlabelled(), IMAGES.unlabelled()), ctx)
    alone = IMAGES.subset(np.flatnonzero(LABELS == 1))
    require_telling(victim(Levels(0.0)), Task(IMAGES, alone), ctx)
    assert not caplog.records
    assert not answers_one_class(torch.full((4, 3), torch.nan)) and not answers_one_class(torch.ones(1, 3))


def test_a_job_with_such_a_victim_ends_before_a_query(fmsteal: Run, tmp_path: Path) -> None:
    for name in "ab":  # of two classes that look the same
        (tmp_path / "alike" / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (8, 8), (90, 90, 90)).save(tmp_path / "alike" / name / f"{i}.png")
    said = fmsteal(*SMALL, "data=image_folder", "data.root=alike", "data.test_share=0.5", ok=False).stderr
    assert "The victim answers the same class" in said and "to all of the 6 test images" in said
    assert not list(tmp_path.rglob("ledger*")), "nothing was asked"
