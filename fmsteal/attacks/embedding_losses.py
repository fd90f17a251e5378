"""How a thief's embeddings are compared with the victim's: the losses of direct extraction.

Dziedzic et al., "On the Difficulty of Defending Self-Supervised Learning against Model Extraction" (ICML 2022). Each
takes ``thief`` and ``victim`` embeddings, ``(n, D)``, with row i of both the same image, and returns a scalar. Their
code shows two views of each image to both encoders; these functions take one view, and say where that differs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.base.errors import AttackError
from fmsteal.config.answers import mark_answers
from fmsteal.training.classifier import Loss
from fmsteal.training.contrastive import nt_xent


def require_several(loss: Loss) -> Loss:
    """Mark a loss that compares the images of a batch, and so needs two or more: see `Direct.check`."""
    loss.fewest = 2  # type: ignore[attr-defined]
    return loss


def _require_several(loss: str, rows: Tensor) -> None:
    if len(rows) < 2:
        raise AttackError(
            f"The loss {loss} compares the images of a batch and needs two or more in it, and got one. Ask for more "
            "images than one (budget), or set a larger attack.recipe.batch_size."
        )


@mark_answers("embeddings")
def mse(thief: Tensor, victim: Tensor) -> Tensor:
    """Mean squared error over images and dimensions, without normalising the embeddings."""
    return F.mse_loss(thief, victim)


@require_several
@mark_answers("embeddings")
def infonce(thief: Tensor, victim: Tensor, temperature: float = 0.07) -> Tensor:
    """NT-Xent over the union of both sides' embeddings, normalised here.

    This is the published code's loss at one view. With two views that code uses one of an anchor's three positives, and
    leaves the other two among the negatives.

    Raises:
        AttackError: n is 1: there are no negatives, and nothing is learnt.
    """
    _require_several("infonce", thief)
    return nt_xent(thief, victim, temperature)


@require_several
@mark_answers("embeddings")
def soft_nn(thief: Tensor, victim: Tensor, temperature: float = 100.0) -> Tensor:
    """Soft nearest neighbour loss (Frosst et al., ICML 2019, eq. 1) over the union of both sides, not normalised.

    ``mean_i -log(e^{-||z_i - z_i'||^2/T} / sum_{j != i} e^{-||z_i - z_j||^2/T})``, where i' is the same image on the
    other side, the only other embedding of i's class. The published code adds 1e-9 inside the logarithm, which caps the
    loss at 20.7, where its gradient vanishes; neither the paper nor this function does so.

    Raises:
        AttackError: n is 1: there are no negatives, and nothing is learnt.
    """
    _require_several("soft_nn", thief)
    z = torch.cat([thief, victim])
    z = z - z.detach().mean(dim=0)  # distances do not change, and products lose fewer digits
    # A row's softmax does not depend on ||z_i||^2, so the rest of the distances takes one matrix product.
    logits = ((2 * z @ z.T - z.square().sum(dim=1)) / temperature).fill_diagonal_(float("-inf"))
    other_side = torch.arange(len(z), device=z.device).roll(len(thief))
    return F.cross_entropy(logits, other_side)


@mark_answers("embeddings")
def wasserstein(thief: Tensor, victim: Tensor) -> Tensor:
    """First Wasserstein distance of each image's two embeddings, read as weights on positions 1..D; mean over images.

    As in the published code, each row is divided by its sum (+ 1e-14), and the absolute differences of the
    cumulative sums are added up. Entries are neither sorted nor otherwise normalised. It is a distance only for
    non-negative entries (embeddings after a ReLU, as in the paper); the sum of signed entries may come near 0.

    Raises:
        AttackError: the victim's embeddings have negative entries.
    """
    if bool((victim < 0).any()):
        raise AttackError(
            "The loss wasserstein reads embeddings as weights, which cannot be negative, but the API answered some "
            "below 0: its encoder does not end in a ReLU. Choose another loss (attack/loss=mse), or another victim=..."
        )
    weights = [rows / (rows.sum(dim=1, keepdim=True) + 1e-14) for rows in (thief, victim)]
    return (weights[0] - weights[1]).cumsum(dim=1).abs().sum(dim=1).mean()


@require_several
@mark_answers("embeddings")
def barlow(thief: Tensor, victim: Tensor, weight: float = 0.0051) -> Tensor:
    """``sum_a (1 - c_aa)^2 + weight * sum_{a != b} c_ab^2`` (Barlow Twins, Zbontar et al., ICML 2021, eq. 1).

    c is the ``(D, D)`` correlation between the thief's and the victim's dimensions over the batch, with 1e-5 added to
    variances as in BatchNorm. The published code has two views, and correlates both sides' first views, stacked, with
    both sides' second views; with one view there is only this correlation.

    Raises:
        AttackError: n is 1: a single image has no variance.
    """
    _require_several("barlow", thief)
    s, v = (F.batch_norm(side, None, None, training=True) for side in (thief, victim))
    correlation = s.T @ v / len(s)
    errors = (correlation - torch.eye(s.shape[1], dtype=s.dtype, device=s.device)).square()
    diagonal = errors.diagonal().sum()
    return diagonal + weight * (errors.sum() - diagonal)
