"""The pooled outputs of the stages of an encoder's trunk: a look inside, without autograd."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fmsteal.networks.backbones import Backbone


class TrunkStages(nn.Module):
    """A trunk's stages as timm knows them (its ``feature_info``): raw images in, all stages' features side by side out.

    A map ``(n, C, H, W)`` is averaged over positions, tokens ``(n, N, C)`` over tokens. For use inside ``with``:
    afterwards the trunk is as it was, but in eval mode.

    Attributes:
        widths: number of columns that belong to each stage; empty if the trunk has none.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels_last = getattr(backbone.trunk, "output_fmt", "NCHW") == "NHWC"
        self.widths: list[int] = []
        self._seen: dict[str, Tensor] = {}

    def __enter__(self) -> TrunkStages:
        parts = dict(self.backbone.trunk.named_modules())
        names = [name for name in _names(self.backbone.trunk) if name in parts]
        self._hooks = [parts[name].register_forward_hook(self._hook(name)) for name in names]
        size, device = self.backbone.size, self.backbone.mean.device
        with torch.no_grad():
            self.eval()(torch.zeros(1, 3, size, size, device=device))
        self.widths = [rows.shape[1] for rows in self._seen.values()]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._seen = {}

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features of all stages, ``(n, sum of widths)``."""
        self._seen = {}
        self.backbone.forward(images)  # not called: a compiled module's call would skip hooks added later
        return torch.cat(list(self._seen.values()), dim=1) if self._seen else images.new_zeros(len(images), 0)

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                self._seen[name] = output.mean((1, 2) if self.channels_last else (2, 3))
            elif isinstance(output, Tensor) and output.ndim == 3:
                self._seen[name] = output.mean(1)

        return hook


def backbone_of(model: nn.Module) -> Backbone | None:
    """The backbone inside a model, if it has one."""
    return next((part for part in model.modules() if isinstance(part, Backbone)), None)


def match_stages(first: int, second: int) -> list[tuple[int, int]]:
    """Pairs of stages of two trunks by relative depth, given the number of each; the last is paired with the last."""
    count = min(first, second)
    return [(-(-i * first // count) - 1, -(-i * second // count) - 1) for i in range(1, count + 1)]


def _names(trunk: nn.Module) -> list[str]:
    known = getattr(trunk, "feature_info", None) or []
    return [stage["module"] for stage in getattr(known, "info", known) if "module" in stage]
