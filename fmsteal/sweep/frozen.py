"""Frozen copies of a sweep's configs, and of the code that its jobs import, made when the sweep begins.

A copy is named by its content: the same content reuses the same copy, and a sweep continued after an edit gets a second
copy beside the first.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmsteal.base.environment import ORIGIN, read_git_state
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.base.store import checksum, digest, publish, write_json
from fmsteal.identity import table

_PACKAGE = Path(__file__).parent.parent


def copy_files(source: Path, files: Iterable[Path], folder: Path, known: dict[str, Any] | None = None) -> Path:
    """Copy files of ``source`` into ``folder``, named by content; ``known`` is recorded with their origin."""
    origin = {"path": str(source), **(known or {})}
    named = {p.relative_to(source).as_posix(): checksum(p) for p in sorted(files)}
    place = folder / digest([origin, named])[:16]
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".tmp-{place.name}-", dir=folder))
    fresh.chmod(folder.stat().st_mode)
    for name in named:
        target = fresh / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)
    write_json(fresh / ORIGIN, origin)
    publish(fresh, place)
    shutil.rmtree(fresh, ignore_errors=True)  # still there if another sweep was first
    return place


def configs(loader: SharedLoader, folder: Path) -> SharedLoader:
    """A loader of the same configs that reads copies of their folders, made in ``folder``.

    Jobs that start later thus run with the configs that were checked.
    """
    folder = folder.absolute()  # workers may run elsewhere
    return loader.moved(lambda source: copy_files(source, _yaml(source), folder))


def copy_code(folder: Path) -> Path:
    """Copy the package's modules and the table of names into ``folder``; the copy records their commit."""
    files = [*_PACKAGE.rglob("*.py"), table.FILE]
    return copy_files(_PACKAGE.parent, files, folder.absolute(), {"git": read_git_state()})


@contextmanager
def import_from(copy: Path) -> Iterator[None]:
    """Make processes started in the block import the package from a copy, and this process what it has yet to import.

    loky and Ray workers get this process's `sys.path`; sbatch passes the environment variables on. PYTHONSAFEPATH keeps
    ``python -m`` from putting the current folder, often the checkout, first: it comes after the copy.
    """
    ours = [str(copy), str(copy / _PACKAGE.name / "plugins")]
    path, names = list(sys.path), ("PYTHONPATH", "PYTHONSAFEPATH")
    before = {name: os.environ.get(name) for name in names}
    script = [] if sys.flags.safe_path else path[:1]
    known = [p for p in (before["PYTHONPATH"] or "").split(os.pathsep) if p]
    packages = {m: list(m.__path__) for n, m in sys.modules.items() if _is_ours(n) and hasattr(m, "__path__")}
    os.environ |= {"PYTHONPATH": os.pathsep.join([*ours, *script, *known]), "PYTHONSAFEPATH": "1"}
    sys.path[:0] = ours
    for module, places in packages.items():
        inside = copy.joinpath(*module.__name__.split("."))
        module.__path__ = [str(inside), *places]
    try:
        yield
    finally:
        for module, places in packages.items():
            module.__path__ = places
        sys.path[:] = path
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _yaml(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.suffix in (".yaml", ".yml") and p.is_file()]


def _is_ours(module: str) -> bool:
    return module == _PACKAGE.name or module.startswith(f"{_PACKAGE.name}.")
