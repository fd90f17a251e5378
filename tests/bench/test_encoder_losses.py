"""What the losses of encoder stealing cost beside their published forms, forward and backward.

    OMP_NUM_THREADS=2 pytest tests/bench/test_encoder_losses.py -n 0 --benchmark-enable --benchmark-only

Both forms take turns on the same tensors and must agree; the figure is the median of the paired ratios. The published
forms are written here from what they do: Python loops over samples, every pair's cosine by itself, look-ups one by one.
Claims are for two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from fmsteal.attacks.cont_steal import cont_steal_loss
from fmsteal.attacks.stolen_encoder import stolen_encoder_loss
from fmsteal.defenses.truncation import top_k
from tests.bench.turns import paired


def same(theirs: list[Tensor], mine: list[Tensor]) -> None:
    for one, other in zip(theirs, mine, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def graded(loss: Callable[..., Tensor], thief: list[Tensor], victim: Tensor) -> list[Tensor]:
    """A loss and its gradient with respect to each of the thief's embeddings."""
    leaves = [x.detach().requires_grad_() for x in thief]
    value = loss(*leaves, victim)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def stolen_encoder_by_loops(clean: Tensor, *others: Tensor) -> Tensor:
    *stacked, targets = others
    views = list(stacked[0]) if stacked else []
    clean, targets = F.normalize(clean, dim=-1), F.normalize(targets, dim=-1)
    views = [F.normalize(view, dim=-1) for view in views]
    first, second = clean.new_zeros(()), clean.new_zeros(())
    for i, target in enumerate(targets):
        first = first + torch.dist(clean[i], target)
        for view in views:
            second = second + torch.dist(view[i], target)
    return first + 20 * second / len(views) if views else first


def stolen_encoder(clean: Tensor, *others: Tensor) -> Tensor:
    return stolen_encoder_loss(clean, None if len(others) == 1 else others[0], others[-1])


@pytest.mark.parametrize(("k", "claim"), [(0, 4.2), (1, 7.0), (9, 8.4)])
def test_stolen_encoder(k: int, claim: float, benchmark: BenchmarkFixture) -> None:
    thief = [torch.randn(64, 512), torch.randn(k, 64, 512)] if k else [torch.randn(64, 512)]
    targets = torch.randn(64, 512)
    paired(
        benchmark,
        partial(graded, stolen_encoder_by_loops, thief, targets),
        partial(graded, stolen_encoder, thief, targets),
        same,
        claim,
        turns=7,
        repeats=10,
        row=(f"StolenEncoder's loss and gradient, 64 x 512, k = {k}", "a loop over samples", "both, 1e-4"),
    )


def cont_steal_by_pairs(thief: Tensor, victim: Tensor) -> Tensor:
    n, z = len(thief), torch.cat([victim, thief])
    cosines = F.cosine_similarity(z[:, None], z[None], dim=2)
    positives = torch.cat([cosines.diag(n), cosines.diag(-n)])
    others = 1 - torch.eye(2 * n)
    each = -((positives / 0.5).exp() / (others * (cosines / 0.5).exp()).sum(dim=1)).log()
    return each.sum() / (2 * n)


@pytest.mark.parametrize(("n", "claim"), [(32, 24.0), (256, 504.0)])
def test_cont_steal(n: int, claim: float, benchmark: BenchmarkFixture) -> None:
    thief, victim = torch.randn(n, 512), torch.randn(n, 512)
    paired(
        benchmark,
        partial(graded, cont_steal_by_pairs, [thief], victim),
        partial(graded, cont_steal_loss, [thief], victim),
        same,
        claim,
        repeats=10,
        turns=7 if n < 100 else 3,
        row=(f"Cont-Steal's NT-Xent and gradient, {n} images", "all pairs broadcast", "both, 1e-4"),
    )


def test_prototypes_of_a_batch(benchmark: BenchmarkFixture) -> None:
    bank = torch.randn(2500, 512)
    one_by_one = dict(enumerate(bank))
    ids = torch.randperm(2500)[:100]

    def published() -> list[Tensor]:
        found = one_by_one[int(ids[0])][None]
        for i in ids[1:]:
            found = torch.cat([found, one_by_one[int(i)][None]])
        return [found]

    row = ("RDA's prototypes of a batch of 100", "looked up one by one", "1e-4")
    paired(benchmark, published, lambda: [bank[ids]], same, 17.5, turns=7, repeats=50, row=row)


def test_feature_top_k(benchmark: BenchmarkFixture) -> None:
    embeddings = torch.randn(1000, 512)

    def published() -> list[Tensor]:
        kept = torch.zeros_like(embeddings)
        values, places = embeddings.topk(5)
        for row in range(len(kept)):
            kept[row][places[row]] = values[row]
        return [kept]

    row = ("top 5 of 1,000 embeddings of 512", "row by row", "1e-4")
    paired(benchmark, published, lambda: [top_k(embeddings, 5)], same, 4.9, turns=7, repeats=10, row=row)
