"""Low-rank updates of a pretrained trunk (LoRA, Hu et al., ICLR 2022): which layers get them, and whether they can."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fmsteal.base.errors import ConfigError
from fmsteal.networks.backbones import BackboneSpec

DEFAULT = "qkv"  # queries, keys and values of timm's ViTs, DeiTs, Swins: one linear layer in each block


@dataclass(frozen=True)
class LoRA:
    """Which layers ``W`` of a trunk become ``W + alpha / rank B A``, with ``A (rank, in)``, ``B (out, rank)`` trained.

    ``B`` starts at 0, ``A`` at random; ``W`` stays as it was pretrained, and so do the statistics of BatchNorms.

    Attributes:
        rank: rank of the updates.
        alpha: scale of the updates, times the rank.
        modules: the layers, linear ones or convolutions, by the last parts of their names in timm's model; None for
            ``qkv``, which ViTs have.
    """

    rank: int = 8
    alpha: float = 16.0
    modules: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0:
            raise ConfigError(f"LoRA needs lora.rank >= 1 and lora.alpha > 0; given: {self.rank}, {self.alpha}.")
        if self.modules is not None and not self.modules:
            raise ConfigError(f"recipe.lora.modules=[] names no layer: name some, or null for {DEFAULT} (of ViTs).")

    def identity(self) -> dict[str, Any]:
        """All that decides the updates, for an artifact's spec."""
        return {"rank": self.rank, "alpha": self.alpha, "modules": list(self.modules or [DEFAULT])}

    def layers(self, trunk: nn.Module, model: str) -> list[str]:
        """The full names of the layers in a ``trunk``, in its order.

        Raises:
            ConfigError: the trunk has no layer of a name, or one that is not a linear layer or plain convolution.
        """
        parts = dict(trunk.named_modules())
        found: dict[str, None] = {}
        for name in self.modules or [DEFAULT]:
            meant = [whole for whole in parts if whole == name or whole.endswith(f".{name}")]
            if not meant:
                raise ConfigError(f"{model} has no layer named {name}. {_advise(parts)}")
            for whole in meant:
                if not _takes_update(parts[whole]):
                    kind = "a grouped convolution" if isinstance(parts[whole], nn.Conv2d) else _article(parts[whole])
                    raise ConfigError(
                        f"{whole} of {model} is {kind}: a low-rank update goes into a linear layer or a plain "
                        f"convolution. {_advise(parts)}"
                    )
            found |= dict.fromkeys(meant)
        return [whole for whole in parts if whole in found]


def require_adaptable(spec: BackboneSpec, lora: LoRA) -> None:
    """Check, without weights, that a backbone has the layers, and that a forward pass goes through each.

    Some architectures read a layer's weight and compute its output themselves: an update would change nothing.

    Raises:
        ConfigError: a layer is missing or bypassed, or peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("adaptation=lora needs peft, which is not installed: pip install 'fmsteal[lora]'.")
    backbone = spec.blueprint
    layers = lora.layers(backbone.trunk, spec.model)
    called: set[str] = set()
    hooks = [
        backbone.trunk.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
        for name in layers
    ]
    try:
        with torch.no_grad():
            backbone.trunk(torch.zeros(1, 3, backbone.size, backbone.size, device=backbone.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
    if unused := [name for name in layers if name not in called]:
        raise ConfigError(
            f"{spec.model} computes with the weight of {unused[0]} itself: an update beside it would have no effect. "
            f"{_advise(dict(backbone.trunk.named_modules()))}"
        )


def _takes_update(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _article(layer: nn.Module) -> str:
    name = type(layer).__name__
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _advise(parts: dict[str, nn.Module]) -> str:
    """What to type: names of layers that exist."""
    lasts = dict.fromkeys(_last(name) for name, layer in parts.items() if _takes_update(layer))
    return f"Name the layers: recipe.lora.modules=[...], of {', '.join(list(lasts)[:12])}."


def _last(name: str) -> str:
    """The last part of a name; the last two parts if the last is a number."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:])
