"""Imports point one way: each room imports from rooms below it, so that no two folders need each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fmsteal

PACKAGE = Path(fmsteal.__file__).parent
ROOMS = (  # from the bottom to the top; the modules at the package's root may import any
    "base", "config", "identity", "records", "networks", "data", "tracking", "training", "victims", "oracle",
    "defenses", "attacks", "evaluation", "report", "job", "sweep", "plugins", "face", "serve", "audit", "risk",
)  # fmt: skip
IN_REPORT = ("read", "show", "checks", "commands")
NEVER = {  # what a room must not see, though it is below it
    "attacks": {"victims", "defenses"},  # an attack has an oracle, and no more
    "evaluation": {"attacks", "defenses", "oracle"},
    "report": {"attacks", "defenses", "evaluation", "training", "victims"},
}


def imported(file: Path) -> Iterator[str]:
    """The modules of ours that a file imports, anywhere in it, those of type checking too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("fmsteal."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fmsteal":
            assert node.level == 0
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(folder: str = "") -> dict[tuple[str, str], list[str]]:
    """Which folder below the package (or one of its own) imports from which, with the files that do."""
    place, found = PACKAGE / folder, dict[tuple[str, str], list[str]]()
    head = ["fmsteal", *Path(folder).parts]
    for file in sorted(place.glob("*/**/*.py")):
        room = file.relative_to(place).parts[0]
        for name in imported(file):
            words = name.split(".")
            if words[: len(head)] == head and (place / words[len(head)]).is_dir() and words[len(head)] != room:
                found.setdefault((room, words[len(head)]), []).append(file.relative_to(PACKAGE).as_posix())
    return found


def folders(place: Path) -> set[str]:
    """The folders in a folder that hold modules, however deep."""
    return {file.relative_to(place).parts[0] for file in place.glob("*/**/*.py")}


@pytest.mark.parametrize(("folder", "order"), [("", ROOMS), ("report", IN_REPORT)])
def test_every_folder_imports_from_those_below_it_alone(folder: str, order: tuple[str, ...]) -> None:
    new = folders(PACKAGE / folder) - set(order)
    assert not new, f"give these rooms a place in the order: {sorted(new)}"
    height = {room: i for i, room in enumerate(order)}
    upward = {f"{low} -> {high}": files for (low, high), files in arrows(folder).items() if height[low] < height[high]}
    assert not upward


def test_no_room_sees_what_it_must_not() -> None:
    assert not {arrow: files for arrow, files in arrows().items() if arrow[1] in NEVER.get(arrow[0], ())}


def test_an_arrow_that_points_up_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"base": "def f():\n    from fmsteal.job import run\n", "job": "import fmsteal.base.seeds\n"}
    for room, text in texts.items():
        (tmp_path / room).mkdir()
        (tmp_path / room / "some.py").write_text(text)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert arrows() == {("base", "job"): ["base/some.py"], ("job", "base"): ["job/some.py"]}
