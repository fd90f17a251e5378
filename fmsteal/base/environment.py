"""What a result was computed with: versions, code, hardware."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fmsteal import __version__
from fmsteal.base.store import read_json

ORIGIN = "origin.json"  # beside a frozen copy of the code, see `fmsteal.sweep.frozen`
PACKAGES = ("torch", "torchvision", "timm", "lightning", "hydra-core", "omegaconf", "wandb", "numpy")


def describe_environment() -> dict[str, Any]:
    """Versions, git state and hardware, as plain values."""
    import torch

    return {
        "python": platform.python_version(),
        "packages": {"fmsteal": __version__, **{name: _version(name) for name in PACKAGES}},
        **read_git_state(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


@functools.cache  # a long sweep in one process runs the code it started with
def read_git_state() -> dict[str, Any]:
    """The commit of the code's checkout and whether it has local edits; for a frozen copy, as of when it was made."""
    frozen = read_json(Path(__file__).parents[2] / ORIGIN)
    if isinstance(frozen, dict) and "git" in frozen:
        return dict(frozen["git"])
    dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return {"git": _git("rev-parse", "HEAD"), "git_dirty": dirty}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str | None:
    """Output of a git command on the code's own checkout; None if there is no checkout or the command fails."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def find_origin(path: str) -> str:
    """The folder that ``path`` is a frozen copy of; ``path`` itself if it is not a copy."""
    kept = read_json(Path(path) / ORIGIN)
    return str(kept["path"]) if isinstance(kept, dict) and "path" in kept else path
