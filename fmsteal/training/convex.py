"""A linear head on fixed features, fitted to convergence: a convex problem with one solution.

This is minimised over the weights ``W (D, C)`` and the bias ``b (C,)``, for features ``x (n, D)``::

    F(W, b) = loss(((x - m) / s) W + b, y) + l2 / 2 ||W||^2

with m the mean of the features, and s, a scalar, the root of their mean variance: a penalty means the same whatever
the scale of a trunk. ``loss`` is any convex loss of logits and targets that is a mean over rows and can be
differentiated twice; the bias is not penalised. The head that is returned takes the features as they are.

The method is Newton's, see `fmsteal.training.newton`; one factorisation of the features serves all penalties.

Rows are first sorted by their content, so the order in which they are given has no effect. Content means bytes: where
the last bits of a feature differ, as between kinds of CPU, another fifth of the rows is held out, and of few rows
another penalty may be chosen.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import DataError
from fmsteal.training.classifier import Loss
from fmsteal.training.newton import FittedHead, Rotated, Work

log = logging.getLogger(__name__)

#: A fit has converged when the norm of F's gradient is this share of the penalty's own, ``l2 ||W||``.
GRADIENT = 1e-2
#: The same while a penalty is being chosen.
ROUGH = 0.3
#: The penalties that are tried, from large to small, each from the solution before. With 1e-6, the fit takes three
#: times as long and agrees .01 more.
PENALTIES = tuple(10.0**-power for power in range(6))
#: Fits of a head: one for each penalty, and the last one to all rows.
FITS = len(PENALTIES) + 1
#: One row in this many is held out to choose the penalty by.
PART = 5
#: A smaller penalty is not tried if the last one gained less than this share of what all before it gained.
WORTH = 1e-2
#: The penalty if there are too few different rows to hold some out.
FEW = 1e-4
KEPT = "convex.pt"

Tell = Callable[[dict[str, float], int, int], None]


@dataclass(frozen=True)
class Fit:
    """A head, and how it was found.

    Attributes:
        weight: ``(C, D)`` float32, for the features as they were given.
        bias: ``(C,)``.
        l2: the penalty.
        loss: mean loss of the rows, without the penalty.
        gradient: norm of F's gradient at the end.
        needed: the largest such norm that counts as converged.
        tried: for each penalty that was tried, the loss and the agreement on the held-out part; agreement is the share
            of rows for which head and target have the same argmax.
        steps: number of Newton steps.
        products: number of products of the Hessian with a vector.
    """

    weight: Tensor
    bias: Tensor
    l2: float
    loss: float
    gradient: float
    needed: float
    tried: dict[float, tuple[float, float]]
    steps: int
    products: int


def fit_head(
    features: Tensor,
    targets: Tensor,
    loss: Loss,
    classes: int,
    l2: float | None = None,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    device: torch.device | str = "cpu",
    scratch: Path | None = None,
    tell: Tell = lambda metrics, done, total: None,
    tolerance: float = GRADIENT,
) -> Fit:
    """Fit a head to all rows.

    Args:
        features: ``(n, D)``, or ``(views, n, D)``: several rows with one target.
        targets: labels int64 ``(n,)``, or soft answers ``(n, C)``.
        loss: loss of logits and targets, a mean over rows.
        classes: number of classes, C.
        l2: the penalty, above 0; None chooses the one of `PENALTIES` with the smallest loss on held-out rows, then fits
            these as well.
        held_out: those rows, features ``(m, D)`` and targets ``(m, ...)``; None takes a fifth of all, by their content.
            If the penalty is given, they are rows like the others.
        device: where to compute.
        scratch: a folder for the state from which a killed fit continues.
        tell: called after each fit with its metrics, the number of fits done, and the total.
        tolerance: see `GRADIENT`.

    Raises:
        DataError: there are no rows, or values that are not finite.
        FmstealError: the loss is not finite.
    """
    device = torch.device("cpu" if torch.device(device).type == "mps" else device)  # mps has no float64
    data = _gather(features, targets, held_out, device)
    work, whole = Work(loss, classes), Rotated(data.inputs)
    chosen: dict[str, float] = {}
    kept = Kept(scratch, data)
    if l2 is None and not bool(data.held_out.any()):
        log.info("%d rows are too few to choose a penalty by some of them: l2=%g", len(data.inputs), FEW)
        l2 = FEW
    if l2 is None:
        fitted, out = data.part(~data.held_out), data.part(data.held_out)
        problem = whole.part(~data.held_out)
        for number, penalty in enumerate(PENALTIES, start=1):
            if penalty in kept.tried:
                continue
            if _is_past(kept.tried):
                break
            point = work.minimise(problem, fitted.targets, penalty, kept.head, ROUGH)
            logits = point.head(out.inputs)
            kept.add(
                penalty, _loss_at_best_scale(loss, logits, out.targets), _agreement(logits, out.targets), point.head
            )
            held_loss, agreement = kept.tried[penalty]
            metrics = {"loss": point.loss, "l2": penalty}
            tell({**metrics, "held_out_loss": held_loss, "held_out_agreement": agreement}, number, FITS)
        l2, head = kept.choose()
        chosen = dict(zip(("best_held_out_loss", "best_held_out_agreement"), kept.tried[l2], strict=True))
    else:
        head = None
        for penalty in PENALTIES:
            if penalty > 2 * l2:
                head = work.minimise(whole, data.targets, penalty, head, ROUGH).head
    point = work.minimise(whole, data.targets, l2, head, tolerance)
    if point.gradient > 10 * point.needed:
        log.warning("The fit of a head ends with a gradient of %.1e, not %.1e.", point.gradient, point.needed)
    tell({"loss": point.loss, "l2": l2, "gradient": point.gradient, **chosen}, FITS, FITS)
    weight = point.head.weight / data.scale
    bias = point.head.bias - data.mean @ weight
    return Fit(
        weight.T.float().cpu().contiguous(), bias.float().cpu(), l2, point.loss, point.gradient, point.needed,
        dict(kept.tried), work.steps, work.products,
    )  # fmt: skip


@dataclass(frozen=True)
class Data:
    """Rows, sorted by their content.

    Attributes:
        inputs: centred and scaled features, float64 ``(n, D)``.
        targets: labels, or float64 ``(n, C)``.
        held_out: whether each row is held out, bool ``(n,)``.
        mean, scale: m and s.
        digest: digest of all rows, their targets, and which are held out.
    """

    inputs: Tensor
    targets: Tensor
    held_out: Tensor
    mean: Tensor
    scale: float
    digest: str

    def part(self, rows: Tensor) -> Data:
        """Some of the rows, by a mask ``(n,)``."""
        return Data(self.inputs[rows], self.targets[rows], self.held_out[rows], self.mean, self.scale, self.digest)


def _gather(features: Tensor, targets: Tensor, held_out: tuple[Tensor, Tensor] | None, device: torch.device) -> Data:
    """All rows, ordered by a digest of each image's features and target; a fifth of the different ones held out."""
    views = features[None] if features.ndim == 2 else features
    if not views.shape[1]:
        raise DataError("A head cannot be fitted to no rows at all.")
    names = _digests(views, targets)
    if held_out is None:
        different = sorted(set(names))
        out = set(different[::PART]) if len(different) >= 2 * PART else set()
        groups = [(views, targets, names, [name in out for name in names])]
    else:
        other = held_out[0][None]
        own = _digests(other, held_out[1])
        groups = [(views, targets, names, [False] * len(names)), (other, held_out[1], own, [True] * len(own))]
    rows, answers, parts, keys = [], [], [], []
    for some, theirs, known, is_out in groups:
        for view in some:
            rows.append(view)
            answers.append(theirs)
            parts.extend(is_out)
            keys.extend(known)
    digests = np.array([f"{key}{part:d}" for key, part in zip(keys, parts, strict=True)])
    # views of an image share its digest; they keep the order that they have in the bank
    order = torch.from_numpy(np.argsort(digests, kind="stable"))
    x = torch.cat(rows)[order].to(device).double()
    y = torch.cat(answers)[order].to(device)
    if not bool(x.isfinite().all()) or not bool(y.isfinite().all()):
        raise DataError("The features or answers that a head is fitted to hold values that are not finite.")
    mean = x.mean(dim=0)
    x -= mean
    scale = float(x.square().mean().sqrt()) or 1.0
    whole = hashlib.blake2b("".join(digests[order.numpy()]).encode(), digest_size=16).hexdigest()
    y = y.double() if y.is_floating_point() else y
    return Data(x.div_(scale), y, torch.tensor(parts)[order].to(device), mean, scale, whole)


