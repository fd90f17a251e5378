"""Adversarial examples from a model's own gradients: FGSM and PGD, both untargeted, within an L-infinity ball.

FGSM (Goodfellow et al., ICLR 2015) and PGD with a random start (Madry et al., ICLR 2018). Images are float
``(n, 3, H, W)`` in [0, 1], before the model's own resizing and normalisation: the ball is of raw pixels. They are
written out here because they are two formulas, and the libraries that have them bring much else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fgsm(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """One step up the loss: ``x + eps sign(grad)``, kept in [0, 1]. Labels are ``(n,)``."""
    return (images + eps * _gradient(model, images, labels)[0].sign()).clamp(0, 1)


def pgd(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    step: float,
    steps: int,
    start: Tensor,
    *,
    stop: bool = False,
) -> Tensor:
    """Steps up the loss, each projected back to [0, 1] and to at most ``eps`` from the images.

    Args:
        model: the model, in eval mode if images must not depend on their neighbours.
        images: float ``(n, 3, H, W)`` in [0, 1].
        labels: labels to lead away from, ``(n,)``.
        eps: the ball's radius.
        step: how far a pixel moves in a step.
        steps: number of steps.
        start: where in the ball the first step starts; of the images' shape, in [-1, 1].
        stop: whether an image that has lost its label stays where it lost it, and costs no further pass.
    """
    low, high = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    x = (images + eps * start).clamp(low, high)
    moving = torch.arange(len(x), device=x.device)
    for _ in range(steps):
        gradient, logits = _gradient(model, x[moving], labels[moving])
        if stop:
            holds = logits.argmax(1) == labels[moving]
            moving, gradient = moving[holds], gradient[holds]
            if not len(moving):
                break
        x[moving] = (x[moving] + step * gradient.sign()).clamp(low[moving], high[moving])
    return x


def has_gradients(model: nn.Module, image: Tensor) -> bool:
    """Whether a model's outputs can be differentiated with respect to an image ``(3, H, W)``: an API's cannot."""
    device = next((p.device for p in model.parameters()), None)
    with restore_after(model), torch.enable_grad():
        try:
            return bool(model.eval()(image[None].to(device).requires_grad_()).requires_grad)
        except RuntimeError:  # for example if the model makes an array of the image
            return False


@contextmanager
def restore_after(model: nn.Module) -> Iterator[None]:
    """Restore a model's device, and the train mode of all its parts, afterwards."""
    training = {module: module.training for module in model.modules()}
    device = next((p.device for p in model.parameters()), None)
    try:
        yield
    finally:
        model.to(device)
        for module, mode in training.items():
            module.training = mode


def _gradient(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the cross-entropy in the images, and the logits; it is summed, to keep the images independent."""
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        return torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), x)[0], logits.detach()
