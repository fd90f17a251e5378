"""`import fmsteal` costs nothing, offers what it says, and hides none of its modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fmsteal
from tests.support.commands import environment

HEAVY = {"torch", "lightning", "wandb", "timm", "numpy", "hydra", "omegaconf", "pandas"}
IMPORT = f"""
import sys, time
began = time.perf_counter()
import fmsteal
print(time.perf_counter() - began, sorted({HEAVY} & set(sys.modules)), dir(fmsteal))
"""
COMPOSE = """
import sys, fmsteal
assert fmsteal.compose(["budget=100", "seed=3"]).budget.queries == 100
try:
    fmsteal.load("nowhere")
except fmsteal.load.__globals__["JobError"] as error:
    print(error)
from fmsteal.face.export import command
try:
    command.main(["export", "--help"])
except SystemExit as end:
    assert end.code == 0
print(sorted({"torch", "lightning", "wandb", "timm"} & set(sys.modules)))
"""
OPEN = """
import sys, fmsteal
job = fmsteal.load(sys.argv[1])
assert job.result and job.theft and job.config.seed == 3
assert len(job.ledger["answers"]) == len(job.ledger["image"]) == 100
assert job.predictions["label"].shape == (600,)
print(sorted({"torch", "lightning", "wandb", "timm"} & set(sys.modules)))
"""
CALL_EACH = """
import importlib, pkgutil, types
import fmsteal
left = []
for module in pkgutil.walk_packages(fmsteal.__path__, "fmsteal."):
    if module.name.endswith("__main__") or ".plugins" in module.name:
        continue
    try:
        importlib.import_module(module.name)
    except ImportError as error:  # of an extra
        left.append((module.name, error.name))
assert all(name and not name.startswith("fmsteal") for _, name in left), left
assert len(left) < 6, left
for name in fmsteal.__all__:
    assert not isinstance(getattr(fmsteal, name), types.ModuleType), name
from fmsteal.base.errors import FmstealError
assert fmsteal.compose(["seed=7"]).seed == 7
for call in (lambda: fmsteal.run(["bugdet=1"]), lambda: fmsteal.run_sweep(["bugdet=1,2"]), lambda: fmsteal.load("x"),
             lambda: fmsteal.table("x"), lambda: fmsteal.compose(["bugdet=1"])):
    try:
        call()
    except FmstealError as error:
        print(type(error).__name__, str(error).splitlines()[0])
    else:
        raise AssertionError("no error")
assert fmsteal.Job.__name__ == "Job"
"""


def python(code: str, cwd: Path, *words: str) -> str:
    """Run code in a fresh interpreter, in an empty folder; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_takes_no_time_and_nothing_heavy(tmp_path: Path) -> None:
    said = [python(IMPORT, tmp_path).partition(" ") for _ in range(3)]
    assert min(float(seconds) for seconds, _, _ in said) < 0.3
    _, _, rest = said[0]
    assert rest.startswith("[] ") and all(f"'{name}'" in rest for name in fmsteal.__all__)


def test_composing_and_opening_import_no_torch(tmp_path: Path) -> None:
    said = python(COMPOSE, tmp_path)
    assert (
        "There is no folder" in said
        and "torch.export.load(DEST)" in said
        and said.endswith("[]\n")
        and not list(tmp_path.iterdir())
    )


def test_a_jobs_figures_and_answers_are_read_without_torch(job: fmsteal.Job, tmp_path: Path) -> None:
    assert python(OPEN, tmp_path, str(job.folder)) == "[]\n"


@pytest.mark.slow
def test_no_public_name_is_a_modules(tmp_path: Path) -> None:
    said = python(CALL_EACH, tmp_path).splitlines()
    assert [line.split()[0] for line in said] == ["ConfigError"] * 2 + ["JobError", "StoreError", "ConfigError"]


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'fmsteal' has no attribute 'steel'"):
        fmsteal.steel  # noqa: B018
    assert Path(fmsteal.__file__).with_name("py.typed").exists()
