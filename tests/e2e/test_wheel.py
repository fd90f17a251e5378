"""Installed from a wheel or as an editable checkout: jobs and sweeps run from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import command, environment
from tests.support.composing import SMALL
from tests.support.outputs import only_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def pip(*args: str) -> None:
    """Run pip, which builds with hatchling."""
    made = subprocess.run([*PIP, *args], capture_output=True, text=True, timeout=300)
    if made.returncode != 0 and "hatchling" in made.stderr and "No matching distribution" in made.stderr:
        pytest.skip("building fmsteal needs hatchling, which cannot be installed without a network")
    assert made.returncode == 0, made.stderr


def wheel(folder: Path) -> tuple[Path, ...]:
    """What is on the path once the wheel is installed: a folder with its content, as pip lays it out."""
    wheels, target = folder / "wheels", folder / "installed"
    pip("wheel", "--no-deps", "-w", str(wheels), str(ROOT))
    (built,) = wheels.glob("*.whl")
    pip("install", "--no-deps", "--target", str(target), str(built))
    names = zipfile.ZipFile(built).namelist()
    assert "fmsteal/conf/config.yaml" in names and "fmsteal/sweeps/quickstart.yaml" in names
    assert {"fmsteal/sweeps/paper/cifar10_lp.yaml", "fmsteal/sweeps/published/fm_stealing.csv"} <= set(names)
    assert {f"fmsteal/report/show/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    assert not any(n.startswith(("tests", "conf", "outputs", "fmsteal/plugins")) for n in names)
    assert "hydra_plugins/__init__.py" not in names  # a namespace: other plugins are in it too
    return (target,)


def editable(folder: Path) -> tuple[Path, ...]:
    """What is on the path once the checkout is installed: the lines of the file that pip leaves for it."""
    pip("install", "--no-deps", "--target", str(folder), "-e", str(ROOT))
    (lines,) = folder.glob("*.pth")
    return tuple(Path(line) for line in lines.read_text().splitlines())


@pytest.mark.parametrize("installed", [wheel, editable], ids=lambda how: how.__name__)
def test_it_runs_from_an_empty_folder(
    installed: Callable[[Path], tuple[Path, ...]], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = installed(tmp_path_factory.mktemp("installed"))
    env = {**environment(), "PYTHONPATH": os.pathsep.join(map(str, path))}
    code = "import fmsteal, hydra_plugins.fmsteal_staged as staged; print(fmsteal.__file__, staged.__file__)"
    where = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert where.returncode == 0, where.stderr
    for file in where.stdout.split():
        assert any(Path(file).is_relative_to(folder) for folder in path)
    for args in (["--help"], list(SMALL), ["-m", *SMALL, "seed=0,1", "victim.seed=0"]):
        done = subprocess.run(command(*args), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert args != ["--help"] or "quickstart" in done.stdout
    assert (only_run(tmp_path) / "result.json").is_file()
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/result.json"))) == 2
    assert "stage=victims" not in done.stdout  # the single job has made the victim, and left word of it
