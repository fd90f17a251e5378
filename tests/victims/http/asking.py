"""A victim behind a real service, and what it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Images
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from tests.support.api_server import Api, Running
from tests.support.http_victims import context, make
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
