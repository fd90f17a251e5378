"""What defenses on probabilities have in common: they take rows that are distributions and return distributions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fmsteal.base.errors import DefenseError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import RowDefense, name_of
from fmsteal.oracle.guard import Ask

OFF = 1e-3  # how far the sum of a row may be from 1


class ProbabilityDefense(RowDefense):
    """A function from a row of probabilities to another: define ``perturb``."""

    answers: ClassVar[Answers] = "probabilities"

    def perturb(self, p: Tensor, ask: Ask) -> Tensor:
        """The rows to return, float64 ``(n, K)``, for distributions ``p``, float64 ``(n, K)``, and any n."""
        raise NotImplementedError

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return perturbed rows, float32 ``(n, K)``.

        Raises:
            DefenseError: the answers are not distributions.
        """
        return self.perturb(to_distributions(answers, name_of(self)), ask).float()


def to_distributions(answers: Tensor, name: str) -> Tensor:
    """The rows in float64, each divided by its sum.

    Raises:
        DefenseError: a row has negative entries or NaN, or does not sum to 1; the message begins with ``name``.
    """
    rows = answers.double()
    sums = rows.sum(dim=1, keepdim=True)
    good = ((sums - 1).abs() <= OFF).squeeze(1) & (rows >= 0).all(dim=1)
    if not good.all():
        raise DefenseError(
            f"{name} perturbs probabilities, but {int((~good).sum())} of {len(rows)} rows that it got are none: they "
            "do not sum to 1, or hold negative numbers or NaN. In a chain it comes before defenses that round or "
            "truncate (defense.of.a=...), unless those renormalise (top_k: renormalise=true)."
        )
    return rows / sums


def normalise(rows: Tensor, otherwise: Tensor) -> Tensor:
    """Non-negative rows ``(n, K)`` divided by their sums; a row that is all 0 is replaced by that of ``otherwise``."""
    sums = rows.sum(dim=1, keepdim=True)
    empty = sums <= 0
    return torch.where(empty, otherwise, rows / sums.masked_fill(empty, 1))
