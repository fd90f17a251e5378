"""A sweep under way: copies of its configs and code, the lease on it, the table at its end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hydra.types import HydraContext
from omegaconf import DictConfig

from fmsteal.base import command_line, stopping
from fmsteal.base.lease import is_held, lease
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.records import results
from fmsteal.records.folders import SweepFolder
from fmsteal.sweep import frozen, record
from fmsteal.sweep.grid import Grid


@dataclass(frozen=True)
class OpenSweep:
    """A sweep whose configs and code are copied.

    Attributes:
        folder: its folder.
        loader: reads the copies of its configs.
        code: the copy of its code, if there is one.
    """

    folder: Path
    loader: SharedLoader
    code: Path | None

    def record(self, grid: Grid, command: str | None = "") -> None:
        """Add jobs to the record; ``command`` continues the sweep: "" is the one being run, None the earlier one."""
        sources = {s.provider: s.path for s in self.loader.get_sources() if s.scheme() == "file"}
        record.write(
            self.folder, grid, command_line.spell_continuing() if command == "" else command, sources, self.code
        )


@contextmanager
def open_sweep(master: DictConfig, context: HydraContext, loader: SharedLoader, freeze: bool) -> Iterator[OpenSweep]:
    """Copy a sweep's configs and code for its jobs, which are launched from the copies.

    For the arguments see `run`; ``loader`` is the one that has composed its first jobs.
    """
    place = SweepFolder(Path(master.hydra.sweep.dir))
    copied = context.config_loader = frozen.configs(loader, place.conf)
    copied.open(master)
    code = frozen.copy_code(place.code) if freeze else None
    with frozen.import_from(code) if code else nullcontext():
        yield OpenSweep(place.path, copied, code)


@contextmanager
def attend(place: SweepFolder) -> Iterator[Path]:
    """Hold a lease on a sweep, and in the end show its results; yields the lease, see `SweepFolder.command`."""
    try:
        with _held(place) as held:
            yield held
    finally:
        if stopping.was_told() is None:  # a sweep that was stopped only says how to continue
            from fmsteal.report.show.table import show_sweep

            show_sweep(results.read_sweep(place.path), place.path)


@contextmanager
def _held(place: SweepFolder) -> Iterator[Path]:
    """Hold a lease on the sweep: while one is held, `fmsteal status --watch` waits for jobs that have not begun."""
    for left in place.commands():
        if not is_held(left):
            Path(f"{left}.lease").unlink(missing_ok=True)
    own = place.command(secrets.token_hex(4))
    with lease(own, "this sweep"):
        yield own
