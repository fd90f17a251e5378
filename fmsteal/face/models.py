"""The thief and the victim of a finished job, as models. Nothing is trained here, and no paid API is queried."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from fmsteal.base.errors import DataError, StoreError, TheftError, VictimError
from fmsteal.base.progress import Progress
from fmsteal.base.store import Builder, Store
from fmsteal.config import build
from fmsteal.data.images import Task
from fmsteal.face.files import require_whole
from fmsteal.job import stolen
from fmsteal.job.parts import Parts
from fmsteal.job.pipeline import is_ours
from fmsteal.records.folders import THEFTS, JobFolder, TheftFolder
from fmsteal.records.results import load_yaml
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from fmsteal.victims.content import know

SLACK = 1e-3  # how far a float of an image that was resized or perturbed may be outside of [0, 1]


def load_thief(theft: TheftFolder, record: Mapping[str, Any]) -> nn.Module:
    """The thief of a sealed theft.

    Raises:
        TheftError: no file holds the thief, or the file is damaged.
        DataError: the public weights of the thief's frozen trunk are missing.
    """
    try:
        for file in stolen.list_files(theft):
            require_whole(file, record["files"].get(file.name), "Run a job of this theft again: it is trained anew.")
        if record["thief"]["form"] != "none" and not stolen.list_files(theft):
            raise TheftError(f"{theft.path} has lost its thief. Run a job of this theft again: it is trained anew.")
    except StoreError as error:
        raise TheftError(str(error)) from error
    thief = stolen.load(theft, record["thief"])
    if thief is None:
        raise TheftError(
            f"The thief of {theft.path} is not loadable: neither safetensors nor torch.export can hold it "
            "(thief.form: none in theft.json). Measurements train it again from its ledger: fmsteal evaluate."
        )
    return thief.eval()


def take_images(model: nn.Module) -> nn.Module:
    """Let a model take NumPy arrays too, and refuse in one sentence what is no batch of images."""
    model.register_forward_pre_hook(_read_images)
    return model


def _read_images(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A model's arguments, the first of them as the tensor of images that it is made for.

    Raises:
        DataError: it is of another kind, shape or range.
    """
    if not args:  # they are given by name, and as the model takes them
        return args
    images, *others = args
    said = f"{type(images).__name__} of shape {tuple(getattr(images, 'shape', ()))}"
    images = torch.from_numpy(np.array(images)) if isinstance(images, np.ndarray) else images
    if isinstance(images, Tensor) and images.dim() == 4 and images.shape[1] == 3:
        if images.dtype == torch.uint8:
            return images, *others
        said += f" with {images.dtype}"
        if images.is_floating_point():
            if not images.numel() or (images.amin() > -SLACK and images.amax() < 1 + SLACK):
                return images.float(), *others
            said += f" from {images.amin():.3g} to {images.amax():.3g}"
    raise DataError(f"Images are a tensor or an array (n, 3, H, W), uint8 or floats in [0, 1], not {said}.")


def load_victim(
    cfg: DictConfig, job: JobFolder, result: Mapping[str, Any], theft: TheftFolder, record: Mapping[str, Any]
) -> nn.Module:
    """The model of a job's victim: see `open_victim`.

    Raises:
        VictimError: the victim is not in the cache, has changed since, answers for money, or is no module.
    """
    victim = open_victim(cfg, job, result, theft, record).victim
    if not isinstance(victim.model, nn.Module):
        raise VictimError(f"The victim of {job.path} is a {type(victim.model).__name__}, no model (torch.nn.Module).")
    return victim.model.eval()


class OpenedVictim(NamedTuple):
    """The victim of a job, the job's config with absolute paths, and what the victim was made with."""

    cfg: DictConfig
    parts: Parts
    task: Task
    victim: Victim
    ctx: Context


def open_victim(
    cfg: DictConfig, job: JobFolder, result: Mapping[str, Any], theft: TheftFolder, record: Mapping[str, Any]
) -> OpenedVictim:
    """The victim of a job, from the cache, checked to be the one that was stolen from.

    Raises:
        VictimError: the victim is not in the cache, has changed since, or answers for money.
    """
    cfg = _placed(cfg, job, result, theft)
    parts = Parts.of(cfg)
    store = _Kept(cfg.cache, f"{result['command']} stage=victims")
    task: Task = build.make(cfg.data, store=store)
    paid = Store(Path(cfg.output) / THEFTS / ".paid")
    quiet = Progress(alone=False)
    ctx = Context(store, job.path, parts.training, CsvTracker(job.path), quiet, cfg.seed, paid)
    asks = getattr(parts.victim, "paid", False)  # preparing such a victim would ask it already
    victim = None if asks else parts.victim.prepare(task, ctx)
    if victim is None or victim.paid:
        raise VictimError(f"The victim of {job.path} answers for money: it is asked by a job's attack alone.")
    victim = know(victim, is_ours(parts.victim), task, ctx)
    if victim.digest != record["victim"]:
        raise VictimError(
            f"The victim that {job.path} has now is another ({victim.digest}) than the one that was stolen from "
            f"({record['victim']}): its weights or its data were changed since."
        )
    return OpenedVictim(cfg, parts, task, victim, ctx)


class _Kept(Store):
    """A store that finds victims but trains none."""

    def __init__(self, root: Path | str, command: str) -> None:
        super().__init__(root)
        self._command = command

    def get(self, kind: str, slug: str, spec: Mapping[str, Any], build: Builder) -> Path:
        """Like `Store.get`, but a missing or damaged victim is not made again.

        Raises:
            VictimError: the victim is missing or damaged.
        """

        place = self.path(kind, slug, spec)

        def refuse(out: Path, scratch: Path) -> None:
            raise VictimError(
                f"The victim is not in the cache ({place}), and opening a job trains nothing. This makes it again: "
                f"{self._command}"
            )

        if kind == "victims" and not place.is_dir():
            refuse(place, place)
        return super().get(kind, slug, spec, refuse if kind == "victims" else build)


def _placed(cfg: DictConfig, job: JobFolder, result: Mapping[str, Any], theft: TheftFolder) -> DictConfig:
    """The config with absolute paths: a notebook may run in another working directory than the job."""
    cfg = copy.deepcopy(cfg)
    cfg.output = str(theft.path.parents[1])
    if not Path(cfg.cache).is_absolute():
        cfg.cache = str(_stood(job) / cfg.cache)
    for key, (place, _) in result.get("paths", {}).items():
        OmegaConf.update(cfg, key, place)
    return cfg


def _stood(job: JobFolder) -> Path:
    """The folder that a job was started in."""
    file = job.kept / job.choices.name
    try:
        hydra = load_yaml((file if file.is_file() else job.choices).read_text())["hydra"]
        return Path(hydra["runtime"]["cwd"])
    except (OSError, KeyError, TypeError):
        return Path.cwd()
