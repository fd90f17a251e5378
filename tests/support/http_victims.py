"""Victims behind HTTP as configs describe them, and jobs that steal from them."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import fmsteal
from fmsteal.base.progress import Progress
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.images import Images, Task
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.context import Context
from fmsteal.training.trainer import Training
from tests.support.composing import TINY, composed
from tests.support.serving import draw

HEADERS = "headers={Authorization: 'Bearer env:FMSTEAL_KEY'}"
ASKING = ("victim.name=ours", f"victim.{HEADERS}")
PLAIN = ("tracker=none", "trainer=cpu", "query.count=300")
CLASSIFIER = (
    *PLAIN, "thief=resnet10t", f"thief.{TINY}", "budget=100", "recipes.scratch.epochs=1", "recipes.scratch.min_steps=0",
)  # fmt: skip
TEN = Task(*[Images(draw(10), "test", np.arange(10), [str(n) for n in range(10)])] * 2)


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


def ask_all(victim: Any, ctx: Context, images: Images) -> Tensor:
    """The answers that an attack gets to all images."""
    with victim.calls.during("attack"):
        answers: Tensor = victim.answer(victim.raw(images, np.arange(len(images)), ctx))
    return answers


def steal(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> fmsteal.Job:
    """A job in this process, with outputs below a folder."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    return fmsteal.run(words)


def require_same_theft(here: fmsteal.Job, there: fmsteal.Job) -> None:
    """The same questions in the same order, answers equal to 1e-5 with the same argmax, and the same agreement."""
    for name in ("client", "nth", "image"):
        np.testing.assert_array_equal(here.ledger[name], there.ledger[name], err_msg=name)
    np.testing.assert_allclose(here.ledger["answers"], there.ledger["answers"], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(here.ledger["answers"].argmax(1), there.ledger["answers"].argmax(1))
    figures = here.result["metrics"]
    same = {name: there.result["metrics"][name] for name in figures if "agreement" in name or "accuracy" in name}
    assert same and same == pytest.approx({name: figures[name] for name in same}, abs=1e-6)
