"""Every defense of conf/ keeps what it says of itself: `depends` decides how it is asked here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmsteal.base import paths
from fmsteal.config import build
from fmsteal.config.answers import choices
from fmsteal.oracle import blocks
from tests.support.asking import guard_of
from tests.support.composing import TINY, composed
from tests.support.guards import SIZE, WIDTH, api, files, patient

NAMES = sorted(path.stem for path in (paths.folder("conf") / "defense").glob("*.yaml"))
FEW_STEPS = ("recipes.scratch.epochs=1", "recipes.scratch.min_steps=0")  # of a network that a defense trains
FEW_IMAGES = ("defense.outliers.images.count=100",)
SMALL_NET = ("backbone@defense.net.backbone=resnet10t", f"defense.net.{TINY}", "defense.net.backbone.size=16")
SMALLER = {  # what it trains, or shows to a trunk
    "adaptive_misinformation": SMALL_NET,
    "adaptive_misinformation_oe": (*SMALL_NET, *FEW_IMAGES),
    "ensemble": (*SMALL_NET, *FEW_IMAGES),
    "misleader": SMALL_NET,
    "probe_misdirect": ("defense.trunk.size=32",),
    "unprobeable": FEW_IMAGES,
}
TRAINED_LONG = (  # tests of their own show what they do
    "adaptive_misinformation_oe", "ensemble", "gradient_redirection", "misleader", "probe_misdirect",
)  # fmt: skip
LINKS = ("+defense@defense.of.a=top_k", "+defense@defense.of.b=rounding")


def made(name: str) -> Any:
    """The defense, for whichever task it is."""
    task = "classify" if name in choices("defense", "probabilities") else "embed"
    links = LINKS if name == "chain" else ()
    return build.make(composed(f"task={task}", f"defense={name}", *FEW_STEPS, *SMALLER.get(name, ()), *links).defense)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in TRAINED_LONG else name for name in NAMES]
)
def test_it_depends_on_no_more_than_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is answered alike in blocks of 1, 7 and 512; what remembers, in any pieces of the same order."""
    defense = made(name)
    assert defense.depends in ("row", "client", "all", "batch")
    orders = [np.arange(SIZE).repeat(2)] * 3
    if defense.depends == "row":
        orders[1] = np.random.default_rng(0).permutation(SIZE).repeat(2)
    left: list[Any] = []
    for size, order in zip((1, 7, 512), orders, strict=True):
        monkeypatch.setattr(blocks, "ANSWERED_AT_ONCE", size)
        folder = tmp_path / str(size)
        oracle = api(folder, guard_of(defense, WIDTH))
        rows: dict[int, list[Any]] = {}
        for part in np.array_split(order, 1 if defense.depends == "batch" else size):
            answers, answered = patient(lambda ask=oracle.ask, ids=part: ask(ids))  # type: ignore[misc]
            for image, row in zip(part[answered].tolist(), answers.tolist(), strict=True):
                rows.setdefault(image, []).append(row)
        left.append(rows if defense.depends == "row" else files(folder))
    assert left[0] == left[1] == left[2]
