"""What a job hands to its stages: where artifacts are kept, how models train, where metrics and progress go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmsteal.base.progress import Progress
from fmsteal.base.rows import RowCache
from fmsteal.base.store import Store, digest, explain_errors, sync
from fmsteal.records.folders import WORK
from fmsteal.tracking.base import Tracker
from fmsteal.training.trainer import Training

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """A job's context.

    Attributes:
        store: artifacts shared between jobs, which can be made again.
        run_dir: the folder of the theft or measurement under way; its ``work`` is for checkpoints.
        training: the trainer's options.
        tracker: where metrics go.
        progress: what the person at the terminal sees.
        seed: the job's seed.
        paid: where answers that cost money are kept, beside the thefts; None keeps them in the store.
        account: the theft that answers are paid for; empty if there is none.
    """

    store: Store
    run_dir: Path
    training: Training
    tracker: Tracker
    progress: Progress
    seed: int
    paid: Store | None = None
    account: str = ""
    _rows: dict[str, RowCache] = field(default_factory=dict, repr=False)

    def rows(self, kind: str, slug: str, spec: Mapping[str, Any], kept: bool = False) -> RowCache:
        """The rows of this spec; one object serves the whole job, so rows are not read twice.

        ``kept`` rows cost money, and are stored beside the thefts.
        """
        name = f"{kind}/{digest(spec)}"
        if name not in self._rows:
            store = self.paid if kept and self.paid is not None else self.store
            self._rows[name] = RowCache(store, kind, slug, spec)
        return self._rows[name]

    def scratch(self, stage: str) -> Path:
        """A folder that outlives a killed process, for the checkpoints of a stage."""
        folder = self.run_dir / WORK / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def kept(self, name: str, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The array that ``make()`` returned the first time; it is on the disk before it is returned.

        A damaged file is made again, with a warning.
        """
        path = self.scratch("kept") / f"{name}.npz"
        if path.is_file():
            try:
                with np.load(path) as file:  # the zip container carries a CRC
                    return np.asarray(file["kept"])
            except Exception as error:  # a damaged file can fail in many ways
                log.warning("%s is damaged (%s): making it again", path, error)
        made = make()
        fresh = path.with_suffix(".tmp")
        with explain_errors(self.run_dir):
            with fresh.open("wb") as stream:
                np.savez(stream, kept=made)
            sync(fresh)
            fresh.replace(path)
            sync(path.parent)
        return made
