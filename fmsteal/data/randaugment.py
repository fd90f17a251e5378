"""RandAugment (Cubuk et al., 2020) for whole batches, each image with its own operations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor, nn

from fmsteal.data.draws import check_setting

_BINS = 31
_Operation = Callable[[Tensor, float], Tensor]


class RandAugment(nn.Module):
    """torchvision's RandAugment: several random operations in a row, all at one magnitude.

    Images that drew the same operation and sign go through torchvision as one uint8 batch, because several of the
    operations are defined on uint8: the result has 256 levels.

    Args:
        operations: how many of the 14 operations each image goes through, drawn with replacement.
        magnitude: strength from 0 to 30; operations that have a sign get a random one.
    """

    whole = True  # the more images share an operation, the less each costs

    def __init__(self, operations: int = 2, magnitude: int = 14) -> None:
        super().__init__()
        self.operations = int(check_setting("operations", operations, 0, float("inf")))
        self.magnitude = int(check_setting("magnitude", magnitude, 0, _BINS - 1))

    def identity(self) -> dict[str, int]:
        """The settings that decide the augmentation."""
        return {"operations": self.operations, "magnitude": self.magnitude}

    def forward(self, images: Tensor) -> Tensor:
        """Augment float images ``(n, 3, H, W)`` in [0, 1]."""
        x = (images * 255).round().to(torch.uint8)
        height, width = images.shape[-2:]
        space = list(space_of(height, width, self.magnitude).values())
        for _ in range(self.operations):
            which = torch.randint(len(space), (len(x),), device=x.device)
            negative = torch.rand(len(x), device=x.device) < 0.5
            groups = 2 * which + negative * torch.tensor([signed for *_, signed in space], device=x.device)[which]
            order = groups.argsort()
            parts = x.index_select(0, order).split(groups.bincount(minlength=2 * len(space)).tolist())
            x = torch.cat([_applied(part, *space[n // 2], n % 2 == 1) for n, part in enumerate(parts) if len(part)])
            x = x.index_select(0, order.argsort())
        return x.to(images.dtype) / 255


def space_of(height: int, width: int, magnitude: int) -> dict[str, tuple[_Operation, float, bool]]:
    """The operations for images of a size: a function of uint8 images, its strength, and whether its sign is random."""

    def level(strongest: float) -> float:
        return float(torch.linspace(0, strongest, _BINS)[magnitude])  # float32, as torchvision's table

    return {
        "Identity": (lambda x, _: x, 0.0, False),
        "ShearX": (lambda x, m: _sheared(x, m, 0), level(0.3), True),
        "ShearY": (lambda x, m: _sheared(x, 0, m), level(0.3), True),
        "TranslateX": (lambda x, m: _moved(x, int(m), 0), level(150 / 331 * width), True),
        "TranslateY": (lambda x, m: _moved(x, 0, int(m)), level(150 / 331 * height), True),
        "Rotate": (lambda x, m: TF.rotate(x, m), level(30), True),
        "Brightness": (lambda x, m: TF.adjust_brightness(x, 1 + m), level(0.9), True),
        "Color": (lambda x, m: TF.adjust_saturation(x, 1 + m), level(0.9), True),
        "Contrast": (lambda x, m: TF.adjust_contrast(x, 1 + m), level(0.9), True),
        "Sharpness": (lambda x, m: TF.adjust_sharpness(x, 1 + m), level(0.9), True),
        "Posterize": (lambda x, m: TF.posterize(x, int(m)), 8 - round(level(4)), False),
        "Solarize": (_solarised, 255 * (1 - level(1)), False),
        "AutoContrast": (lambda x, _: TF.autocontrast(x), 0.0, False),
        "Equalize": (lambda x, _: TF.equalize(x), 0.0, False),
    }


def _applied(images: Tensor, apply: _Operation, strength: float, signed: bool, negative: bool) -> Tensor:
    return apply(images, -strength if signed and negative else strength)


def _sheared(images: Tensor, x: float, y: float) -> Tensor:
    shear = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return TF.affine(images, 0.0, [0, 0], 1.0, shear, center=[0, 0])


def _moved(images: Tensor, x: int, y: int) -> Tensor:
    return TF.affine(images, 0.0, [x, y], 1.0, [0.0, 0.0])


def _solarised(images: Tensor, threshold: float) -> Tensor:
    return images ^ (images >= math.ceil(threshold)).to(torch.uint8).mul_(255)  # torchvision's `where` is slow on bytes
