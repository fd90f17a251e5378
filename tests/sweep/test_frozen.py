"""A copy of the code, and who imports from it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmsteal.base import environment
from fmsteal.base.store import read_json
from fmsteal.identity import table
from fmsteal.sweep import frozen

WHERE = "import fmsteal.base.seeds as s, hydra_plugins.fmsteal_staged as p; print(s.__file__, p.__file__)"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frozen.copy_code(tmp_path_factory.mktemp("code"))


def test_the_table_of_names_is_copied_too(copy: Path) -> None:
    assert (copy / "fmsteal" / "identity" / "names.json").read_bytes() == table.FILE.read_bytes()


def test_processes_that_are_started_meanwhile_import_from_it(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are started as ``python -m`` in a checkout, and what the sweep finds in its own folder."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "where.py").write_text(WHERE)
    (tmp_path / "fmsteal").mkdir()
    (tmp_path / "fmsteal" / "__init__.py").write_text("raise ImportError('this is the checkout')")
    monkeypatch.setenv("PYTHONPATH", str(theirs))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = list(sys.path), dict(os.environ)
    with frozen.import_from(copy):
        found = subprocess.run(
            [sys.executable, "-m", "where"], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.split()
        places = os.environ["PYTHONPATH"].split(os.pathsep)
    assert found == [
        str(copy / "fmsteal/base/seeds.py"),
        str(copy / "fmsteal/plugins/hydra_plugins/fmsteal_staged.py"),
    ]
    assert places[2:] == [str(tmp_path), str(theirs)]
    assert (list(sys.path), dict(os.environ)) == before


def test_this_process_imports_from_it_what_it_has_not_yet(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fmsteal.training.curves", "fmsteal.report.read.progress"):
        importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
        with frozen.import_from(copy):
            assert Path(str(importlib.import_module(name).__file__)).is_relative_to(copy)
        del sys.modules[name]
        assert not Path(str(importlib.import_module(name).__file__)).is_relative_to(copy)


def test_it_remembers_its_commit(copy: Path, tmp_path: Path) -> None:
    known = read_json(copy / environment.ORIGIN)
    assert known["git"] == environment.read_git_state() and Path(known["path"], "fmsteal", "base", "store.py").is_file()
    said = "from fmsteal.base import environment as e; print(e.read_git_state() == {}, e.__name__)"
    with frozen.import_from(copy):
        done = subprocess.run(
            [sys.executable, "-c", said.format(known["git"])], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    assert done.stdout.split()[0] == "True"


def test_the_same_code_again_is_the_same_copy_and_edited_code_another(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_text("A = 1")

    def copy() -> Path:
        return frozen.copy_files(source, source.rglob("*.py"), tmp_path / "copies", {"git": {"git": "abc"}})

    first = copy()
    assert copy() == first and (first / "a.py").read_text() == "A = 1"
    (source / "a.py").write_text("A = 2")
    second = copy()
    assert second != first and (first / "a.py").read_text() == "A = 1" and (second / "a.py").read_text() == "A = 2"
    assert sorted(p.name for p in (tmp_path / "copies").iterdir()) == sorted([first.name, second.name])
