"""Tests mirror the package; what several of them build with is in `tests/support`, and none imports another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fmsteal

TESTS = Path(__file__).parent
PACKAGE = Path(fmsteal.__file__).parent
WHOLE = {  # tests of whole commands, which have no room of their own, and the builders
    "bench", "browser", "documents", "e2e", "examples", "ray", "slurm", "stopping", "support",
}  # fmt: skip


def imported(file: Path) -> Iterator[str]:
    """The modules of tests that a file imports, or that a name is imported from."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "tests")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tests":
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                is_module = (TESTS.parent / (name.replace(".", "/") + ".py")).exists()
                yield name if is_module else str(node.module)


def wrong_imports(file: Path) -> list[str]:
    """Test modules and conftests, and builders of another folder that are not in `tests/support`."""
    folder = ".".join(("tests", *file.relative_to(TESTS).parent.parts))
    return [
        name
        for name in imported(file)
        if name.rpartition(".")[2].startswith(("test_", "conftest"))
        or not (name.startswith("tests.support.") or name.rpartition(".")[0] == folder)
    ]


def test_no_test_imports_another() -> None:
    wrong = {file.relative_to(TESTS).as_posix(): wrong_imports(file) for file in TESTS.rglob("*.py")}
    assert not {file: names for file, names in wrong.items() if names}


def test_a_conftest_holds_fixtures_and_hooks_alone() -> None:
    for file in TESTS.rglob("conftest.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("pytest_"):
                assert any("fixture" in ast.unparse(d) for d in node.decorator_list), (file, node.name)


def test_folders_of_tests_are_those_of_the_package() -> None:
    holding = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    others = {folder for folder in holding if folder.parts and folder.parts[0] not in WHOLE}
    assert not {str(folder) for folder in others if not (PACKAGE / folder).is_dir()}


def test_a_wrong_import_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "TESTS", tmp_path / "tests")
    file = tmp_path / "tests" / "job" / "test_it.py"
    file.parent.mkdir(parents=True)
    (file.parent / "test_other.py").touch()
    lines = "from tests.job import test_other", "from tests.conftest import x", "from tests.data.pictures import y"
    fine = "from tests.support.composing import composed", "from tests.job.jobs import job"
    file.write_text("\n".join((*lines, *fine)))
    assert wrong_imports(file) == ["tests.job.test_other", "tests.conftest", "tests.data.pictures"]
