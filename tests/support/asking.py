"""Asking a defense in front of a victim that is hardly there."""

from __future__ import annotations

import tempfile
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from fmsteal.data.images import Ids, Images
from fmsteal.defenses.base import Defense, prepare
from fmsteal.oracle.guard import Ask, Guard, Reply
from fmsteal.oracle.ledger import Question
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from tests.support.public_trunk import head_on_trunk
from tests.support.small_task import context


def question(row: int, client: int = 0, nth: int = 0) -> Question:
    return Question(client, bytes([row]) * 16, nth)


@cache
def surroundings() -> Context:
    return context(Path(tempfile.mkdtemp()), "recipes.scratch.epochs=2", "recipes.scratch.min_steps=0")


@cache
def training_images(classes: int) -> Images:
    """Noise with labels, 200 of it."""
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (200, 3, 8, 8), dtype=np.uint8)
    return Images(pixels, f"noise-{classes}", random.integers(0, classes, 200), [str(k) for k in range(classes)])


def raw(images: Images, ids: Ids, ctx: Context) -> Tensor:
    """What the victim makes of images: numbers of its own for each."""
    classes = max(len(images.classes), 2)
    return torch.stack([torch.randn(classes, generator=torch.Generator().manual_seed(int(i))) for i in ids])


def guard_of(defense: Defense, width: int) -> Guard:
    """Its guard in front of a victim of that width; its model is an untrained head on a public trunk."""
    return prepare(defense, cast(Any, Nobody(width)), training_images(width), surroundings())


class Nobody:
    """A victim as `guard_of` has it; its model is made when a defense asks for it."""

    key = "nobody"

    def __init__(self, width: int) -> None:
        self.width, self.raw = width, raw

    def answer(self, rows: Tensor) -> Tensor:
        return rows.softmax(1)

    @cached_property
    def model(self) -> Classifier:
        return head_on_trunk(self.width)


def asked(answers: Tensor, questions: list[Question] | None = None, seed: int = 0, now: float = 0.0) -> Ask:
    """An ask for each of these rows, of images that are their questions' own."""
    known = questions or [question(row) for row in range(len(answers))]
    return Ask(known, answers, answers, lambda: pictures(known), now, seed)


def pictures(questions: list[Question]) -> Tensor:
    """The image of each question, uint8 ``(n, 3, 8, 8)``."""
    drawn = [np.random.default_rng(list(q.image)).integers(0, 256, (3, 8, 8), dtype=np.uint8) for q in questions]
    return torch.from_numpy(np.stack(drawn)) if drawn else torch.zeros(0, 3, 8, 8, dtype=torch.uint8)


def reply(defense: Defense, answers: Tensor, questions: list[Question] | None = None, seed: int = 0) -> Reply:
    """What a fresh guard of the defense says."""
    return guard_of(defense, answers.shape[1]).reply(asked(answers, questions, seed))
