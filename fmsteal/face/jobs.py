"""A finished job, opened from its folder: its figures, its answers, its models."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from fmsteal.base.errors import JobError
from fmsteal.base.store import read_json
from fmsteal.face.files import read_arrays, read_config, read_ledger, read_theft
from fmsteal.job import resolvers
from fmsteal.records import results
from fmsteal.records.folders import VICTIMS, JobFolder, SweepFolder, TheftFolder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    Arrays = dict[str, npt.NDArray[np.generic]]

resolvers.register()  # a config that is read may use them


class Job:
    """A finished job. Everything is read when it is first needed, and then kept.

    Attributes:
        folder: the job's folder.
        key: the job's name: ``<slug>-<hash16>``.
        result: content of ``result.json``: ``metrics``, ``intervals``, ``cost``, ``axis``, ``env``, ``command``, ...
    """

    def __init__(self, folder: Path, result: dict[str, Any]) -> None:
        self.folder = folder
        self.key = str(result["job_key"])
        self.result = result

    def __repr__(self) -> str:
        return f"fmsteal.load({str(self.folder)!r})"

    @cached_property
    def config(self) -> DictConfig:
        """The whole config that the job ran with."""
        return read_config(JobFolder(self.folder))

    @cached_property
    def predictions(self) -> Arrays:
        """The arrays that its figures can be computed from, with one row per test image.

        For classifiers: ``victim_logits`` and ``thief_logits`` ``(n, C)``, ``victim`` and ``thief`` (their classes,
        ``(n,)``), ``label`` ``(n,)``; with a defense that replaces the victim, which is then the model that serves,
        ``original`` and ``original_logits`` of the victim as it was trained. Empty if the job's measurements keep none.

        Raises:
            StoreError: the file is damaged.
        """
        return read_arrays(JobFolder(self.folder), self.result)

    @cached_property
    def ledger(self) -> Arrays:
        """Every answer that was paid for, in order.

        ``client`` and ``nth`` (how often that image had been asked about before), int32 ``(n,)``; ``image``, the
        16-byte digest of its content, uint8 ``(n, 16)``; ``answers``, float32 ``(n, width)``.

        Raises:
            LedgerError: the file is damaged.
        """
        return read_ledger(self._theft)

    @cached_property
    def theft(self) -> dict[str, Any]:
        """The content of ``theft.json``: what was stolen, from whom, with which code, at what cost.

        Raises:
            TheftError: the file is missing or damaged.
        """
        return read_theft(self._theft)

    @property
    def theft_folder(self) -> Path:
        """The folder of the theft, which other jobs may share."""
        return self._theft.path

    @cached_property
    def thief(self) -> nn.Module:
        """The stolen model, on the CPU and in eval mode.

        It takes raw images as a tensor or a NumPy array, uint8 or float in [0, 1], ``(n, 3, H, W)``, which it resizes
        and normalises itself, and returns logits ``(n, C)`` or embeddings ``(n, D)``.

        Raises:
            TheftError: no file holds the thief, or the file is damaged.
            DataError: the public weights of the thief's frozen trunk are missing.
        """
        from fmsteal.face.models import load_thief, take_images

        return take_images(load_thief(self._theft, self.theft))

    @cached_property
    def victim(self) -> nn.Module:
        """The model that was behind the API, without its defense. Inputs and outputs as for the `thief`.

        Raises:
            VictimError: the victim is not in the cache, has changed since, or answers for money.
            DataError: the data needed to find the victim, or public weights, are missing.
        """
        from fmsteal.face.models import load_victim, take_images

        files = JobFolder(self.folder)
        return take_images(load_victim(self.config, files, self.result, self._theft, self.theft))

    def export(self, to: str, dest: str | os.PathLike[str]) -> Path:
        """Write the thief for others to load: see `fmsteal.face.export.export`.

        Args:
            to: ``timm`` (a folder for ``timm.create_model("local-dir:...", pretrained=True)``), ``torch.export`` (a
                ``.pt2`` file) or ``onnx`` (a ``.onnx`` file).
            dest: the folder or file to write, which must not exist yet.

        Raises:
            ExportError: the format cannot hold this thief, or the package that writes it is not installed.
        """
        from fmsteal.face.export import export

        return export(self, to, Path(dest))

    @property
    def _theft(self) -> TheftFolder:
        place = self.result.get("theft")
        if not isinstance(place, str):
            raise JobError(
                f"{self.folder} was made by an earlier fmsteal, which kept no theft: it has figures alone. Run its "
                f"command again to have the rest: {self.result.get('command', 'fmsteal ...')}"
            )
        found = TheftFolder((self.folder / place).resolve())
        if not found.path.is_dir():
            raise JobError(
                f"The theft of {self.folder} is not there: {found.path}. Put it back from a copy: jobs and thefts "
                "lie below one output folder, and are moved together."
            )
        return found


def load(folder: str | os.PathLike[str]) -> Job:
    """Open a finished job: ``fmsteal.load("outputs/runs/<key>")``, or one of a sweep. Torch is not imported.

    Raises:
        JobError: the folder is not a job's, or the job is not finished; the message says what to do about it.
    """
    place = Path(folder).expanduser().absolute()
    _require_job(place)
    entry = results.read_job(place)
    if entry.result is not None:
        return Job(place, entry.result)
    if entry.failure is not None:
        log = f" Its log: {entry.failure['log']}." if entry.failure.get("log") else ""
        raise JobError(f"{place} has failed: {entry.failure.get('error')}.{log}")
    if entry.fault:
        raise JobError(f"{place}: {entry.fault}. Run the job again: force=true steals anew.")
    states = {
        results.RUNNING: f"somebody works on it. How far it is: fmsteal status {place.parent}",
        results.WAITING: "its theft is another job's, which was at work. Run the same command again",
        results.KILLED: "it was cut off. The same command goes on where it was",
    }
    words = " ".join(entry.overrides)
    raise JobError(f"{place} is not finished ({entry.state}): {states[entry.state]}. Its overrides: {words or 'none'}.")


def _require_job(place: Path) -> None:
    """Check that a folder is a job's.

    Raises:
        JobError: the folder is not a job's; the message says what it is instead, and what to open.
    """
    if not place.is_dir():
        raise JobError(f"There is no folder {place}. A job's is outputs/runs/<key> or outputs/sweeps/<sweep_id>/<key>.")
    if place.parent.name == VICTIMS:
        raise JobError(f"{place} prepared a victim and stole nothing. The jobs of its sweep lie in {place.parents[1]}.")
    if JobFolder(place).hydra.is_dir() or isinstance(read_json(JobFolder(place).result), dict):
        return
    if jobs := [job.name for job, _ in results.list_job_folders(place)]:
        raise JobError(
            f"{place} holds {len(jobs)} jobs. Open one of them: fmsteal.load({str(place / jobs[0])!r}); or all of "
            f"their figures: fmsteal.table({str(place)!r})."
        )
    if TheftFolder(place).begun.exists() or TheftFolder(place).seal.exists():
        raise JobError(f"{place} is a theft, which several jobs may share. Open a job of it: outputs/runs/<key>.")
    if SweepFolder(place).record.exists():
        raise JobError(f"{place} is a sweep of which no job was begun.")
    raise JobError(f"{place} is no job's folder: it has neither a result.json nor Hydra's files (.hydra).")
