"""A checkout of one's own, to be edited while a sweep runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def checkout(root: Path) -> dict[str, str]:
    """Copy the code and its configs into ``root``; the variables by which a process runs that copy."""
    for folder in ("fmsteal", "conf", "sweeps"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": os.pathsep.join([str(root), str(root / "fmsteal" / "plugins")])}


def spoil(root: Path) -> None:
    """Edit the module that runs a job, so that whoever imports it now cannot run one."""
    with (root / "fmsteal" / "job" / "pipeline.py").open("a") as module:
        module.write("\nraise RuntimeError('this was edited')\n")
