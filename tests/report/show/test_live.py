from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from fmsteal.base.lease import lease
from fmsteal.base.store import write_json
from fmsteal.records.results import MISSING, JobOnDisk
from fmsteal.report.show import live
from fmsteal.report.show.live import Display, StageJobs, Watch
from tests.support.job_folders import begun, finish


def stage(sweep: Path, *keys: str, **more: object) -> StageJobs:
    jobs = {key: JobOnDisk(key, sweep / key, MISSING, "thief", (f"seed={i}",)) for i, key in enumerate(keys)}
    return StageJobs("thieves", jobs, {"a": "first"}, **more)  # type: ignore[arg-type]


def fail(folder: Path) -> None:
    write_json(
        folder / "failure.json", {"job_key": folder.name, "error": "ValueError: of\nmany lines", "stage": "thief"}
    )


def test_a_job_counts_once_it_has_ended(tmp_path: Path) -> None:
    watch = Watch(stage(tmp_path, "a", "b", "c", before=5))
    assert watch.look() == [] and (watch.done, watch.failed, watch.total) == (5, 0, 8)
    with lease(begun(tmp_path, "a") / ".running", "job a"):
        assert watch.look() == [] and [job.key for job in watch.running] == ["a"]
        finish(tmp_path / "a")
        assert [job.key for job in watch.look()] == ["a"]
    fail(begun(tmp_path, "b"))
    assert [job.key for job in watch.look()] == ["b"] and watch.look() == []
    assert (watch.done, watch.failed, watch.running) == (6, 1, [])


def test_what_an_earlier_run_left_does_not_count(tmp_path: Path) -> None:
    fail(begun(tmp_path, "a"))
    finish(begun(tmp_path, "b"))
    watch = Watch(stage(tmp_path, "a", "b"))
    assert watch.look() == []  # failed before, to be run again; done before, and forced
    (tmp_path / "a" / "failure.json").unlink()
    finish(tmp_path / "a")
    time.sleep(0.01)
    finish(tmp_path / "b", seconds=11)
    assert [job.key for job in watch.look()] == ["a", "b"] and watch.failed == 0


def test_a_victim_has_ended_when_it_is_in_the_store(tmp_path: Path) -> None:
    there: set[str] = set()
    jobs = {"v": JobOnDisk("v", tmp_path / "v", MISSING, "victim")}
    watch = Watch(StageJobs("victims", jobs, {}, prepared=there.__contains__))
    begun(tmp_path, "v")
    assert watch.look() == []
    there.add("v")
    assert [job.state for job in watch.look()] == ["done"]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(live, "SILENT_SECONDS", 0.2)


@pytest.mark.usefixtures("fast")
def test_a_log_gets_a_line_for_each_job_and_one_now_and_then(tmp_path: Path) -> None:
    out = io.StringIO()
    with Display(stage(tmp_path, "a", "b"), Console(file=out, width=80)):
        time.sleep(0.5)
        finish(begun(tmp_path, "a"), seconds=7)
        time.sleep(0.3)
        fail(begun(tmp_path, "b"))
    lines = [line.partition("] ")[2] for line in out.getvalue().splitlines()]
    assert "thieves: 0 of 2 done" in lines
    assert [line for line in lines if "/2" in line] == [
        "1/2 first  agreement 0.500  7 s",
        "2/2 b  failed: many lines",
    ]


@pytest.mark.usefixtures("fast")
def test_a_terminal_has_the_bar_below_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, color_system=None)
    with Display(stage(tmp_path, "a", "b", before=1), console), lease(begun(tmp_path, "b") / ".running", "job b"):
        finish(begun(tmp_path, "a"), seconds=7)
        time.sleep(0.3)
        print("from a job")
    shown = out.getvalue()
    assert "thieves: 2 of 3 done, 1 under way, about 7 s left" in shown and "  b  starting  0 s" in shown
    assert "from a job" in shown and shown.index("] 2/3 first") < shown.rindex("2 of 3 done")


def test_quiet_shows_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with live.show_stage(stage(tmp_path, "a"), quiet=True):
        finish(begun(tmp_path, "a"))
    assert "".join(capfd.readouterr()) == ""


def test_a_look_reads_what_may_have_changed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the jobs that have ended, not those that were not begun: a thousand jobs cost a thousand stats."""
    keys = [f"j{i}" for i in range(1000)]
    for key in keys[:100]:
        begun(tmp_path, key)
    watch = Watch(stage(tmp_path, *keys))
    for key in keys[:99]:
        finish(tmp_path / key)
    assert len(watch.look()) == 99
    read: list[str] = []
    entry_of = live.results.read_job
    monkeypatch.setattr(live.results, "read_job", lambda folder: (read.append(folder.name), entry_of(folder))[1])
    assert watch.look() == [] and read == ["j99"]
