"""What defenses on probabilities have in common: rows that are distributions come in, and distributions leave."""

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
    """A function of a row of probabilities, on a simplex: write ``perturb``."""

    answers: ClassVar[Answers] = "probabilities"

    def perturb(self, p: Tensor, ask: Ask) -> Tensor:
        """The rows that leave, float64 ``(n, K)``, of distributions ``p``, float64 ``(n, K)``, whatever n is."""
        raise NotImplementedError

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return perturbed rows, float32 ``(n, K)``.

        Raises:
            DefenseError: what it gets are no distributions.
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
    """Rows ``(n, K)`` of numbers from 0 on, divided by their sums; a row that is all 0 is the one of ``otherwise``."""
    sums = rows.sum(dim=1, keepdim=True)
    empty = sums <= 0
    return torch.where(empty, otherwise, rows / sums.masked_fill(empty, 1))
