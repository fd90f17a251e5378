from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from fmsteal.base.store import write_json
from fmsteal.job.meter import Meter
from fmsteal.job.run import _clear_once
from fmsteal.records import results
from fmsteal.records.folders import JobFolder
from tests.support.composing import composed


def test_a_forced_job_begins_again_once_and_then_goes_on(tmp_path: Path) -> None:
    job = JobFolder(tmp_path)

    def leave_traces() -> None:
        for file in (job.result, job.predictions, job.curves, job.theft):
            file.write_text("{}")

    leave_traces()
    _clear_once(job)
    assert [p.name for p in tmp_path.iterdir()] == ["work"]
    leave_traces()  # a forced run under way, then killed, then started again with force=true
    _clear_once(job)
    assert job.theft.exists() and job.curves.exists()


def test_a_result_counts_as_finished_only_for_the_untouched_paths_it_was_made_from(tmp_path: Path) -> None:
    def cfg(name: str) -> DictConfig:
        return composed("data=image_folder", f"data.root={tmp_path / name / 'birds'}")

    for name in ("a", "b"):
        (tmp_path / name / "birds" / "wren").mkdir(parents=True)
    key, asked = "k-0123456789abcdef", results.digest_asked(cfg("a"))
    known = {"schema": 2, "job_key": key, "axis": {}, "asked": asked, "paths": results.stamp_paths(cfg("a"))}
    write_json(tmp_path / "result.json", known)
    assert results.find_finished(tmp_path, key, cfg("a")) is not None
    assert results.find_finished(tmp_path, "another-slug-0123456789abcdef", cfg("a")) is not None
    assert results.find_finished(tmp_path, key, cfg("b")) is None
    assert results.find_finished(tmp_path, "k-0123456789abcdee", cfg("a")) is None
    more = composed("data=image_folder", f"data.root={tmp_path / 'a' / 'birds'}", "evaluation=similarity")
    assert results.find_finished(tmp_path, key, more) is None
    (tmp_path / "a" / "birds" / "wren" / "new.png").touch()
    assert results.find_finished(tmp_path, key, cfg("a")) is None
    write_json(tmp_path / "result.json", {**known, "schema": 1, "paths": results.stamp_paths(cfg("a"))})
    assert results.find_finished(tmp_path, key, cfg("a")) is None, "of an earlier kind"


def test_costs_add_up_over_interrupted_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 105.0, 105.0, 105.0, 1000.0, 1002.5])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    first = Meter(tmp_path / "work" / "cost.json")
    first.save()
    second = Meter(tmp_path / "work" / "cost.json")
    assert second.read() == {"cost/seconds": 7.5, "cost/victim_forwards": 0}


def test_a_sweeps_folder_tells_finished_failed_and_unfinished_apart(tmp_path: Path) -> None:
    for name in ("done", "failed", "killed"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
    write_json(tmp_path / "done" / "result.json", {"job_key": "done", "axis": {}})
    write_json(tmp_path / "failed" / "failure.json", {"job_key": "failed", "error": "x"})
    (tmp_path / "no job").mkdir()
    write_json(tmp_path / "failed" / "result.json", {"job_key": "an older one"})
    sweep = results.read_sweep(tmp_path)
    assert [r["job_key"] for r in sweep.results] == ["done"]
    assert [r["job_key"] for r in sweep.failures] == ["failed"] and sweep.unfinished == ["killed"]
    assert results.read_sweep(tmp_path / "absent") == results.Sweep()
