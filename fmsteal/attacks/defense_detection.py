"""Which defense an encoder's API has, by the look of its answers: BESA's meta-classifier (Ren et al., 2025).

A set of answers is described by numbers that do not depend on which entry is which, as the attacker does not know what
the target's entries mean. A forest of random trees learns from sets of shadow encoders' answers under each candidate
which numbers tell the candidates apart. The description and the forest are ours: of the paper we had no more than that
a meta-classifier infers the defense from feature vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import ExtraTreesClassifier
from torch import Tensor

from fmsteal.base.seeds import derive_seed

QUANTILES = tuple(np.linspace(0.05, 0.95, 7))
DECIMALS = (0, 1, 2, 3)  # grids on which answers may lie
TREES = 300
TINY = 1e-6
Floats = npt.NDArray[np.float64]


def describe_answers(answers: Tensor) -> Floats:
    """Numbers ``(q,)`` that describe a set of answers ``(n, D)``, n at least 2.

    The logarithm of the root mean square r; in units of r the mean, the quantiles and the mean of the rows' largest
    entries; the share of zeros, and how it varies from row to row; how the rows' lengths vary; how far the answers lie
    off a grid of 0, 1, 2 or 3 decimals, as a logarithm; and how many directions the rows take: the participation
    ratio of their centred Gram matrix, relative to n, and the share of the first direction.
    """
    y = answers.double()
    r = y.square().mean().sqrt().clamp(min=TINY)
    zeros, lengths = (y == 0).double().mean(1), y.norm(dim=1)
    centred = y - y.mean(0)
    spectrum = torch.linalg.eigvalsh(centred @ centred.T / (r.square() * y.shape[1])).clamp(min=0)
    total = spectrum.sum().clamp(min=TINY)
    off = [(y * 10**decimals - (y * 10**decimals).round()).abs().max() for decimals in DECIMALS]
    return np.array(
        [
            r.log(),
            y.mean() / r,
            *(torch.from_numpy(np.quantile((y / r).numpy(), QUANTILES))),
            (y.amax(1) / r).mean(),
            zeros.mean(),
            zeros.std(),
            (zeros * y.shape[1]).mean().add(1).log(),
            lengths.std() / lengths.mean().clamp(min=TINY),
            *(torch.stack(off) + TINY).log10(),
            total.square() / spectrum.square().sum().clamp(min=TINY**2) / len(y),
            spectrum.max() / total,
        ],
        dtype=np.float64,
    )


class MetaClassifier:
    """Tells candidates apart by their answers; it learns from sets of answers whose defense is known."""

    def __init__(self, sets: Iterable[tuple[str, Tensor]], seed: int) -> None:
        """Fit to ``sets``: a candidate's name and a set of answers ``(n, D)`` each."""
        known = [(name, describe_answers(answers)) for name, answers in sets]
        self._trees = ExtraTreesClassifier(TREES, random_state=derive_seed("meta-classifier", seed) % 2**32)
        self._trees.fit(np.stack([row for _, row in known]), [name for name, _ in known])

    def judge(self, sets: Sequence[Tensor]) -> Mapping[str, float]:
        """The probability of each candidate, given sets of answers ``(n, D)`` of one API: the mean over the sets."""
        found = self._trees.predict_proba(np.stack([describe_answers(answers) for answers in sets])).mean(0)
        return dict(zip(self._trees.classes_.tolist(), found.tolist(), strict=True))
