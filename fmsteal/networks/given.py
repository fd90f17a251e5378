"""Models from elsewhere: code of another package, or a file of TorchScript, torch.export or ONNX."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.config.local import find_code
from fmsteal.networks.probabilities import take_logs

WAYS = (
    "pkg.module:name (a torch.nn.Module, a function or class that makes a model, or a function of images), or the path "
    "of a file of TorchScript (.pt), torch.export (.pt2) or ONNX (.onnx), as /path/to/model.onnx or ./model.onnx"
)


def load(model: str, options: Mapping[str, Any]) -> Any:
    """The model that a setting names: a `torch.nn.Module`, or a model outside of torch (see `Outside`).

    A function or class that can be called with only ``options`` makes the model; one that needs more is the model.
    Each setting is loaded once per process.

    Args:
        model: ``pkg.module:name`` or the path of a file.
        options: keyword arguments of a function or class that makes the model.

    Raises:
        ConfigError: the setting has neither form, or ``options`` do not fit.
        DataError: there is no such file, or it does not hold such a model.
    """
    return _load(model, json.dumps(dict(options), sort_keys=True))


@functools.lru_cache(maxsize=4)
def _load(model: str, options: str) -> Any:
    known: dict[str, Any] = json.loads(options)
    if find_code("model", model):
        return make(model, find_named(model), known)
    file = Path(model).expanduser()
    if file.suffix not in _FILES:
        raise ConfigError(f"model={model} names no model. Give {WAYS}.")
    if known:
        raise ConfigError(f"model={model} is a file, which takes no options: {', '.join(known)}.")
    if not file.is_file():
        raise DataError(f"There is no file {model}.")
    kind, read = _FILES[file.suffix]
    try:
        return read(file)
    except (ConfigError, DataError):
        raise
    except Exception as error:
        raise DataError(
            f"{model} could not be loaded as {kind} ({spell_error(error)}). Weights alone are not a model: name the "
            "code that makes it and loads them, model=pkg.module:function."
        ) from error


def find_named(model: str) -> Any:
    """What ``pkg.module:name`` names.

    Raises:
        ConfigError: there is no such code, or it cannot be imported.
    """
    module, _, name = model.partition(":")
    try:
        found: Any = import_module(module)
    except Exception as error:
        raise ConfigError(
            f"model={model}: {module} cannot be imported ({type(error).__name__}: {error}). Install its package, or "
            "put its folder into PYTHONPATH."
        ) from error
    try:
        return functools.reduce(getattr, name.split("."), found)
    except AttributeError:
        raise ConfigError(f"model={model}: {module} has no {name}.") from None


def make(model: str, found: Any, options: dict[str, Any]) -> Any:
    """What code makes if it is called with these options; the code itself if it needs more than no options.

    Raises:
        ConfigError: the options do not fit.
    """
    if isinstance(found, nn.Module) or not callable(found):
        if options:
            raise ConfigError(f"model={model} is a model already and takes no options: {', '.join(options)}.")
        return found
    try:
        inspect.signature(found).bind(**options)
    except ValueError:  # a class in C, whose signature is unknown
        pass
    except TypeError as error:
        if options:
            raise ConfigError(f"model={model} cannot be called with its options: {error}.") from None
        return found
    return found(**options)


def _read_torchscript(file: Path) -> nn.Module:
    return torch.jit.load(str(file), map_location="cpu")


def _read_exported(file: Path) -> nn.Module:
    return torch.export.load(file).module()


def _read_onnx(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f"{file} is read by onnxruntime: pip install 'fmsteal[export]'.") from None
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs, first = session.get_inputs(), session.get_outputs()[0].name
    if len(inputs) != 1:
        raise DataError(f"{file} has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}), not one for images.")
    fixed = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None

    def run(images: np.ndarray) -> np.ndarray:
        blocks = [images[at : at + (fixed or len(images))] for at in range(0, len(images), fixed or len(images))]
        parts = [session.run([first], {inputs[0].name: _fill(block, fixed)})[0][: len(block)] for block in blocks]
        return np.concatenate(parts)

    return run


def spell_error(error: Exception) -> str:
    """The error's type and the first line of its message."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _fill(block: np.ndarray, size: int | None) -> np.ndarray:
    """The block with its last image repeated until it has ``size`` images, for a model with a fixed batch size."""
    short = 0 if size is None else size - len(block)
    return np.concatenate([block, np.repeat(block[-1:], short, axis=0)]) if short else block


_FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {  # file type and reader by suffix
    ".pt": ("TorchScript", _read_torchscript),
    ".pth": ("TorchScript", _read_torchscript),
    ".pt2": ("a program of torch.export", _read_exported),
    ".onnx": ("ONNX", _read_onnx),
}


class Outside(nn.Module):
    """A model outside of torch: a function of NumPy images, or a scikit-learn classifier. It has no gradients.

    A function gets images ``(n, 3, H, W)`` and returns ``(n, C)``; a classifier gets rows ``(n, 3 * H * W)``.
    """

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        if hasattr(model, "predict_proba"):
            labels = np.asarray(getattr(model, "classes_", []))
            if not np.array_equal(labels, np.arange(len(labels))):
                raise ConfigError(
                    f"model={name} knows the classes {labels.tolist()[:5]} ..., not 0, 1, ... as the data set's labels "
                    "are: fit it to those."
                )
            self.call: Callable[[np.ndarray], Any] = lambda x: model.predict_proba(x.reshape(len(x), -1))
        elif callable(model):
            self.call = model
        else:
            raise ConfigError(f"model={name} is a {type(model).__name__}, which cannot be called. Give {WAYS}.")

    def forward(self, images: Tensor) -> Tensor:
        """Answers to a batch of images, on the images' device."""
        answers = np.asarray(self.call(images.detach().cpu().contiguous().numpy()), dtype=np.float32)
        return torch.from_numpy(answers).to(images.device)


class Answering(nn.Module):
    """A given model with raw outputs: logits or embeddings. It stays in the mode in which it was given.

    Attributes:
        net: the model, or an `Outside`.
        name: the name used in error messages.
        probabilities: whether its outputs are probabilities; if so, their logarithms are returned.
    """

    def __init__(self, net: nn.Module, name: str, probabilities: bool) -> None:
        super().__init__()
        self.net, self.name, self.probabilities = net, name, probabilities

    def train(self, mode: bool = True) -> Answering:
        """Do nothing: a program of torch.export cannot change its mode, and no other given model should."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Raw outputs ``(n, C)``.

        Raises:
            DataError: the model returns something else, or rows that should be probabilities are not.
        """
        outputs = find_tensor(self.net(images))
        if outputs is None or outputs.ndim != 2 or len(outputs) != len(images):
            shape = "no tensor" if outputs is None else f"an output of shape {tuple(outputs.shape)}"
            raise DataError(f"{self.name} gives {shape} for {len(images)} images, not one row for each.")
        return log_probabilities(outputs, self.name) if self.probabilities else outputs.float()


def log_probabilities(outputs: Tensor, name: str) -> Tensor:
    """The logarithms of probabilities ``(n, C)``, float32: the logits of a model that gives probabilities alone.

    Raises:
        DataError: the rows are no probabilities; the message begins with ``name``.
    """
    off = (outputs.sum(1) - 1).abs().max() if len(outputs) else torch.zeros(())
    if bool((outputs < 0).any()) or not off < 1e-3:
        raise DataError(
            f"{name} gives rows that are not probabilities: a sum is {float(off):.3g} off 1, or an entry is "
            "negative. If they are logits: victim.outputs=logits."
        )
    return take_logs(outputs)


def find_tensor(outputs: Any) -> Tensor | None:
    """The tensor in what a model returns: a Hugging Face model's logits or pooled features, the first of a tuple."""
    if isinstance(outputs, Tensor):
        return outputs
    for name in ("logits", "pooler_output", "image_embeds"):
        if isinstance(found := getattr(outputs, name, None), Tensor):
            return found.flatten(1)
    if isinstance(outputs, tuple | list) and outputs:
        return find_tensor(outputs[0])
    return None


class Pixels(nn.Module):
    """Shows a model uint8 images as they are stored, neither resized nor normalised; stands where a `Backbone` may."""

    def __init__(self, net: Answering, num_features: int) -> None:
        super().__init__()
        self.net, self.num_features = net, num_features

    @property
    def width(self) -> int:
        """Numbers in an output."""
        return self.num_features

    def forward(self, images: Tensor) -> Tensor:
        """Raw outputs for uint8 images, or for floats in [0, 1], which are rounded."""
        return self.net(images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8))
