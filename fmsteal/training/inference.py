"""Forward passes outside training: never under autograd, always in batches of one size, features looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.base.rows import Rows
from fmsteal.data.images import Ids, Images
from fmsteal.data.views import View
from fmsteal.networks.backbones import BackboneSpec, set_memory_format
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.encoder import Encoder
from fmsteal.training.tuning import find_best_batch

SHOWN_FROM = 1000  # progress is shown for calls with more images than this


def logits(model: nn.Module, images: Images, ids: Ids, ctx: Context) -> Tensor:
    """Outputs of ``model`` for the images ``ids``, float32 ``(n, C)`` on the CPU.

    A thief or victim whose trunk is a frozen pretrained one takes its features from the store.
    """
    if isinstance(model, Classifier | Encoder) and model.frozen is not None:
        rows = features(model.frozen, model.backbone, images, ids, ctx)
        return run_in_batches(model.trained, lambda part: rows[part], len(rows), ctx)
    return compute_outputs(model, images, ids, ctx)


def penultimate(model: Classifier, images: Images, ids: Ids, ctx: Context) -> Tensor:
    """The inputs of a classifier's last layer, float32 ``(n, D)``; from the store if its trunk is frozen."""
    if model.frozen is not None:
        return features(model.frozen, model.backbone, images, ids, ctx)
    return compute_outputs(model.backbone, images, ids, ctx)


def features(
    spec: BackboneSpec, trunk: nn.Module, images: Images, ids: Ids, ctx: Context, view: View | None = None
) -> Tensor:
    """Features of a frozen pretrained ``trunk``, float32 ``(n, D)``; each image or view passes through it only once."""
    if images.parts and len(ids):
        return _gathered(lambda part, some: features(spec, trunk, part, some, ctx, view), images.parts, ids)
    stored = images.whole()
    key: dict[str, object] = {"backbone": spec.identity(pretrained=True), "images": stored.digest}
    if view is not None:
        key["view"] = view.identity()

    def compute(new: Ids) -> Rows:
        if view is None:
            return compute_outputs(trunk, stored, new, ctx).numpy()
        return run_in_batches(trunk, lambda part: view.of(stored, new[part]), len(new), ctx).numpy()

    return torch.from_numpy(ctx.rows("features", spec.model, key).get(images.place(ids), compute))


def compute_outputs(model: nn.Module, images: Images, ids: Ids, ctx: Context) -> Tensor:
    """Outputs of ``model`` for the images ``ids``, straight from the pixels."""
    return run_in_batches(model, lambda part: torch.from_numpy(np.array(images.pixels[ids[part]])), len(ids), ctx)


@torch.no_grad()
def run_in_batches(model: nn.Module, rows: Callable[[slice], Tensor], count: int, ctx: Context) -> Tensor:
    """Run ``count`` rows through a model, which stays in eval mode on the trainer's device; float32 on the CPU.

    The last batch is padded to full size: kernels are chosen by batch size, and a row's result must not depend on
    how many other rows are run with it.
    """
    device = ctx.training.device
    model = set_memory_format(model.to(device=device).eval(), ctx.training.layout)
    if not count:
        return torch.zeros(0, 0)
    size = ctx.training.inference_batch or find_best_batch(ctx.store, model, rows(slice(0, 1)))
    parts = []
    for start in range(0, count, size):
        batch = rows(slice(start, min(start + size, count)))
        short = size - len(batch)
        padded = torch.cat([batch, batch[-1:].expand(short, *batch.shape[1:])]) if short else batch
        parts.append(model(padded.to(device))[: len(batch)].float().cpu())
        if count > SHOWN_FROM:
            ctx.progress.update("forward", min(start + size, count), count)
    return torch.cat(parts)


def _gathered(rows: Callable[[Images, Ids], Tensor], parts: Sequence[Images], ids: Ids) -> Tensor:
    """The rows of images ``ids`` of a set joined from parts, with ``rows(part, its ids)`` for each part."""
    ends = np.cumsum([len(part) for part in parts])
    within = np.searchsorted(ends, ids, side="right")
    found = {n: rows(parts[n], ids[within == n] - (ends[n] - len(parts[n]))) for n in np.unique(within).tolist()}
    out = torch.empty(len(ids), next(iter(found.values())).shape[1])
    for number, some in found.items():
        out[torch.from_numpy(within == number)] = some
    return out
