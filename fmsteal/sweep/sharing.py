"""Taking over a job's result from another sweep (``hydra.sweeper.share=true``).

The same key stands for the same settings; that folders and files of the same name have the same content is vouched for
by their stamps, as where a sweep finds its own results again. Off by default: another sweep_id is how one asks for
another measurement, with code that has changed since.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from fmsteal import results
from fmsteal.lease import lease
from fmsteal.store import explained, read_json, sync, write_json

WRITTEN_ONCE = ("predictions.npz", "thief.safetensors")  # by rename, so that two names may stand for one file
COPIED = (results.INPUTS, "ledger.bin", "metrics.csv", "fmsteal.log")


class Shelf:
    """The other sweeps' folders, and the single runs', looked into by a job's key alone."""

    def __init__(self, output: Path, own: Path) -> None:
        sweeps = [p for p in sorted((output / "sweeps").glob("*")) if p.is_dir() and p.absolute() != own.absolute()]
        self._folders: Sequence[Path] = [*sweeps, output / "runs"]

    def find(self, key: str, cfg: DictConfig) -> Path | None:
        """The folder of the newest finished job of this key that read what ``cfg`` reads."""
        there = [folder / key for folder in self._folders if (folder / key / results.RESULT).is_file()]
        sound = [p for p in there if results.finished(p, key, cfg) and not (p / results.FAILURE).exists()]
        return max(sound, key=lambda p: (p / results.RESULT).stat().st_mtime, default=None)


def take_over(source: Path, folder: Path, sweep_id: str | None) -> bool:
    """Put the job's files into ``folder``, ``result.json`` last; it says whose they were.

    Returns:
        Whether they are there and whole: not if the job is done again over there at this moment.
    """
    with explained(folder), lease(folder / results.LEASE, f"job {folder.name}"):
        result = read_json(source / results.RESULT)
        try:
            for name in WRITTEN_ONCE:
                _placed(source / name, folder / name, _linked)
            for name in COPIED:
                _placed(source / name, folder / name, shutil.copyfile)
            shutil.copytree(source / ".hydra", folder / ".hydra", dirs_exist_ok=True)
        except FileNotFoundError:
            return False
        if result is None or read_json(source / results.RESULT) != result:
            return False
        (folder / results.FAILURE).unlink(missing_ok=True)
        shared = {"sweep_id": sweep_id, "shared_from": str(source.absolute())}
        write_json(folder / results.RESULT, {**result, **shared})
    return True


def _placed(source: Path, target: Path, place: Callable[[Path, Path], object]) -> None:
    """Put one file there by rename, if there is one."""
    fresh = target.with_name(f".{target.name}.shared")
    fresh.unlink(missing_ok=True)
    if source.exists():
        place(source, fresh)
        sync(fresh)
        fresh.replace(target)


def _linked(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
