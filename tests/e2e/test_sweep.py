"""Multiruns: every job is checked first, each victim is made once, one failure does not hide the rest."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import Run, environment
from tests.support.composing import SMALL, SMOKE
from tests.support.wandb_file import offline_runs
from tests.support.warm import Command

ATTACK = '''
import sys
from dataclasses import dataclass
from pathlib import Path

from fmsteal.attacks.knockoff import Knockoff


@dataclass(frozen=True)
class Own(Knockoff):
    """Ends in a way of its own, or spoils the configs for whoever reads them later."""

    how: str = "well"

    def run(self, oracle, pool, ctx):
        if self.how == "exits":
            sys.exit(3)
        if self.how == "raises":
            raise RuntimeError("of many\\nlines")
        if self.how == "spoils":
            Path("conf/attack/own.yaml").write_text("nonsense: [")
        return super().run(oracle, pool, ctx)
'''
YAML = "defaults: [knockoff, _self_]\n_target_: theirs.Own\nhow: well\n"


def results(root: Path) -> list[dict[str, object]]:
    return [json.loads(p.read_text()) for p in sorted(root.glob("outputs/sweeps/*/*/result.json"))]


def victims(root: Path) -> list[Path]:
    return sorted((root / "outputs" / "cache" / "victims").iterdir())


def own(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a sweep with an attack from another package, whose configs lie in ``conf/``."""
    (root / "conf" / "attack").mkdir(parents=True, exist_ok=True)
    (root / "conf" / "attack" / "own.yaml").write_text(YAML)
    (root / "theirs.py").write_text(ATTACK)
    env = environment()
    env["PYTHONPATH"] = f"{root}{os.pathsep}{env.get('PYTHONPATH', '')}"
    return Command(("-m", "--config-dir=conf", *SMALL, "attack=own", "sweep_id=own", *args), root, env).done()


MINE = ("-m", *SMALL, "tracker=wandb", "defense=none,hard_label", "seed=0,1", "victim.seed=0", "sweep_id=mine")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def done(root: Path) -> subprocess.CompletedProcess[str]:
    """The sweep `MINE` below ``root``, planned and run."""
    plan = run(root, *MINE, "dry_run=true").stdout
    assert not (root / "outputs").exists()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in plan.splitlines()]
    assert ["victim", "1", "0", "1", "-", "-"] in [row[:6] for row in rows]
    assert ["thief", "4", "0", "4", "400", "0.60"] in [row[:6] for row in rows] and "arithmetic" in plan
    return run(root, *MINE)


