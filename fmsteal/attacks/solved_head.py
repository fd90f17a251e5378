"""The head that answers determine: its penalty chosen on a held-out fifth, then fitted to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fmsteal.attacks.equations import EquationHead, Equations, System
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids

PENALTIES = (1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # the least first
HELD_OUT = 5  # one answer in this many
FEWEST = HELD_OUT  # answers of which some can be held out
HOLDS = 1e-3  # relative: the residuals of equations that hold are far smaller, those of another trunk near 1
DECIMALS = 5  # that rounding is looked for
LABELS, TRUNCATED = "labels", "truncated"
TINY = 1e-30  # a softmax that reaches 0 has entries on the way there


@dataclass(frozen=True)
class SolvedHead:
    """A head, and what is known of how good it is.

    Attributes:
        head: fitted to all answers.
        part: fitted to the answers that are not held out, with the same penalty.
        penalty: see `System.solve`.
        residual: root mean square of the residuals of the held-out equations under ``part``, in units of those of
            predicting the mean; of all equations where the head is exact.
        exact: it is the victim's own head, see `solve_exactly`.
    """

    head: EquationHead
    part: EquationHead
    penalty: float
    residual: float
    exact: bool = False


def split_rows(count: int, seed: int) -> tuple[Ids, Ids]:
    """Rows to fit and rows to hold out, a fifth of them and at least one, at random."""
    order = np.random.default_rng(derive_seed("held out", count, seed)).permutation(count)
    held = max(1, count // HELD_OUT)
    return np.sort(order[held:]), np.sort(order[:held])


def solve_head(features: Tensor, answers: Tensor, seed: int) -> SolvedHead:
    """Solve for a head on features ``(n, D)``, n at least `FEWEST`, that answers ``(n, C)`` as the victim does.

    With more equations than unknowns that all hold there is nothing to choose. Else the penalty is that with the
    smallest residuals on the rows held out by `split_rows`, and with it all rows are fitted.
    """
    equations = Equations.of(answers)
    if (exact := solve_exactly(features, equations, seed)) is not None:
        return exact
    fitted, held = split_rows(len(features), seed)
    penalty, part, residual = choose_penalty(features, equations, fitted, held)
    return SolvedHead(System(features).solve(equations, penalty), part, penalty, residual)


def solve_exactly(features: Tensor, equations: Equations, seed: int) -> SolvedHead | None:
    """The victim's own head, where there are enough equations and all of them hold; else None.

    Enough are more than unknowns, of which all but the last hundredth foretell that one: of saturated answers many
    equations may say the same, and leave a class open.
    """
    unknowns = (min(features.shape) + 1) * (equations.logs.shape[1] - 1)
    if equations.count <= unknowns:
        return None
    order = np.random.default_rng(derive_seed("foretold", len(features), seed)).permutation(len(features))
    last = max(FEWEST, len(features) // 100)
    _, first, foretold = _fit(features, equations, order[last:], order[:last], PENALTIES[:1])[0]
    if foretold >= HOLDS:
        return None
    head = System(features).solve(equations, PENALTIES[0])
    residual = relative_residual(equations, head(features), equations)
    return SolvedHead(head, first, PENALTIES[0], residual, exact=True) if residual < HOLDS else None


def choose_penalty(
    features: Tensor, equations: Equations, fitted: Ids, held: Ids, start: EquationHead | None = None
) -> tuple[float, EquationHead, float]:
    """The penalty with the smallest residuals on the rows held out, its head on the rows fitted, and that residual.

    Where ``start`` is given the penalty is on the distance from that head.
    """
    return min(_fit(features, equations, fitted, held, start=start), key=lambda fit: fit[2])


def solve_with(penalty: float, features: Tensor, equations: Equations, start: EquationHead) -> EquationHead:
    """The head for all rows, with a penalty on the distance from ``start``."""
    return start + System(features).solve(equations.beside(start(features)), penalty)


def shrinkage_gain(features: Tensor, answers: Tensor, seed: int, share: float = 0.625) -> float:
    """By what factor the best penalty lowers held-out residuals below those of the least, at least 1.

    Answers of a head on these very features carry no noise, and no penalty beats the least that there is. To what other
    features leave over a fit without one fits as to noise. That shows where there are fewer answers than features: no
    more are fitted than ``share`` times their number.
    """
    fitted, held = split_rows(len(features), seed)
    fitted = fitted[: max(1, int(share * features.shape[1]))]
    residuals = [residual for _, _, residual in _fit(features, Equations.of(answers), fitted, held)]
    return residuals[0] / min(residuals) if 0 < min(residuals) < float("inf") else 1.0


def _fit(
    features: Tensor,
    equations: Equations,
    fitted: Ids,
    held: Ids,
    penalties: Sequence[float] = PENALTIES,
    start: EquationHead | None = None,
) -> Sequence[tuple[float, EquationHead, float]]:
    """Each penalty, the head it gives on the rows fitted, and the relative residual on those held out."""
    rows, others = torch.from_numpy(fitted), torch.from_numpy(held)
    system, train, test = System(features[rows]), equations[rows], equations[others]
    left = train if start is None else train.beside(start(features[rows]))
    heads = [system.solve(left, penalty) for penalty in penalties]
    heads = heads if start is None else [start + head for head in heads]
    off = [relative_residual(test, head(features[others]), train) for head in heads]
    return list(zip(penalties, heads, off, strict=True))


def relative_residual(equations: Equations, logits: Tensor, fitted: Equations) -> float:
    """Root mean square of residuals, in units of those of predicting the mean of what was fitted."""
    mean = fitted.centre(fitted.logs).sum(0) / fitted.known.sum(0).clamp(min=1)
    baseline = float(equations.residuals(mean.expand_as(logits)).square().sum())
    off = float(equations.residuals(logits).square().sum())
    return (off / baseline) ** 0.5 if baseline else float("inf")


def find_limit(answers: Tensor) -> str | None:
    """What keeps answers ``(n, C)`` from being equations of a head, in words; None if nothing can be seen in them.

    Truncated answers have zeros without the tiny entries that a saturated softmax has beside them; rounded ones are all
    multiples of a power of ten.
    """
    values = answers.double()
    if bool(((values > 0).sum(1) <= 1).all()):
        return LABELS
    for decimals in range(DECIMALS + 1):
        scaled = values * 10**decimals
        if bool(((scaled - scaled.round()).abs() <= 10**decimals * 2e-7).all()):
            return f"rounded to {decimals} decimals"
    if bool((values == 0).any()) and float(values[values > 0].min()) > TINY:
        return TRUNCATED
    if float((values.sum(1) - 1).abs().max()) > 1e-3:
        return "no probabilities (they do not sum to 1)"
    return None
