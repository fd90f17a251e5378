from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fmsteal.base.errors import ConfigError, StoreError
from fmsteal.base.store import read_json, write_json
from fmsteal.job import victims
from fmsteal.records import results
from fmsteal.records.prepared import is_prepared
from fmsteal.sweep import record
from fmsteal.sweep.grid import Grid, SweepJob
from tests.support.composing import composed


def grid(fixed: dict[str, object], *keys: str, varied: frozenset[str] = frozenset()) -> Grid:
    cell = SweepJob(("seed=0",), "k", {"victim": "a"}, "c", Path("k"), "v", Path("cache"), 1, 0.0, False, False)
    return Grid([replace(cell, key=key) for key in keys], fixed, varied)


def test_a_grid_may_grow_but_not_become_another(tmp_path: Path) -> None:
    first = grid({"data.size": 8, "budget.queries": 100, "attack.name": "a"}, "one", "two")
    record.require_same(tmp_path, first)  # nothing is there
    record.write(tmp_path, first, "fmsteal -m", {})
    record.require_same(tmp_path, first)
    new_axis = frozenset({"budget.queries"})
    grown = grid({"data.size": 8, "attack.name": "a"}, "two", "three", varied=new_axis)
    record.require_same(tmp_path, grown)
    record.write(tmp_path, grown, "fmsteal -m more", {"main": "/frozen"})
    found = read_json(tmp_path / "sweep.json")
    assert list(found["jobs"]) == ["one", "three", "two"] and found["command"] == "fmsteal -m more"
    assert found["fixed"] == {"data.size": 8, "attack.name": "a"}
    record.require_same(tmp_path, grid({"data.size": 8, "budget.queries": 7}, "four"))  # varied before: no conflict
    with pytest.raises(ConfigError, match=r"other settings \(data.size: 8, now 9\).*sweep_id=.*mixed=true"):
        record.require_same(tmp_path, grid({"data.size": 9}, "four"))


def test_a_setting_that_is_left_out_is_at_its_default(tmp_path: Path) -> None:
    record.write(tmp_path, grid({"attack.name": "a", "attack.k": 2}, "one"), "fmsteal -m", {})
    with pytest.raises(ConfigError, match=r"attack\.k: 2, now default"):
        record.require_same(tmp_path, grid({"attack.name": "a"}, "two"))
    with pytest.raises(ConfigError, match=r"attack\.n: default, now 3"):
        record.require_same(tmp_path, grid({"attack.name": "a", "attack.k": 2, "attack.n": 3}, "two"))
    record.require_same(tmp_path, grid({"attack.name": "a"}, "two", varied=frozenset({"attack.k"})))
    record.require_same(tmp_path, grid({}, "two", varied=frozenset({"attack.name", "attack.k"})))


def test_a_sweep_of_an_earlier_version_is_read_and_not_continued(tmp_path: Path) -> None:
    write_json(tmp_path / "sweep.json", {"schema": 1, "fixed": {}, "jobs": {"k": {"victim": "v"}}, "command": "c"})
    assert results.read_sweep(tmp_path).waiting == {"k": "v"}
    with pytest.raises(ConfigError, match=r"begun by an earlier fmsteal.*sweep_id=") as found:
        record.refuse_earlier(tmp_path)
    assert str(tmp_path) in str(found.value) and "\n" not in str(found.value)


def test_the_record_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "sweep.json", {"schema": record.SCHEMA + 1})
    with pytest.raises(StoreError, match="newer fmsteal"):
        record.require_same(tmp_path, grid({}))


def test_the_folder_tells_what_was_never_begun_and_whose_victim_failed(tmp_path: Path) -> None:
    record.write(tmp_path, grid({}, "begun", "waits"), "fmsteal -m x", {})
    (tmp_path / "begun" / ".hydra").mkdir(parents=True)
    (tmp_path / "victims" / "v" / ".hydra").mkdir(parents=True)
    write_json(tmp_path / "victims" / "v" / "failure.json", {"job_key": "v", "error": "E: x"})
    sweep = results.read_sweep(tmp_path)
    assert (sweep.unfinished, sweep.waiting, sweep.command) == (["begun"], {"waits": "v"}, "fmsteal -m x")
    assert [failure["job_key"] for failure in sweep.victims] == ["v"] and sweep.failures == []


def test_a_victim_is_ready_while_its_artifact_and_its_sources_are_there_untouched(tmp_path: Path) -> None:
    (tmp_path / "birds" / "wren").mkdir(parents=True)
    cfg = composed("data=image_folder", f"data.root={tmp_path / 'birds'}", f"cache={tmp_path / 'cache'}")
    place = tmp_path / "cache" / "victims" / "x"
    place.mkdir(parents=True)
    assert not victims.is_ready(cfg, "key")
    victims.remember(cfg, "key", "x-1", place)
    assert victims.is_ready(cfg, "key") and not victims.is_ready(cfg, "another")
    (tmp_path / "birds" / "wren" / "new.png").touch()
    assert not victims.is_ready(cfg, "key") and is_prepared(tmp_path / "cache", "key")
    victims.remember(cfg, "key", "x-1", place)
    assert victims.is_ready(cfg, "key")
    place.rmdir()
    assert not victims.is_ready(cfg, "key") and not is_prepared(tmp_path / "cache", "key")
    victims.remember(cfg, "key", "remote", None)
    assert victims.is_ready(cfg, "key")


def test_the_run_that_made_a_victim_is_known_to_later_jobs(tmp_path: Path) -> None:
    cfg = composed(f"cache={tmp_path}")
    first, second = {"id": "1", "url": None}, {"id": "2", "url": "https://wandb.example.org/2"}
    assert victims.remember(cfg, "key", "x-1", tmp_path / "x", first) == first
    assert victims.remember(cfg, "key", "x-1", tmp_path / "x", second) == first
    assert victims.remember(cfg, "key", "x-2", tmp_path / "x", second) == second  # made again
    assert victims.remember(cfg, "untracked", "y-1", tmp_path / "y") is None
    assert victims.remember(cfg, "untracked", "y-1", tmp_path / "y", first) is None  # it only found it