def _digests(views: Tensor, targets: Tensor) -> list[str]:
    """A digest of each image, of all its views and its target."""
    rows = views.transpose(0, 1).contiguous().float().cpu().numpy()
    answers = targets.contiguous().cpu().numpy()
    return [
        hashlib.blake2b(row.tobytes() + answer.tobytes(), digest_size=16).hexdigest()
        for row, answer in zip(rows, answers, strict=True)
    ]


class Kept:
    """The penalties that were tried, in a file from which a killed fit continues."""

    def __init__(self, folder: Path | None, data: Data) -> None:
        self.path = None if folder is None else folder / KEPT
        self.digest = data.digest
        self.tried: dict[float, tuple[float, float]] = {}
        self.heads: dict[float, FittedHead] = {}
        if self.path is not None and self.path.is_file():
            self._read(data.inputs.device)

    def _read(self, device: torch.device) -> None:
        assert self.path is not None
        try:
            state = torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:  # a damaged file can fail in many ways
            log.warning("%s is damaged (%s): starting over", self.path, error)
            return
        if state["digest"] == self.digest:
            self.tried = {penalty: (loss, agreement) for penalty, loss, agreement in state["tried"]}
            self.heads = {penalty: FittedHead(weight, bias) for penalty, weight, bias in state["heads"]}

    @property
    def head(self) -> FittedHead | None:
        """The head of the smallest penalty so far."""
        return self.heads[min(self.heads)] if self.heads else None

    def choose(self) -> tuple[float, FittedHead]:
        """The penalty with the smallest loss, and its head."""
        best = min(self.tried, key=lambda penalty: self.tried[penalty][0])
        return best, self.heads[best]

    def add(self, penalty: float, loss: float, agreement: float, head: FittedHead) -> None:
        """Remember a penalty; of the heads, only the best and the latest are kept."""
        self.tried[penalty], self.heads[penalty] = (loss, agreement), head
        self.heads = {known: self.heads[known] for known in {self.choose()[0], penalty}}
        if self.path is None:
            return
        state = {
            "digest": self.digest,
            "tried": [(known, *scores) for known, scores in self.tried.items()],
            "heads": [(known, one.weight, one.bias) for known, one in self.heads.items()],
        }
        fresh = self.path.with_suffix(".tmp")
        torch.save(state, fresh)
        fresh.replace(self.path)


