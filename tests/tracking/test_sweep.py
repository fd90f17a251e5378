"""A whole sweep kept offline: what a person sees of it after syncing; dashboards ask for no other names."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmsteal.base.lease import lease
from tests.support.commands import command, environment
from tests.support.composing import SMALL
from tests.support.wandb_file import OfflineRun, offline_runs
from tests.support.warm import Command

SWEEP = (
    *SMALL, "tracker=wandb", "victim.seed=0", "victim.recipe.epochs=4", "data.train_count=300",
    "thief.recipe.optimizer=sgd",
)  # fmt: skip


def fmsteal(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return Command(words, root, environment()).done()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two jobs of one victim, the second of which fails; then a sweep over seeds that finds the victim there."""
    root = tmp_path_factory.mktemp("tracked")
    rates = ("thief.recipe.lr=0.01,1e38", "thief.recipe.epochs=3")
    first = fmsteal(root, "-m", *SWEEP, *rates, "attack=activethief", "attack.rounds=2", "sweep_id=first")
    assert first.returncode == 1 and "1 of 2 jobs have no result" in first.stderr, first.stdout + first.stderr
    more = ("thief.recipe.lr=0.01", "seed=3,4", "sweep_id=later", "tracker.tables=false", "tracker.artifacts=[thief]")
    later = fmsteal(root, "-m", *SWEEP, *more)
    assert later.returncode == 0, later.stdout + later.stderr
    return root


def runs(root: Path, sweep: str) -> dict[str, OfflineRun]:
    """The runs of a sweep: its victim's, the last of the jobs' that are done, the failed one's, a cell's."""
    found = offline_runs(root / "outputs" / "sweeps" / sweep)
    return {r.run.job_type if r.exit_code == 0 else "failed": r for r in found}


