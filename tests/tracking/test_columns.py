"""The names that a run has in W&B: those that W&B can sort, filter and group by, whatever ours are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb

from fmsteal.base.errors import ConfigError
from fmsteal.records.folders import JobFolder
from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.summary import check_summary
from fmsteal.tracking import columns
from fmsteal.tracking.base import RunInfo
from fmsteal.tracking.columns import make_notes, make_tags
from fmsteal.tracking.wandb import WandbTracking
from tests.support.wandb_file import OfflineRun, offline_runs
from tests.tracking.infos import info

SORTABLE = re.compile(r"[_a-zA-Z][_a-zA-Z0-9/-]*")  # W&B's rule, and the slash that makes sections


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login from outside."""
    for name in ("WANDB_API_KEY", "WANDB_TAGS", "WANDB_NOTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()


def tracked(run: RunInfo, figures: dict[str, float], **how: Any) -> OfflineRun:
    """The run of one job, as its file has it."""
    with WandbTracking(mode="offline", **how).open(run) as tracker:
        tracker.log({"thief/held_out@3": 0.5}, ("thief/epoch", 1))
        tracker.summary(figures)
        tracker.link("victim_run", {"id": "0123", "url": None})
    (found,) = offline_runs(run.folder)
    return found


def keys(value: Any) -> set[str]:
    """All keys of nested dictionaries."""
    if isinstance(value, list):
        return {key for inner in value for key in keys(inner)}
    return set(value).union(*map(keys, value.values())) if isinstance(value, dict) else set()


def test_no_column_has_a_dot_and_no_figure_another_mark(tmp_path: Path) -> None:
    config = {"defense": {"k": 1}, "notes": {"table 2.1": "first"}, "evaluations": [{"a.b": {"c.d": 1}}]}
    run = tracked(replace(info(tmp_path), config=config), {"test/agreement@5": 0.7, "robustness/pgd10@0.5": 0.1})
    assert run.config["axis_victim"] == "v" and run.config["axis_victim_run"] == "0123"
    assert run.config["config"]["evaluations"] == [{"a_b": {"c_d": 1}}]
    assert not [key for key in keys({k: v for k, v in run.config.items() if k != "_wandb"}) if "." in key]
    assert run.summary["test/agreement_at_5"] == 0.7 and run.summary["robustness/pgd10_at_0_5"] == 0.1
    assert run.curve("thief/epoch", "thief/held_out_at_3") == [(1, 0.5)]
    assert all(SORTABLE.fullmatch(name) for name in run.names if not name.startswith("_wandb"))


def test_a_run_is_tagged_by_its_axes_and_noted_by_its_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_NOTES", "of the variable")
    wandb.teardown()
    run = replace(info(tmp_path), axis={"victim": "v" * 80, "attack": "knockoff", "defense": "none", "seed": 3})
    said = tracked(replace(run, config={"notes": {"why": "table 2", "by": {"whom": "me"}}}), {}, tags=["mine"])
    assert list(said.run.tags) == ["mine", f"victim={'v' * 57}", "attack=knockoff"]
    assert said.run.notes == "why: table 2\nby.whom: me"
    plain = tracked(replace(run, folder=tmp_path / "plain"), {}, axis_tags=[])
    assert not plain.run.tags and plain.run.notes == "of the variable"


def test_notes_may_be_plain_text_and_tags_come_once(tmp_path: Path) -> None:
    assert make_notes(replace(info(tmp_path), config={"notes": "a: b"})) == "a: b"
    assert make_notes(info(tmp_path)) == make_notes(replace(info(tmp_path), config={"notes": {}})) == ""
    assert make_tags(info(tmp_path), ["victim", "attack"], ["victim=v", "x"]) == ["victim=v", "x"]


def test_an_axis_that_is_none_is_no_tag() -> None:
    with pytest.raises(
        ConfigError, match=r"tracker\.axis_tags: there is no axis vicitm\. There are: task, data, victim"
    ):
        WandbTracking(axis_tags=["data", "vicitm"])


@pytest.mark.parametrize("old", [False, True], ids=["now", "before"])
def test_the_figures_of_runs_from_before_are_checked_too(
    old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old:  # version 0.1 sent our own names
        monkeypatch.setattr(columns, "spell_figures", dict)
    run = tracked(info(tmp_path), {"test/agreement@5": 0.7})
    assert ("test/agreement@5" in run.summary) is old
    (file,) = tmp_path.rglob("*.wandb")
    result: dict[str, Any] = {"tracker": f"offline; upload it with: wandb sync {file.parent}", "cost": {}}
    for value, faults in ((0.7, 0), (0.8, 1)):
        found = Findings()
        check_summary(JobFolder(tmp_path), {**result, "metrics": {"test/agreement@5": value}}, found)
        assert len(found.faults) == faults and found.counted["W&B runs"] == 1
