"""The outputs of victim and thief for the same images, checked."""

from __future__ import annotations

from torch import Tensor, nn

from fmsteal.base.errors import AttackError
from fmsteal.data.images import Ids, Images
from fmsteal.training.context import Context
from fmsteal.training.inference import logits
from fmsteal.victims.base import Victim


def classify(victim: Victim, thief: nn.Module, images: Images, ids: Ids, ctx: Context) -> tuple[Tensor, Tensor]:
    """Logits of both classifiers, each ``(n, C)``; the victim's are shared with other jobs.

    Raises:
        AttackError: the thief's logits have the wrong shape, or are not finite.
    """
    v, t = victim.raw(images, ids, ctx), logits(thief, images, ids, ctx)
    if t.shape != v.shape:
        raise AttackError(f"The thief answers {tuple(t.shape)} where the victim answers {tuple(v.shape)}.")
    if not t.isfinite().all():
        raise AttackError("The thief's logits are not finite: its training diverged, or its weights are NaN.")
    return v, t


def embed(victim: Victim, thief: nn.Module, images: Images, ids: Ids, ctx: Context) -> tuple[Tensor, Tensor]:
    """Embeddings of both encoders, ``(n, D)`` and ``(n, D')``; the target's are shared with other jobs.

    Raises:
        AttackError: the embeddings have the wrong shape, are not finite, or are all the same.
    """
    v, t = victim.raw(images, ids, ctx), logits(thief, images, ids, ctx)
    _check("thief", t, len(ids))
    _check("target", v, len(ids))
    return v, t


def _check(who: str, rows: Tensor, count: int) -> None:
    if rows.ndim != 2 or len(rows) != count:
        raise AttackError(
            f"The {who} answers {tuple(rows.shape)} for {count} images: an encoder answers one row for each, (n, D)."
        )
    if not rows.isfinite().all():
        raise AttackError(f"The {who}'s embeddings are not finite: its training diverged, or its weights are NaN.")
    if count > 1 and (rows - rows[0]).abs().max() <= 1e-6 * rows.abs().max():
        raise AttackError(
            f"The {who} gives all {count} images the same embedding: its training collapsed (a smaller learning rate "
            "may help), or its last layer is dead."
        )
