"""Event files are read back by TensorBoard's own reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fmsteal.base.errors import ConfigError
from fmsteal.tracking import loggers
from fmsteal.tracking.tensorboard import ROWS, TensorBoardTracking
from tests.tracking.infos import info

pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    """The events of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard"), {"tensors": 0, "scalars": 0, "images": 0}).Reload()


def points(events: Any, name: str) -> list[tuple[int, float]]:
    return [(each.step, pytest.approx(each.value)) for each in events.Scalars(name)]


def text(events: Any, name: str) -> str:
    return str(events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode())


def test_curves_figures_columns_texts_tables_and_pictures_are_there(tmp_path: Path) -> None:
    run = replace(info(tmp_path), config={"seed": 0, "notes": {"why": "table 2"}})
    with TensorBoardTracking().open(run) as tracker:
        for epoch in (1, 2):
            tracker.log({"thief/loss": 1.0 / epoch, "thief/held_out@3": 0.5}, ("thief/epoch", epoch))
        tracker.link("victim_run", {"id": "0123", "url": None})
        tracker.summary({"test/agreement": 0.5, "test/agreement@5": 0.75})
        tracker.table("test/per_class", ("name", "share"), [("a", 0.5)] + [("b", None)] * ROWS)
        tracker.images("test/disagreements", [(Image.new("RGB", (4, 3), (0, 160, 60)), "victim: 1")] * 2)
        assert tracker.place == f"tensorboard --logdir {tmp_path / 'tensorboard'}"
    events = read(tmp_path)
    assert points(events, "thief/loss") == [(1, 1.0), (2, 0.5)] and points(events, "thief/held_out_at_3")[0] == (1, 0.5)
    assert points(events, "test/agreement") == [(0, 0.5)] and points(events, "test/agreement_at_5") == [(0, 0.75)]
    assert text(events, "notes") == "why: table 2" and "    seed: 0" in text(events, "config")
    shown = text(events, "test/per_class").splitlines()
    assert (
        shown[:3] == ["name | share", "--- | ---", "a | 0.5"]
        and shown[-1] == "1 more rows in tables/test/per_class.csv"
    )
    assert len((tmp_path / "tables/test/per_class.csv").read_text().splitlines()) == ROWS + 2
    assert len(events.Tags()["images"]) == 2 and "0. victim: 1" in text(events, "test/disagreements")
    (image,) = events.Images("test/disagreements/0")
    assert (image.width, image.height) == (4, 3)
    assert (tmp_path / "metrics.csv").read_text().count("thief/loss") == 2
    session = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"axis_victim" in session and b"axis_victim_run" in session and b"0123" in session


def test_a_job_that_goes_on_has_each_point_once(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), TensorBoardTracking().open(info(tmp_path)) as tracker:
        tracker.log({"thief/loss": 1.0}, ("thief/epoch", 1))
        raise ZeroDivisionError
    with TensorBoardTracking().open(info(tmp_path)) as tracker:
        tracker.log({"thief/loss": 0.5}, ("thief/epoch", 2))
    assert points(read(tmp_path), "thief/loss") == [(1, 1.0), (2, 0.5)]


def test_without_tables_none_are_shown(tmp_path: Path) -> None:
    with TensorBoardTracking(tables=False).open(info(tmp_path)) as tracker:
        tracker.table("test/confusion", ("a",), [(1,)])
        tracker.images("test/disagreements", [(Image.new("RGB", (4, 3)), "")])
    tags = read(tmp_path).Tags()
    assert not tags["images"] and not any("confusion" in name for name in tags["tensors"])
    assert (tmp_path / "tables/test/confusion.csv").is_file()


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"tracker=tensorboard needs tensorboard.*pip install 'fmsteal\[tensorboard\]'"
    ):
        TensorBoardTracking()