def run(root: Path, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = Command(words, root, environment()).done()
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done


def test_a_sweep_runs_every_combination_and_again_runs_none(root: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert len(results(root)) == 4 and len(victims(root)) == 1
    assert "mine: 4 of 4 jobs" in done.stdout and "hard_label" in done.stdout and "two seeds: " in done.stdout
    assert done.stdout.count("Launching") == 2 and done.stdout.count("stage=victims") == 1
    assert "1/1 " in done.stderr and "4/4 " in done.stderr and done.stderr.count("agreement 0.") == 4
    assert "train thief" not in done.stdout and "train thief" in next(root.rglob("*-s1-*/fmsteal.log")).read_text()
    runs = offline_runs(root / "outputs" / "sweeps" / "mine")
    thieves = [r for r in runs if r.run.job_type == "thief"]
    assert sorted(r.run.job_type for r in runs if r not in thieves) == ["cell", "cell", "victim"]
    assert [r.exit_code for r in runs] == [0] * 7
    assert len({r.run.run_id for r in runs}) == 7 and {r.run.run_group for r in runs} == {"mine"}
    assert sorted(r.summary["test/agreement"] for r in thieves) == sorted(
        r["metrics"]["test/agreement"]
        for r in results(root)  # type: ignore[index]
    )
    again = run(root, *MINE)
    assert "4 are finished already" in again.stdout and "Launching" not in again.stdout
    assert "mine: 4 of 4 jobs" in again.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("done")
def test_a_sweep_grows_and_another_takes_what_it_has_stolen(root: Path) -> None:
    grown = run(root, *MINE[:-3], "seed=0,1,2", *MINE[-2:])
    assert "4 are finished already" in grown.stdout and "mine: 6 of 6 jobs" in grown.stdout
    assert grown.stdout.count("Launching") == 1 and "Launching 2 jobs" in grown.stdout  # the victim is there
    other = run(root, *MINE, "query.count=200", ok=False)
    assert "query.count: 300, now 200" in other.stderr and len(results(root)) == 6
    shared = (*MINE[:-3], "seed=1,3", "victim.seed=0", "sweep_id=other")
    plan = run(root, *shared, "dry_run=true").stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in plan.splitlines()]
    assert ["thief", "4", "0", "4", "200", "0.30"] in [row[:6] for row in rows] and "measured" in plan
    full = run(root, *shared, "dry_run=full").stdout
    assert full.count("stolen already: measure") == 2 and full.count(" steal ") == 2
    said = run(root, *shared).stdout
    assert said.count("Launching 2 jobs") == 2, "two thefts, then two that are only measured"
    taken = [json.loads(p.read_text()) for p in root.glob("outputs/sweeps/other/*/result.json")]
    billed = sorted((r["axis"]["seed"], r["cost"]["cost/usd"], r["cost"]["cost/usd_billed"]) for r in taken)
    assert billed == [(1, 0.15, 0.0)] * 2 + [(3, 0.15, 0.15)] * 2
    assert len(list((root / "outputs" / "thefts").glob("*/theft.json"))) == 8


@pytest.mark.slow
def test_a_stage_can_be_run_alone(fmsteal: Run, tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "victim.recipe.epochs=1,2", "defense=none,hard_label", "sweep_id=mine")
    fmsteal(*sweep, "stage=victims")
    assert len(victims(tmp_path)) == 2 and results(tmp_path) == []
    made = [path.stat().st_ino for path in victims(tmp_path)]
    assert fmsteal(*sweep, "stage=victims").stdout.count("Launching") == 0
    assert fmsteal(*sweep, "stage=thieves").stdout.count("Launching 4 jobs") == 1
    assert len(results(tmp_path)) == 4 and [path.stat().st_ino for path in victims(tmp_path)] == made


@pytest.mark.slow
def test_however_a_job_fails_the_others_run_and_the_sweep_ends_non_zero(tmp_path: Path) -> None:
    done = own(tmp_path, "attack.how=exits,raises,well")
    assert done.returncode == 1 and len(results(tmp_path)) == 1, done.stdout + done.stderr
    assert "2 of 3 jobs have no result" in done.stderr and "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr and "HYDRA_FULL_ERROR" not in done.stderr
    assert "[ERROR] resnet10t <- resnet10t · how=raises · s0: " in done.stdout
    table = done.stdout[done.stdout.index("2 of 3 jobs without a result") :]
    flat = "".join(line.replace("│", "").replace(" ", "") for line in table.splitlines())
    assert "SystemExit:3" in flat and "lines" in flat and "thief" in flat and "fmsteal.log" in flat
    assert "continue with: fmsteal -m --config-dir=conf experiment=smoke" in table
    again = own(tmp_path, "attack.how=exits,raises,well")
    assert "1 are finished already" in again.stdout and "Launching 2 jobs" in again.stdout


@pytest.mark.slow
def test_jobs_are_composed_from_the_configs_as_they_were_when_the_sweep_began(tmp_path: Path) -> None:
    done = own(tmp_path, "attack.how=spoils", "seed=0,1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "conf" / "attack" / "own.yaml").read_text() != YAML and len(results(tmp_path)) == 2
    for result in results(tmp_path):
        assert f"--config-dir={tmp_path}/conf" in str(result["command"])


@pytest.mark.slow
def test_a_victim_that_fails_leaves_the_thieves_of_others_alone(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal("-m", *SMALL, "victim.recipe.lr=1e-3,1e30", "seed=0,1", "victim.seed=0", "sweep_id=mine", ok=False)
    assert len(results(tmp_path)) == 2 and "Launching 2 jobs" in done.stdout  # two victims, then two thieves
    assert "2 jobs are left out: their victim failed" in done.stdout and "2 of 4 jobs have no result" in done.stderr
    assert "loss became nan" in done.stdout and done.stdout.count("not begun: its victim failed") == 2


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("seed=0,1", "+attack.bogus=1"), "has no option 'bogus'"),
        (("budget.queries=50,400,60",), "the query set holds 300"),
        pytest.param(
            ("seed=0,1", "thief.adaptation=scratch,probe", "thief.backbone.weights=/absent/weights.pth"),
            "/absent/w",
            marks=pytest.mark.slow,
        ),
        pytest.param(("hydra/launcher=nowhere",), "hydra/launcher/nowhere", marks=pytest.mark.slow),
    ],
)
def test_anything_wrong_in_one_combination_runs_no_job(
    fmsteal: Run, tmp_path: Path, wrong: tuple[str, ...], says: str
) -> None:
    done = fmsteal("-m", *SMOKE, "victim=resnet10t", "thief=resnet10t", *wrong, ok=False)
    assert says in done.stderr and not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_swept_field_makes_rows_of_its_own(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal("-m", *SMALL, "defense=top_k", "defense.k=1,5", "sweep_id=k")
    assert "defense.k" in done.stdout and done.stdout.count("one seed") == 2 + 1  # and the majority class
