"""A cell's run has the means and intervals that the report's table has, and is one run however often it is sent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import wandb

from fmsteal.base.store import read_json, write_json
from fmsteal.report.commands import main
from fmsteal.report.show.cells import send
from tests.support.job_folders import asked, axis, begun
from tests.support.sweeps import finished
from tests.support.wandb_file import OfflineRun, offline_runs

WANDB = "{_target_: fmsteal.tracking.wandb.WandbTracking, mode: offline, project: theirs, tags: [mine]}"
SHARES = {"knockoff": (0.5, 0.75, 0.625), "jbda": (0.25, 0.375, 0.25)}


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login from outside."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_TAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()


def end(sweep: Path, attack: str, seed: int, share: float, tracker: str = WANDB) -> None:
    """Finish a job."""
    name = f"{attack}-{seed}"
    finished(sweep, name, share, attack=attack, seed=seed)
    config, file = sweep / name / ".hydra" / "config.yaml", sweep / name / "result.json"
    config.write_text(f"{config.read_text()}tracker: {tracker}\n")
    write_json(file, {**read_json(file), "sweep_id": "mine", "settings": {"thief.recipe.lr": 0.1}, "notes": "why"})


def make_sweep(folder: Path, tracker: str = WANDB) -> Path:
    """Two cells of three seeds, and one that has only begun."""
    folder.mkdir()
    jobs = {f"{attack}-{seed}": axis(seed, attack=attack) for attack in (*SHARES, "solve") for seed in range(3)}
    for attack, shares in SHARES.items():
        for seed, share in enumerate(shares):
            end(folder, attack, seed, share, tracker)
    begun(folder, "solve-0")
    asked(folder, jobs)
    return folder


def cells(sweep: Path) -> dict[str, OfflineRun]:
    """The last run of each cell, by attack."""
    found = {run.config["axis_attack"]: run for run in offline_runs(sweep / "cells")}
    assert {run.run.job_type for run in found.values()} <= {"cell"}
    return found


def test_a_cells_run_has_the_figures_of_the_reports_table(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "mine")
    main(["cells", str(sweep)])
    main(["report", str(sweep), "--formats", "md"])
    runs = cells(sweep)
    assert runs.keys() == SHARES.keys()
    for attack, run in runs.items():
        lines = (sweep / "report" / "table.md").read_text().splitlines()
        (row,) = [line for line in lines if re.search(rf"\b{attack}\b", line) and "|" in line]
        mean, half = run.summary["test/agreement"], run.summary["test/agreement_half"]
        low, high = run.summary["test/agreement_low"], run.summary["test/agreement_high"]
        said = [float(number) for number in re.findall(r"-?\d*\.\d+", row)]
        wanted = [mean, half] if abs((low + high) / 2 - mean) < 1e-3 else [mean, low, high]
        assert said[: len(wanted)] == pytest.approx(wanted, abs=6e-4 if said[0] < 1 else 6e-2), row
        assert mean == pytest.approx(sum(SHARES[attack]) / 3) and half == pytest.approx((high - low) / 2)
        assert run.summary["n"] == run.summary["n_asked"] == 3 and "test/agreement_n" not in run.summary


def test_a_cells_run_has_the_columns_of_its_jobs_and_an_id_of_its_own(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "mine")
    found = send(sweep)
    assert (found.sent, found.unchanged, found.unfinished, found.without) == (2, 0, 1, 0)
    runs = cells(sweep)
    run = runs["knockoff"]
    assert (run.run.run_group, run.run.project, run.run.notes) == ("mine", "theirs", "why")
    assert list(run.run.tags)[:1] == ["mine"] and "attack=knockoff" in run.run.tags
    assert run.config["axis_victim"] == "a" and run.config["axis_seed"] is None
    assert run.config["config"]["seeds"] == [0, 1, 2] and run.config["config"]["settings"] == {"thief_recipe_lr": 0.1}
    assert run.run.display_name == "a <- t · knockoff" and run.exit_code == 0
    assert len({each.run.run_id for each in runs.values()}) == 2


def test_what_has_not_changed_is_not_sent_again_and_what_has_is_the_same_run(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path / "mine")
    send(sweep)
    before = cells(sweep)
    assert (again := send(sweep)).sent == 0 and again.unchanged == 2
    end_again = sweep / "jbda-2" / "result.json"
    result: dict[str, Any] = read_json(end_again)
    write_json(end_again, {**result, "metrics": {**result["metrics"], "test/agreement": 0.5}})
    assert send(sweep).sent == 1
    after = cells(sweep)
    assert after["jbda"].run.run_id == before["jbda"].run.run_id
    assert after["jbda"].summary["test/agreement"] == pytest.approx(0.375)
    assert send(sweep, again=True).sent == 2


def test_a_sweep_without_a_service_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_sweep(tmp_path / "plain", "{_target_: fmsteal.tracking.base.CsvTracking}")
    left_out = make_sweep(tmp_path / "left", "{_target_: fmsteal.tracking.wandb.WandbTracking, cells: false}")
    for sweep in (plain, left_out):
        assert send(sweep).without == 2 and not (sweep / "cells").exists()
        with pytest.raises(SystemExit, match=r"went to no service that shows runs: tracker=none, or"):
            main(["cells", str(sweep)])
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert send(make_sweep(tmp_path / "disabled")).without == 2
    monkeypatch.delenv("WANDB_MODE")
    assert send(tmp_path / "disabled").sent == 2


def test_cells_go_to_tensorboard_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sweep = make_sweep(tmp_path / "mine", "{_target_: fmsteal.tracking.tensorboard.TensorBoardTracking}")
    assert send(sweep).sent == 2
    means = []
    for folder in sweep.glob("cells/*/tensorboard"):
        (point,) = EventAccumulator(str(folder)).Reload().Scalars("test/agreement")
        means.append(point.value)
    assert sorted(means) == pytest.approx(sorted(sum(shares) / 3 for shares in SHARES.values()))
