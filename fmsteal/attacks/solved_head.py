"""Solves for a head: the penalty is chosen on a held-out fifth of the answers, then the head is fitted to all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fmsteal.attacks.equations import EquationHead, Equations, System
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids

PENALTIES = (1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # in ascending order
HELD_OUT = 5  # one answer in this many is held out
FEWEST = HELD_OUT  # fewest answers of which some can be held out
HOLDS = 1e-3  # relative residual: far smaller if the equations hold, near 1 for another trunk
DECIMALS = 5  # rounding is looked for up to this many decimals
LABELS, TRUNCATED = "labels", "truncated"
TINY = 1e-30  # a softmax that underflows to 0 also has entries this small


@dataclass(frozen=True)
class SolvedHead:
    """A head, and how well it fits.

    Attributes:
        head: the head fitted to all answers.
        part: the head fitted to the answers that are not held out, with the same penalty.
        penalty: see `System.solve`.
        residual: root mean square residual of the held-out equations under ``part``, relative to predicting the mean;
            of all equations under ``head`` if the head is exact.
        exact: whether the head is the victim's own, see `solve_exactly`.
    """

    head: EquationHead
    part: EquationHead
    penalty: float
    residual: float
    exact: bool = False


def split_rows(count: int, seed: int) -> tuple[Ids, Ids]:
    """Split rows at random into those to fit and those to hold out: a fifth, and at least one."""
    order = np.random.default_rng(derive_seed("held out", count, seed)).permutation(count)
    held = max(1, count // HELD_OUT)
    return np.sort(order[held:]), np.sort(order[:held])


def solve_head(features: Tensor, answers: Tensor, seed: int) -> SolvedHead:
    """Solve for a head on features ``(n, D)``, n at least `FEWEST`, that answers ``(n, C)`` as the victim does.

    If there are more equations than unknowns and all hold, no penalty is chosen. Otherwise all rows are fitted with the
    penalty that has the smallest residual on the rows held out by `split_rows`.
    """
    equations = Equations.of(answers)
    if (exact := solve_exactly(features, equations, seed)) is not None:
        return exact
    fitted, held = split_rows(len(features), seed)
    penalty, part, residual = choose_penalty(features, equations, fitted, held)
    return SolvedHead(System(features).solve(equations, penalty), part, penalty, residual)


def solve_exactly(features: Tensor, equations: Equations, seed: int) -> SolvedHead | None:
    """The victim's own head, if there are enough equations and all of them hold; else None.

    Enough means more equations than unknowns, and that a random hundredth of the rows is predicted by the rest: with
    saturated answers many equations may say the same, and leave a class undetermined.
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
    """The penalty with the smallest residual on the held-out rows, its head on the fitted rows, and that residual.

    With ``start`` the penalty is on the distance from that head.
    """
    return min(_fit(features, equations, fitted, held, start=start), key=lambda fit: fit[2])


def solve_with(penalty: float, features: Tensor, equations: Equations, start: EquationHead) -> EquationHead:
    """The head for all rows, with a penalty on the distance from ``start``."""
    return start + System(features).solve(equations.beside(start(features)), penalty)


def shrinkage_gain(features: Tensor, answers: Tensor, seed: int, share: float = 0.625) -> float:
    """The factor, at least 1, by which the best penalty lowers the held-out residual of the smallest penalty.

    Answers of a head on these very features carry no noise, so no penalty beats the smallest. What other features leave
    unexplained acts like noise, which a fit without a penalty overfits. This shows if there are fewer answers than
    features, so at most ``share`` times as many answers as features are fitted.
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
    """Each penalty, its head on the fitted rows, and the relative residual on the held-out rows."""
    rows, others = torch.from_numpy(fitted), torch.from_numpy(held)
    system, train, test = System(features[rows]), equations[rows], equations[others]
    left = train if start is None else train.beside(start(features[rows]))
    heads = [system.solve(left, penalty) for penalty in penalties]
    heads = heads if start is None else [start + head for head in heads]
    off = [relative_residual(test, head(features[others]), train) for head in heads]
    return list(zip(penalties, heads, off, strict=True))


def relative_residual(equations: Equations, logits: Tensor, fitted: Equations) -> float:
    """Root mean square of the residuals, relative to predicting the mean of the fitted equations."""
    mean = fitted.centre(fitted.logs).sum(0) / fitted.known.sum(0).clamp(min=1)
    baseline = float(equations.residuals(mean.expand_as(logits)).square().sum())
    off = float(equations.residuals(logits).square().sum())
    return (off / baseline) ** 0.5 if baseline else float("inf")


def find_limit(answers: Tensor) -> str | None:
    """Why answers ``(n, C)`` cannot be equations of a head, in words; None if no reason is found.

    Truncated answers have zeros without the tiny entries that a saturated softmax also has; rounded answers are
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