def result(root: Path, sweep: str) -> dict[str, Any]:
    (file,) = (root / "outputs" / "sweeps" / sweep).glob("*/result.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_every_job_is_one_finished_run_with_the_numbers_of_its_result(root: Path) -> None:
    assert len(offline_runs(root / "outputs" / "sweeps" / "first")) == 3
    found, done = runs(root, "first"), result(root, "first")
    assert {name: run.exit_code for name, run in found.items()} == {"victim": 0, "thief": 0, "failed": 1}
    thief, victim, failed = found["thief"], found["victim"], found["failed"]
    assert "test/agreement@5" in done["metrics"]
    figures = {name.replace("@", "_at_"): value for name, value in {**done["metrics"], **done["cost"]}.items()}
    for name, value in figures.items():
        if name != "cost/seconds":  # which goes on
            assert thief.summary[name] == value, name
            curve = [row[name] for row in thief.history if name in row]
            assert curve[-1] == value and (len(curve) == 1 or name == "attack/held_out_agreement"), name
    assert not any(name.startswith("test/") for name in failed.names)
    assert {r.run.run_group for r in found.values()} == {"first"}
    assert [r.run.job_type for r in (victim, thief, failed)] == ["victim", "thief", "thief"]
    assert victim.run.display_name == "resnet10t · s0"
    assert thief.run.display_name == "resnet10t <- resnet10t · lr=0.01 · s0"
    assert failed.run.display_name == "resnet10t <- resnet10t · lr=1e+38 · s0"
    assert thief.config["job_key"] == done["job_key"] and thief.config["config"]["budget"]["queries"] == 100


def test_every_run_has_all_axes_and_a_thief_leads_to_its_victim(root: Path) -> None:
    found, done = runs(root, "first"), result(root, "first")
    axes = {kind: {k: v for k, v in r.config.items() if k.startswith("axis_")} for kind, r in found.items()}
    assert axes["victim"].keys() == axes["thief"].keys() == axes["failed"].keys()
    assert axes["thief"].keys() == {f"axis_{name}" for name in (*done["axis"], "victim_run")}
    assert all(axes["thief"][f"axis_{name}"] == value for name, value in done["axis"].items())
    assert axes["thief"]["axis_attack_strategy"] == "kcenter" and axes["thief"]["axis_thief_adaptation"] == "scratch"
    told = {name.removeprefix("axis_"): v for name, v in axes["victim"].items() if v not in ("none", None)}
    made = found["victim"].run.run_id
    assert told == {
        "task": "classify", "data": "digits", "victim": "resnet10t", "victim_adaptation": "scratch", "seed": 0,
        "victim_run": made,
    }  # fmt: skip
    for run in (*found.values(), runs(root, "later")["thief"]):
        assert run.config["victim_run"]["id"] == run.config["axis_victim_run"] == made
    assert "victim" not in runs(root, "later")
    columns = [r.config for r in found.values()]
    for name in ("axis_queries", "axis_seed"):  # numbers, or nothing
        assert {type(config[name]) for config in columns} <= {int, type(None)}


def test_curves_are_drawn_against_epochs_and_queries(root: Path) -> None:
    thief, victim = runs(root, "first")["thief"], runs(root, "first")["victim"]
    assert len(victim.curve("victim/epoch", "victim/loss")) == 4
    for name in ("loss", "lr", "held_out_agreement"):
        assert [x for x, _ in thief.curve("thief/epoch", f"thief/{name}")] == [1, 2, 3], name
    spent = thief.curve("attack/queries", "attack/usd")
    assert [x for x, _ in spent] == list(range(1, 101)) and spent[-1][1] == pytest.approx(0.15)
    assert thief.summary["attack/usd"] == spent[-1][1] and not any("epoch" in name for name in thief.summary)
    held_out = thief.curve("attack/queries", "attack/held_out_agreement")
    assert [x for x, _ in held_out] == [30, 65, 100, 100]  # the last one is the result's
    for (_, value), stage in zip(held_out[:3], ("thief-round-1", "thief-round-2", "thief"), strict=True):
        epochs = [y for _, y in thief.curve(f"{stage}/epoch", f"{stage}/held_out_agreement")]
        assert len(epochs) == 3 and value == max(epochs)
    steps = {r.metric.glob_name: r.metric.step_metric for r in thief.records if r.WhichOneof("record_type") == "metric"}
    assert steps["attack/*"] == "attack/queries" and steps["thief-round-2/*"] == "thief-round-2/epoch"


def test_where_victim_and_thief_disagree_is_shown(root: Path) -> None:
    (job,) = (p.parent for p in (root / "outputs" / "sweeps" / "first").glob("*/result.json"))
    thief, agreement = runs(root, "first")["thief"], result(root, "first")["metrics"]["test/agreement"]
    (table,) = job.glob(f"wandb/offline-run-*/files/{thief.summary['test/confusion/path']}")
    kept = np.load(job / "predictions.npz")
    cells = json.loads(table.read_text())["data"]
    assert sum(count for *_, count in cells) == 600
    assert sum(count for victim, thief, count in cells if victim == thief) == round(600 * agreement)
    lines = (job / "tables" / "test" / "confusion.csv").read_text().splitlines()
    assert len(lines) == 1 + len(cells) and lines[0] == "victim,thief,images"
    (captions,) = [r["test/disagreements/captions"] for r in thief.history if "test/disagreements/captions" in r]
    assert len(captions) == 16 and captions[0].startswith("victim: ") and ", label: " in captions[0]
    for caption in captions:
        words, _, place = caption.rstrip(")").partition(" (#")
        said = [part.split(": ")[1] for part in words.split(", ")]
        assert said == [str(kept[who][int(place)]) for who in ("victim", "thief", "label")] and said[0] != said[1]
    assert len(list(job.glob("wandb/offline-run-*/files/media/images/test/disagreements*.png"))) == 16
    later = runs(root, "later")["thief"]
    assert not any("disagreements" in name or "confusion" in name for name in later.names)
    (sent,) = [r.artifact for r in later.records if r.WhichOneof("record_type") == "artifact"]
    assert sent.type == "thief" and [Path(c.local_path).name for c in sent.manifest.contents] == ["thief.safetensors"]
    waiting = [r.artifact for r in thief.records if r.WhichOneof("record_type") == "artifact"]
    for artifact in waiting:  # what a table is sent from is in the job's own folder
        assert all(Path(c.local_path).is_relative_to(job) for c in artifact.manifest.contents)


def test_a_sweep_over_seeds_ends_with_a_run_of_its_means(root: Path) -> None:
    sweep = root / "outputs" / "sweeps" / "later"
    cell, thief = runs(root, "later")["cell"], runs(root, "later")["thief"]
    shares = [json.loads(file.read_text())["metrics"]["test/agreement"] for file in sweep.glob("*/result.json")]
    assert len(shares) == 2 and cell.summary["test/agreement"] == pytest.approx(sum(shares) / 2)
    assert cell.summary["n"] == 2 and "test/agreement_half" not in cell.summary, "two seeds are two points"
    assert cell.run.run_group == "later" and cell.run.display_name == "resnet10t <- resnet10t"
    axes = {name for name in thief.config if name.startswith("axis_")}
    assert {name for name in cell.config if name.startswith("axis_")} == axes and cell.config["axis_seed"] is None
    assert cell.config["axis_budget"] == thief.config["axis_budget"]
    assert not any(run.run.job_type == "cell" for run in offline_runs(root / "outputs" / "sweeps" / "first"))


def panels(view: Any) -> list[dict[str, Any]]:
    """Every panel of a workspace or a report."""
    if isinstance(view, list):
        return [panel for item in view for panel in panels(item)]
    if not isinstance(view, dict):
        return []
    own = [view] if "viewType" in view else []
    return own + [panel for value in view.values() for panel in panels(value)]


def asked_for(panel: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Names of figures, tables and pictures, and of config columns, that a panel shows."""
    config = panel["config"]
    single = {config.get(name) for name in ("xAxis", "yAxis", "targetKey")} - {None}
    names = {*config.get("metrics", []), *config.get("mediaKeys", []), *single}
    columns = {config["groupBy"].removesuffix(".value")} if config.get("groupBy") else set()
    if panel["viewType"] == "Weave":
        names |= table_names(config)
    for kind, _, name in (each["accessor"].partition(":") for each in coordinates(panel)):
        (columns if kind == "config" else names).add(name.removesuffix(".value"))
    return {name.removeprefix("summary:") for name in names}, columns


def coordinates(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns of a parallel-coordinates panel."""
    return panel["config"]["columns"] if panel["viewType"] == "Parallel Coordinates Plot" else []


def table_names(value: Any) -> set[str]:
    """The keys that a query picks from a run's summary."""
    if isinstance(value, list):
        return {name for item in value for name in table_names(item)}
    if not isinstance(value, dict):
        return set()
    own = {value["val"]} if value.get("nodeType") == "const" and value.get("type") == "string" else set()
    return own.union(*(table_names(item) for item in value.values())) if value else own


@pytest.mark.parametrize("words", [(), ("--report", "first")], ids=["workspace", "report"])
def test_dashboards_show_what_runs_log(root: Path, words: tuple[str, ...]) -> None:
    pytest.importorskip("wandb_workspaces")
    done = fmsteal(root, "dashboard", "--dry-run", "view.json", *words)
    assert done.returncode == 0, done.stderr
    view = json.loads((root / "view.json").read_text())
    thief, victim = runs(root, "first")["thief"], runs(root, "first")["victim"]
    shown = panels(view)
    kinds = {panel["viewType"] for panel in shown}
    assert kinds >= {
        "Run History Line Plot", "Bar Chart", "Scatter Plot", "Media Browser", "Run Comparer", "Weave",
        "Parallel Coordinates Plot", "Parameter Importance",
    }  # fmt: skip
    (beside,) = [coordinates(panel) for panel in shown if coordinates(panel)]
    assert [each["accessor"] for each in beside] == [
        *(f"config:axis_{axis}.value" for axis in ("victim", "thief", "query", "attack", "defense", "queries")),
        "summary:test/agreement",
    ]
    (important,) = [panel["config"]["targetKey"] for panel in shown if panel["viewType"] == "Parameter Importance"]
    assert important == "test/agreement"
    for panel in shown:
        names, columns = asked_for(panel)
        assert names <= thief.names | victim.names, panel
        assert columns <= thief.config.keys(), panel
    everything = set().union(*(asked_for(panel)[0] for panel in shown))
    assert everything >= {"test/agreement", "cost/queries", "test/disagreements", "test/confusion", "attack/usd"}
    text = json.dumps(view)
    assert ("cell" in text) == bool(words), "the report has a table of the cells"
    assert "thief" in text and ("first" in text) == bool(words)
    for column in ("axis_victim.value", "axis_thief.value", "axis_attack.value", "axis_defense.value"):
        assert column in text


def test_a_dashboard_of_cells_shows_what_their_runs_have(root: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    done = fmsteal(root, "dashboard", "--dry-run", "--cells")
    assert done.returncode == 0, done.stderr
    view, cell = json.loads(done.stdout), runs(root, "later")["cell"]
    shown = panels(view)
    assert shown
    for panel in shown:
        names, columns = asked_for(panel)
        assert names <= cell.names and columns <= cell.config.keys(), panel
    assert "summary:test/agreement_half" in done.stdout and '"cell"' in done.stdout


def test_a_dashboard_of_runs_from_before_names_their_columns(root: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    done = fmsteal(root, "dashboard", "--dry-run", "--old-columns")
    assert done.returncode == 0, done.stderr
    assert "axis.victim.value" in done.stdout and "axis_" not in done.stdout


def test_without_a_login_a_dashboard_says_how_to_log_in(root: Path) -> None:
    pytest.importorskip("wandb_workspaces")
    env = {**environment(), "HOME": str(root), "NETRC": str(root / "netrc")}
    done = Command(("dashboard",), root, env).done()
    assert done.returncode == 1 and "wandb login" in done.stderr and "--dry-run" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_command_uploads_a_sweep(root: Path) -> None:
    """W&B's own command is told which folders; here one that only notes what it was asked to do."""
    sweep = root / "outputs" / "sweeps" / "first"
    done = fmsteal(root, "sync", "outputs/sweeps/first", "--dry-run")
    folders = done.stdout.split()
    assert done.returncode == 0 and len(folders) == 3 and "3 runs to upload; 0 uploaded already" in done.stderr
    assert sorted(folders) == sorted(str(p.relative_to(root).parent) for p in sweep.rglob("*.wandb"))
    words = [*command()[:1], "-m", "wandb", "sync", "--dry-run", "--include-synced", *folders]
    theirs = subprocess.run(words, cwd=root, env=environment(), capture_output=True, text=True, timeout=100)
    assert "Would sync 3 run(s)" in theirs.stderr + theirs.stdout
    (first,) = (root / folders[0]).glob("*.wandb")
    first.with_name(f"{first.name}.synced").touch()
    job = sweep / Path(folders[1]).parents[1].name
    with lease(job / ".running", "somebody"):
        there = fmsteal(root, "sync", "outputs/sweeps", "--dry-run")
    assert len(there.stdout.split()) == 1 + 3 and folders[0] not in there.stdout and folders[1] not in there.stdout
    assert "is at work" in there.stderr and "1 uploaded already, 1 at work" in there.stderr
    assert folders[0] in fmsteal(root, "sync", "outputs/sweeps", "--dry-run", "--again").stdout
    os.utime(first, (2**31, 2**31))  # written to after it was uploaded
    assert folders[0] in fmsteal(root, "sync", "outputs/sweeps/first", "--dry-run").stdout
    nothing = fmsteal(root, "sync", "outputs/cache")
    assert nothing.returncode == 1 and "no W&B runs in outputs/cache" in nothing.stderr
