"""Backbones from elsewhere: a torch module of yours or of torchvision, trained as a thief."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import checksum
from fmsteal.config.local import find_code
from fmsteal.identity import foreign
from fmsteal.networks.backbones import Backbone, BackboneSpec, Normalise, find_statistics
from fmsteal.networks.checkpoints import fit_to_trunk
from fmsteal.networks.given import find_named, find_tensor, make, spell_error
from fmsteal.networks.weights import read

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = "own"
NEEDED = "A thief needs pkg.module:name of a torch.nn.Module, or of a function or class that makes one."


class OwnTrunk(nn.Module):
    """A network without its last layer; its first tensor ``(n, D)`` is the features."""

    def __init__(self, net: nn.Module, head: str | None, name: str) -> None:
        super().__init__()
        self.net, self.name = net, name
        if head is not None:
            self._remove(head)

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images.

        Raises:
            ConfigError: the network gives something else.
        """
        outputs = find_tensor(self.net(images.contiguous()))
        if outputs is not None and outputs.ndim == 4 and outputs.shape[2:] == (1, 1):
            outputs = outputs.flatten(1)
        if outputs is None or outputs.ndim != 2 or len(outputs) != len(images):
            shape = "no tensor" if outputs is None else f"an output of shape {tuple(outputs.shape)}"
            raise ConfigError(f"backbone.model={self.name} gives {shape} for {len(images)} images, not a row for each.")
        return outputs

    def _apply(self, fn: Any, recurse: bool = True) -> OwnTrunk:
        """Keep weights contiguous: many networks flatten by `view`, which fails with channels last."""
        super()._apply(fn, recurse)
        for parameter in self.parameters():
            parameter.data = parameter.data.contiguous()
        return self

    def _remove(self, head: str) -> None:
        parent, _, last = head.rpartition(".")
        parts = dict(self.net.named_modules())
        if head not in parts or not last:
            near = ", ".join(list(parts)[-4:])
            raise ConfigError(f"backbone.head={head}: {self.name} has no such layer. Its last are {near}.")
        setattr(parts[parent], last, nn.Identity())


