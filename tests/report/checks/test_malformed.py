"""One malformed job folder ends no command: the other jobs are shown, and its own row says what is wrong."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmsteal.base.store import read_json, write_json
from fmsteal.records.results import find_finished, read_sweep
from fmsteal.report import commands
from fmsteal.report.commands import compare, verify
from fmsteal.report.commands import report as reporting
from fmsteal.report.read.study import Study
from fmsteal.report.show import page
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.plots import classes
from tests.support.job_folders import asked, axis, evaluated

Harm = Callable[[Path], object]  # what is done to a job's folder
WRONG: list[Any] = [None, "x", 3, 1.5, True, [], [1], {}, {"a": None}, {"a": [1]}, {"a": {"b": "c"}}, [[["x"]]]]
PARTS = (
    "schema", "job_key", "axis", "settings", "metrics", "cost", "intervals", "budget", "about", "env", "theft", "files",
    "tracker", "command", "measurements", "width", "victim", "notes",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps of three finished jobs, one of which is to be damaged."""
    root = tmp_path_factory.mktemp("whole")
    for sweep in ("mine", "other"):
        plan = {}
        for seed, name in enumerate(("good0", "good1", "bad")):
            folder = evaluated(root / sweep, name, seed)
            result = read_json(folder / "result.json")
            plan[name] = axis(seed)
            more = {
                "axis": axis(seed),
                "settings": {"thief.lr": 0.1},
                "budget": 100,
                "env": {"gpus": [], "git": "f" * 40},
            }
            cost = {"cost/queries": 100, "cost/usd": 0.1, "cost/seconds": 3.0}
            write_json(folder / "result.json", {**result, **more, "cost": cost, "tracker": None})
        asked(root / sweep, plan)
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "root")
    return tmp_path / "root"


