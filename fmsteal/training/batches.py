"""Refuses batches of one image where a BatchNorm trains: they have no statistics, and torch stops in mid-training."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fmsteal.base.errors import ConfigError
from fmsteal.data.loader import TensorLoader


def require_whole(net: nn.Module, loader: TensorLoader) -> None:
    """Refuse a training whose batches, or whose last one, are a single image if a BatchNorm trains.

    Raises:
        ConfigError: a batch is a single image, and a BatchNorm trains.
    """
    count, size = len(loader.targets), loader.batch_size
    least = min(count, size) if loader.whole else (count % size or size)
    if least == 1 and type(loader) is TensorLoader and any(_is_trained(module) for module in net.modules()):
        raise ConfigError(
            f"A batch of this training is a single image ({count} images, batch_size={size}), and its network has a "
            "BatchNorm: it needs two or more. Choose a larger recipe.batch_size, or more images (budget.queries=N)."
        )


def _is_trained(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.training
