"""The wheel carries its configs: installed elsewhere, run from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import SMALL, command, environment, only_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, as pip lays it out."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    made = subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", str(wheels), str(ROOT)], capture_output=True, text=True, timeout=300
    )
    if made.returncode != 0 and "hatchling" in made.stderr and "No matching distribution" in made.stderr:
        pytest.skip("building a wheel needs hatchling, which cannot be had without a network")
    assert made.returncode == 0, made.stderr
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, timeout=300)
    names = zipfile.ZipFile(wheel).namelist()
    assert "fmsteal/conf/config.yaml" in names and "fmsteal/sweeps/quickstart.yaml" in names
    assert not any(n.startswith(("tests", "conf", "outputs")) for n in names)
    return target


def test_it_runs_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    env = {**environment(), "PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-c", "import fmsteal; print(fmsteal.__file__)"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert where.stdout.startswith(str(installed) + os.sep)
    for args in (["--help"], list(SMALL)):
        done = subprocess.run(command(*args), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        assert args != ["--help"] or "quickstart" in done.stdout
    assert (only_run(tmp_path) / "result.json").is_file()