def _is_past(tried: dict[float, tuple[float, float]]) -> bool:
    """Whether the latest penalty was no better than those before, or by less than `WORTH` of what they gained."""
    losses = [loss for loss, _ in tried.values()]
    return len(losses) > 1 and min(losses[:-1]) - losses[-1] < WORTH * (losses[0] - min(losses[:-1]))


def _loss_at_best_scale(loss: Loss, logits: Tensor, targets: Tensor) -> float:
    """``min_a loss(a z, y)`` over a from 1/100 to 100: convex in a, so by golden section."""
    ratio = (math.sqrt(5) - 1) / 2
    low, high = math.log(1e-2), math.log(1e2)

    def value(exponent: float) -> float:
        return float(loss(math.exp(exponent) * logits, targets))

    one, other = high - ratio * (high - low), low + ratio * (high - low)
    at_one, at_other = value(one), value(other)
    while high - low > 1e-3:
        if at_one <= at_other:
            high, other, at_other = other, one, at_one
            one = high - ratio * (high - low)
            at_one = value(one)
        else:
            low, one, at_one = one, other, at_other
            other = low + ratio * (high - low)
            at_other = value(other)
    return min(at_one, at_other)


def _agreement(logits: Tensor, targets: Tensor) -> float:
    labels = targets if targets.ndim == 1 else targets.argmax(dim=1)
    return float((logits.argmax(dim=1) == labels).double().mean())