@dataclass(frozen=True)
class OwnBackbone(BackboneSpec):
    """A network that code makes, and how it sees images. The linear head behind its features is the thief's.

    Attributes:
        model: ``pkg.module:name`` of a module, or of a function or class that makes one.
        weights: ``own`` (those that the code makes it with), a path of a checkpoint, or None: from scratch.
        size: pixels of the square input.
        normalise: as in `BackboneSpec`, without ``timm``.
        options: keyword arguments of the function or class.
        head: name of its last layer, which is left out; None: its outputs are the features.
    """

    normalise: Normalise | Mapping[str, Sequence[float]] = field(default="none", hash=False)
    options: Mapping[str, Any] | None = field(default=None, hash=False)  # type: ignore[assignment]
    head: str | None = None

    def __post_init__(self) -> None:
        if find_code("model", self.model) is None:
            raise ConfigError(
                f"backbone.model={self.model} names no code, and a file of TorchScript, torch.export or ONNX cannot be "
                f"trained. {NEEDED}"
            )
        if self.size is None or self.size < 1:
            raise ConfigError(f"backbone.size={self.size}: say at what size {self.model} sees images, in pixels.")
        if self.stem != "own" or str(self.weights) == "hub" or str(self.weights).startswith("pypi:"):
            raise ConfigError(
                f"backbone.model={self.model} is no model of timm: backbone.stem=own, and backbone.weights=own (as the "
                "code makes it), /path/to/checkpoint, or null for a start from scratch."
            )
        find_statistics(self.normalise)

    def build(self, *, pretrained: bool) -> Backbone:
        """Make the backbone anew, with its weights or as the code initialises it from torch's global generator.

        Raises:
            ConfigError: the code makes no network, fails on an image, or has no such head.
            DataError: the weights are missing or of another architecture.
        """
        trunk = OwnTrunk(self._make(), self.head, self.model)
        if pretrained and self.weights != OWN:
            file = self._file()
            state = {name: value for name, value in read(file).items() if f".{self.head}." not in f".{name}"}
            trunk.net.load_state_dict(fit_to_trunk(state, trunk.net, file, self.model))
        assert self.size is not None
        mean, std = find_statistics(self.normalise)
        return Backbone(trunk, self._num_features(trunk, self.size), self.size, mean, std)

    def require_buildable(self) -> None:
        """Check that the code makes a network that takes images of this size.

        Raises:
            ConfigError: it does not.
        """
        _ = self.blueprint

    def require_trainable(self, adaptation: str) -> None:
        """Check that the network can be trained, and from scratch only if it is made anew.

        Raises:
            ConfigError: it cannot.
        """
        if adaptation in ("scratch", "simclr") and isinstance(find_named(self.model), nn.Module):
            raise ConfigError(
                f"backbone.model={self.model} is a module that was made already, which no seed initialises: name the "
                "function or class that makes it, or begin with its weights: backbone.weights=own and adaptation=full."
            )
        if adaptation == "probe":
            return
        with _random_undisturbed():
            backbone = self.build(pretrained=False).train()
            assert self.size is not None
            features = backbone(torch.rand(2, 3, self.size, self.size))
        if not features.requires_grad:
            raise ConfigError(
                f"backbone.model={self.model} cannot be trained: its features depend on no weights with gradients. "
                "Only a head on it can: adaptation=probe."
            )

    @property
    def blueprint(self) -> Backbone:
        """The backbone with any numbers, shared by all callers: only for inspection."""
        return _blueprint(replace(self, weights=None))

    def require_weights(self) -> None:
        """Check that the weights are there, and that those of the code are always the same.

        Raises:
            ConfigError: they are random.
            DataError: they are missing.
        """
        if self.weights != OWN:
            self._file()
        elif _own_digest(self, 0) != _own_digest(self, 1):
            raise ConfigError(
                f"backbone.weights=own, but {self.model} makes other weights each time: they are not trained. Begin "
                "from scratch (adaptation=scratch, backbone.weights=null), or give a checkpoint: "
                "backbone.weights=/path/to/checkpoint."
            )

    def identity(self, *, pretrained: bool) -> dict[str, Any]:
        """All that decides the features, for an artifact's spec: code and weights count by content."""
        weights = None
        if pretrained:
            weights = _own_digest(self, 0) if self.weights == OWN else _file_digest(str(self._file()))
        code = find_code("model", self.model)
        assert code is not None
        return {
            "model": dict(foreign.describe(code).head), "weights": weights, "size": self.size,
            "normalise": self.normalise, "options": dict(self.options or {}), "head": self.head,
        }  # fmt: skip

    @property
    def tied_to_size(self) -> dict[str, int]:
        """Options that size decides: none."""
        return {}

    def _make(self) -> nn.Module:
        found = find_named(self.model)
        made = (
            copy.deepcopy(found) if isinstance(found, nn.Module) else make(self.model, found, dict(self.options or {}))
        )
        if not isinstance(made, nn.Module) or isinstance(made, torch.jit.ScriptModule):
            kind = "a program of TorchScript" if isinstance(made, nn.Module) else f"a {type(made).__name__}"
            raise ConfigError(f"backbone.model={self.model} is {kind}, which cannot be trained. {NEEDED}")
        return made

    def _num_features(self, trunk: nn.Module, size: int) -> int:
        try:
            with torch.no_grad():
                width = trunk.eval()(torch.zeros(2, 3, size, size)).shape[1]
            trunk.train()
        except ConfigError:
            raise
        except Exception as error:  # whatever a network raises
            raise ConfigError(
                f"backbone.model={self.model} fails on images of {size} pixels ({spell_error(error)}). What it is "
                "shown: backbone.size, backbone.normalise."
            ) from error
        return int(width)

    def _file(self) -> Path:
        if not self.weights:
            raise DataError(
                f"{self.model} has no weights to begin with: backbone.weights=own (as the code makes it) or "
                "backbone.weights=/path/to/checkpoint; or adaptation=scratch."
            )
        file = Path(self.weights).expanduser()
        if not file.is_file():
            raise DataError(f"There is no weights file {file} for {self.model}.")
        return file


def restore(known: Mapping[str, Any]) -> BackboneSpec:
    """The spec with these fields, as a thief's file holds them."""
    return OwnBackbone(**known) if "head" in known else BackboneSpec(**known)


@contextmanager
def _random_undisturbed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@functools.lru_cache(maxsize=8)
def _blueprint(spec: OwnBackbone) -> Backbone:
    with _random_undisturbed():
        return spec.build(pretrained=False)


@functools.lru_cache(maxsize=16)
def _own_digest(spec: OwnBackbone, seed: int) -> str:
    """Digest of the weights that the code makes the network with."""
    total = hashlib.sha256()
    with _random_undisturbed():
        torch.manual_seed(seed)
        for name, value in sorted(spec._make().state_dict().items()):
            total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()[:16]


@functools.cache
def _file_digest(file: str) -> str:
    return checksum(Path(file))