def said(main: Callable[[list[str]], None], *words: str) -> str:
    """What a command prints. It may end itself in words; any other exception fails the test."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(list(words))
        except SystemExit as ended:
            print(ended.code if ended.code is not None else "", file=out)
    return out.getvalue()


def look(root: Path) -> dict[str, str]:
    """All commands that read a sweep."""
    sweep = str(root / "mine")
    shown = {
        "status": said(commands.main, "status", sweep),
        "results": said(commands.main, "results", sweep),
        "csv": said(commands.main, "results", sweep, "--csv", str(root / "all.csv")),
        "report": said(reporting.main, "report", sweep, "--formats", "md,tex", "--out", str(root / "report")),
        "verify": said(verify.main, "verify", sweep),
        "compare": said(compare.main, "compare", sweep, str(root / "other")),
    }
    study = Study.of([root / "mine"])
    for cell in study.cells:
        classes.average_per_class(cell)
    page.render(study, Layout.of(study), [], root)
    return shown


def require_others(root: Path) -> dict[str, dict[str, str]]:
    """See that the good jobs are shown by every command; returns the rows of the table, and what else was said."""
    shown = look(root)
    assert "Traceback" not in "".join(shown.values()) and all(shown.values())
    with (root / "all.csv").open(newline="") as stream:
        rows = {row["job_key"]: row for row in csv.DictReader(stream)}
    for name in ("good0", "good1"):
        assert rows[name]["state"] == "done" and float(rows[name]["test/agreement"]) > 0
    assert "2 of 2 jobs are wrong" not in shown["verify"] and "test/agreement" in shown["verify"]
    return {**rows, "said": shown}


def test_nothing_is_wrong_with_the_sweep_itself(root: Path) -> None:
    shown = require_others(root)["said"]
    assert "3 jobs: 3 done" in shown["status"] and "all 3 results are what" in shown["verify"]
    assert "the only cell" in shown["compare"] and "3 of 3 jobs" in shown["report"]


def each(root: Path, harms: dict[str, Harm]) -> dict[str, dict[str, str]]:
    """Do each harm to a job of its own, and see that none of them keeps a command from the good ones."""
    for number, harm in enumerate(harms.values()):
        shutil.copytree(root / "mine" / "bad", root / "mine" / f"bad{number}")
        harm(root / "mine" / f"bad{number}")
    rows = require_others(root)
    return {name: rows[f"bad{number}"] for number, name in enumerate(harms)} | {"said": rows["said"]}


def changed(part: str, value: Any) -> Harm:
    """Put a value into the result, at a path of names."""

    def harm(folder: Path) -> None:
        result = read_json(folder / "result.json")
        *way, last = part.split(">")
        inner = result
        for name in way:
            inner = inner.setdefault(name, {})
        inner[last] = value
        (folder / "result.json").write_text(json.dumps(result))

    return harm


INSIDE = (
    "metrics>test/agreement", "metrics>extra", "cost>cost/seconds", "cost>cost/queries", "intervals>test/agreement",
    "axis>seed", "axis>queries", "axis>victim", "axis>extra", "settings>thief.lr", "about>test/agreement",
    "env>packages", "env>gpus", "env>git", "files>predictions.npz",
)  # fmt: skip


ANY = (*WRONG, float("nan"), float("inf"), 10**400, -(2**70), "\x00\x1b[31m", "é" * 3000)


@pytest.mark.parametrize("part", [*PARTS, *INSIDE])
def test_any_part_of_a_result_may_be_anything(part: str, root: Path) -> None:
    each(root, {f"{value!r:.40}": changed(part, value) for value in ANY})


def test_the_row_says_what_is_wrong(root: Path) -> None:
    cases: dict[str, tuple[str, Any]] = {
        "its schema is 'x'": ("schema", "x"),
        "its schema is True": ("schema", True),
        "its intervals is None": ("intervals", None),
        "its metrics is [1]": ("metrics", [1]),
        "its metrics: test/agreement is '0.5'": ("metrics>test/agreement", "0.5"),
        "its intervals: test/agreement is [1]": ("intervals>test/agreement", [1]),
        "its axis: seed is 'x'": ("axis>seed", "x"),
        "its axis: victim is ['\\x1b']": ("axis>victim", ["\x1b"]),
        "its cost is 3": ("cost", 3),
    }
    rows = each(root, {words: changed(*case) for words, case in cases.items()})
    for words in cases:
        assert words in rows[words]["error"] and rows[words]["state"] == "unreadable"
        assert words in rows["said"]["status"] and words in " ".join(rows["said"]["verify"].split())
    assert "3 done, 9 unreadable" in rows["said"]["status"]
    said = [failure["error"] for failure in read_sweep(root / "mine").failures]
    assert all(sum(words in error for error in said) == 1 for words in cases)


def written(name: str, content: Any) -> Harm:
    """Put a file in place of the one that is there."""

    def harm(folder: Path) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(json.dumps(content))

    return harm


def directory(name: str) -> Harm:
    """Put a folder in place of a file."""

    def harm(folder: Path) -> None:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir(parents=True)

    return harm


def arrays(**more: Any) -> Harm:
    def harm(folder: Path) -> None:
        with np.load(folder / "predictions.npz") as kept:
            old = dict(kept)
        np.savez(folder / "predictions.npz", **{k: v for k, v in {**old, **more}.items() if v is not None})

    return harm


def foreign(name: str, content: bytes = b"hello") -> Harm:
    def harm(folder: Path) -> None:
        with zipfile.ZipFile(folder / "predictions.npz", "a") as archive:
            archive.writestr(name, content)

    return harm


def beside(harm: Harm) -> Harm:
    """Harm a job that has no result yet."""

    def both(folder: Path) -> None:
        (folder / "result.json").unlink()
        harm(folder)

    return both


TEXTS = {
    "binary": b"\xff\xfe\x00" * 40, "empty": b"", "deep": b"[" * 100_000, "nul": b"\x00" * 50, "list": b"[1, 2]",
    "number": b"5", "null": b"null", "text": b'"x"', "yaml bomb": b"a: &a [x,x]\nb: *a\n? [1]\n: 2\n",
}  # fmt: skip
NAMES = (
    "result.json", "failure.json", "predictions.npz", "metrics.csv", "waiting.json", ".hydra/overrides.yaml",
    ".hydra/config.yaml", ".hydra/hydra.yaml", "work/cost.json", "fmsteal.log", "theft", "work/thief/epochs.json",
    ".running.lease",
)  # fmt: skip
PLAN = {
    "jobs null": {"schema": 1, "jobs": None}, "jobs list": {"schema": 1, "jobs": [1]},
    "job null": {"schema": 1, "jobs": {"bad": None}}, "job text": {"schema": 1, "jobs": {"bad": "x"}},
    "overrides": {"schema": 1, "jobs": {"bad": {"victim": "v", "overrides": 5}}},
    "override": {"schema": 1, "jobs": {"bad": {"victim": "v", "overrides": [1, None]}}},
    "axis": {"schema": 1, "jobs": {"bad": {"victim": "v", "axis": "x"}}},
    "axis of lists": {"schema": 1, "jobs": {"bad": {"victim": "v", "axis": {"victim": [1], "seed": {}}}}},
    "cell": {"schema": 1, "jobs": {"new": {"victim": "v", "axis": {"victim": "x"}, "cell": [1]}}},
    "victim": {"schema": 1, "jobs": {"new": {}}}, "victim list": {"schema": 1, "jobs": {"new": {"victim": [1]}}},
    "key": {"schema": 1, "jobs": {"../../new": {"victim": "v"}}},
    "command": {"schema": 1, "jobs": {}, "command": {"a": 1}, "begun": "x"}, "schema": {"schema": "x", "jobs": {}},
    "schema null": {"schema": None, "jobs": {}}, "begun": {"schema": 1, "jobs": {}, "begun": 1e300},
}  # fmt: skip
HARMS: dict[str, Harm] = {
    **{f"{name} is {kind}": written(name, text) for name in NAMES for kind, text in TEXTS.items()},
    **{f"{name} is a folder": directory(name) for name in NAMES},
    ".hydra is a file": lambda folder: (shutil.rmtree(folder / ".hydra"), (folder / ".hydra").write_text("x")),
    "a link to itself": lambda folder: (
        (folder / "result.json").unlink(), (folder / "result.json").symlink_to("result.json")
    ),
    **{
        f"failure {key} {value!r}": written("failure.json", {"job_key": "bad", "error": "E: x", key: value})
        for key in ("job_key", "error", "stage", "axis", "log") for value in WRONG
    },
    "no member": written("failure.json", {}),
    **{f"cost {value!r}": beside(written("work/cost.json", {"cost/seconds": value})) for value in WRONG},
    **{f"epochs {value!r}": beside(written("work/thief/epochs.json", value)) for value in WRONG},
    "curves": beside(written("metrics.csv", b"thief/epoch,nan,thief/loss,1\nthief/epoch,inf,thief/loss,1\n")),
    "curves of nul": beside(written("metrics.csv", b"thief/epoch,1,\x00,\x00\n\x00\n")),
    "an open quote": beside(written("metrics.csv", b'"' + b"x" * 200_000 + b"\n")),
    "no result, config": beside(written(".hydra/config.yaml", b"seed: [1]\nbudget: 5\n")),
    "labels of 2**40": arrays(label=np.full(90, 2**40)),
    "labels of -1": arrays(label=np.full(90, -1)),
    "labels of text": arrays(label=np.array(["x"] * 90)),
    "labels of numbers": arrays(label=np.linspace(0, 1, 90)),
    "labels of objects": arrays(label=np.array([{}] * 90, object)),
    "labels of another shape": arrays(label=np.zeros((90, 2), int)),
    "one label": arrays(label=np.int64(3)),
    "complex logits": arrays(victim_logits=np.ones((90, 7), complex)),
    "text logits": arrays(victim_logits=np.full((90, 7), "x")),
    "no thief": arrays(thief=None),
    "a foreign member": foreign("notes.txt"),
    "a foreign victim": foreign("victim"),
    "a foreign set": foreign("odd/victim"),
    "a member that is no array": foreign("odd/victim.npy"),
    "a name that leads out": foreign("../../victim.npy"),
}  # fmt: skip


@pytest.mark.parametrize("first", range(0, len(HARMS), 40))
def test_whatever_is_wrong_with_a_folder(first: int, root: Path) -> None:
    names = list(HARMS)[first : first + 40]
    rows = each(root, {name: HARMS[name] for name in names})
    read_sweep(root / "mine")
    for number, name in enumerate(names):
        folder = root / "mine" / f"bad{number}"
        assert find_finished(folder, "x-0123456789abcdef", None) is None  # type: ignore[arg-type]
        if name.startswith(("result.json is", "a link")):
            assert rows[name]["state"] == "unreadable" and rows[name]["error"].startswith("result.json "), name
        if name.startswith("failure"):
            assert rows[name]["state"] == "failed" and rows[name]["error"], name


@pytest.mark.parametrize("name", [*PLAN, *TEXTS, "a folder"])
def test_whatever_is_wrong_with_a_plan(name: str, root: Path) -> None:
    harm = written("sweep.json", PLAN.get(name, TEXTS.get(name))) if name != "a folder" else directory("sweep.json")
    harm(root / "mine")
    require_others(root)
    read_sweep(root / "mine")


@pytest.mark.slow
def test_without_a_plan_the_configs_may_be_anything(root: Path) -> None:
    (root / "mine" / "sweep.json").unlink()
    configs = (b"- 1\n- 2\n", b"seed: [1]\nbudget: 5\n", b"\xff", b"seed: ${oops}\n", b"", b"a: " + b"[" * 5000)
    harms = {f"config {n}": beside(written(".hydra/config.yaml", config)) for n, config in enumerate(configs)}
    each(root, harms | {f"axis {value!r}": changed("axis", value) for value in WRONG})
