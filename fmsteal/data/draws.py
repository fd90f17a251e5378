"""Random numbers for a batch: one draw per image, from torch's global generator on the images' device; and steps that
change some of the images."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError


class Sometimes(nn.Module):
    """Changes a share ``chance`` of the images of a batch, each chosen independently.

    A step defines how the chosen images change (`change`), and names its `settings`, attributes with a number each.
    """

    settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = check_setting("chance", chance, 0, 1)

    def identity(self) -> dict[str, float]:
        """The settings that decide the step."""
        return {name: getattr(self, name) for name in (*self.settings, "chance")}

    def forward(self, images: Tensor) -> Tensor:
        """Change some of the float images ``(n, 3, H, W)`` in [0, 1]."""
        ids = choose_rows(len(images), self.chance, images.device)
        return images.index_copy(0, ids, self.change(images.index_select(0, ids)))

    def change(self, images: Tensor) -> Tensor:
        """Change the chosen images; returns the same number of images."""
        raise NotImplementedError


def draw_uniform(count: int, low: float, high: float, device: torch.device | None = None) -> Tensor:
    """Numbers in [low, high), ``(count,)``."""
    return torch.rand(count, device=device) * (high - low) + low


def choose_rows(count: int, chance: float, device: torch.device | None = None) -> Tensor:
    """Ascending row numbers of the chosen images; each is chosen independently, with probability ``chance``."""
    return (torch.rand(count, device=device) < chance).nonzero()[:, 0]


def check_setting(name: str, value: float, low: float, high: float) -> float:
    """Return the value of a setting after checking it.

    Raises:
        ConfigError: the value is outside [low, high].
    """
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} must lie between {low:g} and {high:g}.")
    return value
