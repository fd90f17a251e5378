"""What an API does to an answer before it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fmsteal.oracle.ledger import Question


@dataclass(frozen=True)
class AnswerContext:
    """What a defense may know about the questions it answers, row by row."""

    seed: int
    questions: Sequence[Question]

    def generator(self, row: int) -> torch.Generator:
        """A generator for this row, seeded by (seed, client, image, n-th ask): a replayed answer is the same answer."""
        client, image, nth = self.questions[row]
        name = f"{self.seed}/{client}/{image.hex()}/{nth}".encode()
        return torch.Generator().manual_seed(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> 1)


class Defense(Protocol):
    """One row in, one row out, whatever the batch size; labels are never seen."""

    def protect(self, answers: Tensor, images: Tensor, ctx: AnswerContext) -> Tensor:
        """Return the answers that leave the API.

        Args:
            answers: float32 ``(n, C)``; the victim's probabilities (rows sum to 1), or its embeddings.
            images: ``(n, 3, H, W)``; uint8 pool images, or float images in [0, 1].
            ctx: who asked, and a generator for each row.
        """
        ...


class NoDefense:
    """The answer leaves as it is."""

    def protect(self, answers: Tensor, images: Tensor, ctx: AnswerContext) -> Tensor:
        """Return ``answers``."""
        return answers
