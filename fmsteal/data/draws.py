"""Random numbers of a batch: one draw per image, from torch's global generator of the images' device; and steps that
change some of its images."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError


class Sometimes(nn.Module):
    """Changes a share ``chance`` of the images of a batch, each chosen on its own.

    A step says what becomes of the chosen ones (`changed`), and names its `settings`, attributes with a number each.
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
        """What becomes of those that are chosen, as many."""
        raise NotImplementedError


def draw_uniform(count: int, low: float, high: float, device: torch.device | None = None) -> Tensor:
    """Numbers in [low, high), ``(count,)``."""
    return torch.rand(count, device=device) * (high - low) + low


def choose_rows(count: int, chance: float, device: torch.device | None = None) -> Tensor:
    """Row numbers, ascending, of the images that are chosen, each with this chance and on its own."""
    return (torch.rand(count, device=device) < chance).nonzero()[:, 0]


def check_setting(name: str, value: float, low: float, high: float) -> float:
    """The value of a setting.

    Raises:
        ConfigError: outside of [low, high].
    """
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} must lie between {low:g} and {high:g}.")
    return value
