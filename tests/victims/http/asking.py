"""A victim behind a real service, and what it is shown."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from fmsteal.base.progress import Progress
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.context import Context
from fmsteal.training.trainer import Training
from fmsteal.victims.base import Victim
from tests.support.api_server import Api, Running
from tests.support.composing import composed
from tests.support.small_task import CLASSES, TASK

POOL = Images(np.random.default_rng(5).integers(0, 256, (120, 3, 8, 8), dtype=np.uint8), "pool-of-http")
IDS = np.arange(len(POOL))
WEIGHTS = np.random.default_rng(1).normal(size=(3 * 8 * 8, 3)) / 60


def classify(images: np.ndarray) -> np.ndarray:
    """Probabilities of three classes, which tell images apart."""
    rows = images[:, :, :8, :8].reshape(len(images), -1) @ WEIGHTS / 30
    rows = np.exp(rows - rows.max(1, keepdims=True))
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32)


def embed(images: np.ndarray) -> np.ndarray:
    """Embeddings of five numbers."""
    return (images.reshape(len(images), 3, -1).mean(2) @ np.arange(15.0).reshape(3, 5)).astype(np.float32)


def api(**options: Any) -> Api:
    return Api(classify, width=len(CLASSES), **options)


@cache
def chosen(choice: str) -> DictConfig:
    """A choice of ``conf/victim``, composed once."""
    task = ("task=embed",) if choice not in ("http", "http_torchserve", "http_kserve") else ()
    return composed(*task, f"victim={choice}").victim


@cache
def training() -> Training:
    """A trainer, made once."""
    made: Training = build.make(composed("trainer=cpu").trainer)
    return made


def context(folder: Path) -> Context:
    """A context whose files are in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return Context(Store(folder / "cache"), folder, training(), CsvTracker(folder), Progress(), seed=0)


def make(url: str, *words: str, choice: str = "http", name: str = "theirs") -> Any:
    """The maker of a victim, as a config describes it, checked as far as it can be without asking."""
    base = copy.deepcopy(chosen(choice))
    OmegaConf.set_struct(base, False)
    node = OmegaConf.merge(base, OmegaConf.from_dotlist([f"name={name}", f"url={url}", *words]))
    assert isinstance(node, DictConfig)
    maker = build.make(node)
    maker.require_makeable()
    return maker


def behind(service: Running, folder: Path, *words: str, **options: Any) -> tuple[Victim, Context]:
    """The victim, and the context of a theft that asks it."""
    ctx = context(folder)
    victim = make(service.url, *words, **options).prepare(TASK, ctx)
    service.api.paid.clear()
    service.api.requests.clear()
    return victim, ctx


def ask(victim: Victim, ctx: Context, ids: np.ndarray = IDS, images: Images = POOL) -> Tensor:
    with victim.calls.during("attack"):
        return victim.answer(victim.raw(images, ids, ctx))


def due(ids: np.ndarray = IDS) -> Tensor:
    return torch.from_numpy(classify(np.asarray(POOL.pixels[ids])))
