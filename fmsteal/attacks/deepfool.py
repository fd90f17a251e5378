"""DeepFool (Moosavi-Dezfooli et al., CVPR 2016, algorithm 2): the distance of images from where their label changes.

`distances` follows the paper, `distances_of_code` ActiveThief's code.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def distances(
    model: nn.Module, images: Tensor, *, steps: int = 20, classes: int | None = 10, overshoot: float = 0.02
) -> Tensor:
    """The Euclidean norm of the perturbation that changes the model's label of each image, float ``(n,)``.

    In each step an image moves onto the nearest of its linearised boundaries, until its label changes or the steps are
    used up; then the norm reached so far is returned. All images of a batch move together, and those that are done
    leave it. As in the paper, boundaries are those of the logits and nothing is clipped to [0, 1].

    Args:
        model: in eval mode, so an image's logits ``(n, C)`` do not depend on its neighbours.
        images: float ``(n, 3, H, W)``, on the model's device.
        steps: maximum number of steps.
        classes: consider only the boundaries between this many classes, the likeliest at the start, which include the
            image's own, as in the authors' code; None for all.
        overshoot: the share by which a perturbation goes beyond the boundary; norms include it.

    Returns:
        The norms; infinity where the logits do not depend on the image, so nothing can change its label.
    """
    moved, stuck = torch.zeros_like(images), torch.zeros(len(images), dtype=torch.bool, device=images.device)
    active, ranked = torch.arange(len(images), device=images.device), torch.empty(0)
    for step in range(steps):
        x = images[active] + (1 + overshoot) * moved[active]
        with torch.no_grad():  # one pass to find the images that are done; each class's gradient costs two
            logits = model(x)
        if step == 0:
            ranked = logits.sort(dim=1, descending=True, stable=True).indices[:, :classes]
        same = logits.argmax(dim=1) == ranked[active, 0]
        active, x = active[same], x[same]
        if not len(active):
            break
        move, found = _to_nearest_boundary(model, x, ranked[active])
        stuck[active[~found]] = True
        active, move = active[found], move[found]
        moved[active] += move
    norms = (1 + overshoot) * moved.flatten(1).norm(dim=1)
    return norms.masked_fill(stuck, torch.inf)


def distances_of_code(
    model: nn.Module, images: Tensor, *, steps: int = 20, classes: int | None = None, overshoot: float = 0.01
) -> Tensor:
    """What ActiveThief's code (Pal et al., AAAI 2020) sorts images by instead of DeepFool's norm, float ``(n,)``.

    With p the softmax, k the label at the start, and for each class j ``w_j = grad p_j - grad p_k`` and ``d_j = |p_j -
    p_k| / ||w_j||``, a step adds ``d_j w_j`` for the j with the smallest d (DeepFool itself adds ``d_j w_j / ||w_j||``,
    on logits). All steps are taken, whether the label has changed or not, and images are clipped to [0, 1] before each.

    Args:
        model: in eval mode, so an image's logits ``(n, C)`` do not depend on its neighbours.
        images: float in [0, 1], ``(n, 3, H, W)``, on the model's device.
        steps: number of steps.
        classes: consider only this many classes, the likeliest at the start; None for all, as in that code.
        overshoot: the perturbation is scaled by ``1 + overshoot``, when applied and when measured.

    Returns:
        The squared Euclidean norm of the clipped perturbation; infinity where some step found no gradient to follow.
    """
    moved, led = torch.zeros_like(images), torch.ones(len(images), dtype=torch.bool, device=images.device)
    with torch.no_grad():
        ranked = model(images).sort(dim=1, descending=True, stable=True).indices[:, :classes]
    for _ in range(steps):
        x = (images + (1 + overshoot) * moved).clamp(0, 1)
        move, found = _to_nearest_boundary(lambda x: model(x).softmax(dim=1), x, ranked, by_steepness=True)
        led &= found
        moved += move
    squares = ((images + (1 + overshoot) * moved).clamp(0, 1) - images).square().flatten(1).sum(dim=1)
    return squares.masked_fill(~led, torch.inf)


def _to_nearest_boundary(
    score: Callable[[Tensor], Tensor], x: Tensor, ranked: Tensor, *, by_steepness: bool = False
) -> tuple[Tensor, Tensor]:
    """For each image the smallest step onto one of its linearised boundaries, and whether there is one.

    One backward pass per class serves all images, since a row's scores depend on its own image alone. With
    ``by_steepness`` the step is the boundary's distance times its gradient, not normalised to length one.
    """
    x.requires_grad_()
    with torch.enable_grad():
        scores = score(x).gather(1, ranked)
    own = _gradient(scores[:, 0], x, last=scores.shape[1] == 1)
    move, nearest = torch.zeros_like(own), torch.full_like(scores[:, 0], torch.inf)
    gaps = (scores[:, 1:] - scores[:, :1]).detach().abs()
    for rank in range(1, scores.shape[1]):
        normal = _gradient(scores[:, rank], x, last=rank == scores.shape[1] - 1) - own
        steepness = normal.flatten(1).norm(dim=1)
        distance = torch.where(steepness > 0, gaps[:, rank - 1] / steepness, torch.inf)
        closer = distance < nearest
        nearest = torch.where(closer, distance, nearest)
        length = distance if by_steepness else distance / steepness
        move[closer] = length.view(-1, 1, 1, 1)[closer] * normal[closer]
    return move, nearest.isfinite()


def _gradient(scores: Tensor, x: Tensor, *, last: bool) -> Tensor:
    (gradient,) = torch.autograd.grad(scores.sum(), x, retain_graph=not last)
    return gradient
