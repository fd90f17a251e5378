"""A generator that restores an embedding entry by entry, by the same small network for every entry of any encoder.

What it is shown of an entry does not depend on which entry it is: so it can learn from encoders whose entries mean
something else. Embeddings are restored up to their length, which defenses that normalise them leave nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SEEN = 6  # numbers by which an entry is described
SLOPE = 0.1  # of the leaky ReLU
AT_ONCE = 2**20  # entries restored at a time
TINY = 1e-6


def describe_entries(answers: Tensor, expected: Tensor) -> Tensor:
    """What the generator is shown of each entry of a set of answers, float32 ``(n, D, SEEN)``.

    The answer; what was expected of it; the smallest entry of the row by magnitude that is not 0; and of the column
    the mean, the standard deviation and the share of zeros. All but the last are in units of the set's root mean
    square. With more about the row (its length, its largest entry) a noisy row is moved as a whole: its cosine is as
    good, and a map fitted to such rows tells images apart less well.

    Args:
        answers: ``(n, D)``, n at least 2.
        expected: ``(n, D)``, a guess of each answer that did not see it.
    """
    y, m = answers.float(), expected.float()
    r = y.square().mean().sqrt().clamp(min=TINY)
    smallest = torch.where(y == 0, torch.inf, y.abs()).amin(1, keepdim=True)
    smallest = torch.where(smallest.isinf(), 0, smallest)
    parts = [y, m, smallest, y.mean(0, keepdim=True), y.std(0, keepdim=True)]
    zeros = (y == 0).float().mean(0, keepdim=True)
    return torch.stack([*(part.expand_as(y) / r for part in parts), zeros.expand_as(y)], dim=-1)


def to_unit(rows: Tensor) -> Tensor:
    """Rows ``(n, D)`` with a root mean square of 1; a row of zeros stays one."""
    return F.normalize(rows.float(), dim=1) * rows.shape[1] ** 0.5


class EntryGenerator(nn.Module):
    """Descriptions of entries ``(..., SEEN)`` in, restored entries ``(..., 1)`` out; linear without hidden layers."""

    mean: Tensor
    scale: Tensor

    def __init__(self, described: Tensor, hidden: Sequence[int]) -> None:
        """Standardise inputs as ``described (n, SEEN)`` are distributed; hidden layers have these widths."""
        super().__init__()
        self.register_buffer("mean", described.mean(0))
        self.register_buffer("scale", described.std(0).clamp(min=TINY))
        layers: list[nn.Module] = []
        for before, after in pairwise([SEEN, *hidden]):
            layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Linear([SEEN, *hidden][-1], 1))

    def forward(self, described: Tensor) -> Tensor:
        """The restored entries."""
        return self.layers((described - self.mean) / self.scale)

    @torch.no_grad()
    def restore(self, answers: Tensor, expected: Tensor) -> Tensor:
        """Restored embeddings of length 1, float32 ``(n, D)``, of a set of answers and what was expected of them."""
        described = describe_entries(answers, expected)
        parts = [self(part) for part in described.flatten(0, 1).split(AT_ONCE)]
        return F.normalize(torch.cat(parts).reshape(answers.shape), dim=1)
