"""A victim behind a real gRPC server that answers as Clarifai does, and what it is shown."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from tests.support.clarifai_server import Clarifai, Running
from tests.support.composing import composed
from tests.support.small_task import TASK, context

POOL = Images(np.random.default_rng(6).integers(0, 256, (129, 3, 8, 8), dtype=np.uint8), "pool-of-clarifai")
IDS = np.arange(len(POOL))
PAT = "pat-planted-5c1e"
PRICE = 1.2  # US dollars for 1000 images


def embed(images: np.ndarray) -> np.ndarray:
    """Embeddings of five numbers."""
    return (images.reshape(len(images), 3, -1).mean(2) @ np.arange(15.0).reshape(3, 5)).astype(np.float32)


def api(**options: Any) -> Clarifai:
    return Clarifai(embed, key=PAT, **options)


@cache
def chosen() -> DictConfig:
    """``conf/victim/clarifai.yaml``, composed once."""
    return composed("task=embed", "victim=clarifai").victim


def make(service: Running | None, *words: str) -> Any:
    """The maker of a victim, as a config describes it, checked as far as it can be without asking."""
    base = copy.deepcopy(chosen())
    OmegaConf.set_struct(base, False)
    at = [f"base={service.base}", f"root_certificates={service.certificates}"] if service else ["base=localhost:9"]
    node = OmegaConf.merge(base, OmegaConf.from_dotlist([*at, f"usd_per_1000={PRICE}", *words]))
    assert isinstance(node, DictConfig)
    maker = build.make(node)
    maker.require_makeable()
    return maker


def behind(service: Running, folder: Path, *words: str) -> tuple[Victim, Context]:
    """The victim, and the context of a theft that asks it; its books begin after the images that told its width."""
    ctx = context(folder)
    victim = make(service, *words).prepare(TASK, ctx)
    service.api.paid.clear()
    service.api.sizes.clear()
    return victim, ctx


def ask(victim: Victim, ctx: Context, ids: np.ndarray = IDS) -> Tensor:
    with victim.calls.during("attack"):
        return victim.answer(victim.raw(POOL, ids, ctx))


def due(ids: np.ndarray = IDS) -> Tensor:
    return torch.from_numpy(embed(np.asarray(POOL.pixels[ids])))
