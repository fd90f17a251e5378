"""Reads the tensors, by name, of any usual kind of weights file; for other files, the error says what they are.

Nothing in a file is run. Objects beside the tensors (a training's arguments, a pickled module) are read as inert
stand-ins, of which only the tensors are used.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fmsteal.base.errors import DataError

State = Mapping[str, Tensor]
MOST_CLASSES = 1000  # classes that a file may name
DEEPEST = 5  # levels of nested containers
_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch that by git lfs pull"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them, not weights of PyTorch"),
    (b"\x1f\x8b", "packed by gzip: unpack it"),
    (b"\x93NUMPY", "a NumPy array, not weights of PyTorch"),
    (b"GGUF", "a GGUF file, not weights of PyTorch"),
    (b"{", "JSON text, not weights: the file that lists the parts of a model, perhaps"),
    (b"<", "a web page, not weights: the download met an error, or asked for a login"),
)
_PLAIN = {f"builtins.{kind.__name__}": kind for kind in (dict, list, tuple, str, int, float, bool)}
_GLOBAL = re.compile(r"Unsupported global: GLOBAL (\S+)")


class Inert:
    """Stands for an object of any class in a pickle; keeps its arguments or its state, and does nothing."""

    path = ""

    def __init__(self, *args: object, **options: object) -> None:
        self.state: object = args

    def __setstate__(self, state: object) -> None:
        self.state = state


def read(file: Path) -> State:
    """The tensors of a file by name, those in containers by the path to them (``state_dict.conv1.weight``).

    Raises:
        DataError: the file is damaged, or holds something else; the message says what.
    """
    try:
        if other := _other_kind(file):
            raise DataError(f"{file} cannot be read as weights: it is {other}.")
        content = load_file(file) if _is_safetensors(file) else _unpickle(file)
    except DataError:
        raise
    except Exception as error:  # a damaged file can fail in many ways
        said = str(error).strip().splitlines()
        reason = f": {said[0]}" if said and "weights_only" not in said[0] else ""
        raise DataError(
            f"{file} cannot be read as weights: it is damaged, cut short or of another kind "
            f"({type(error).__name__}{reason})."
        ) from error
    tensors = dict(_tensors(content))
    if not tensors:
        raise DataError(f"{file} cannot be read as weights: it holds no tensors by name, but {_spell(content)}.")
    return tensors


def _is_safetensors(file: Path) -> bool:
    """Whether a file, whatever its name, begins with the length of a header and JSON."""
    with file.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**40


def _other_kind(file: Path) -> str | None:
    """What a file is if weights cannot be read from it; None if they may be."""
    with file.open("rb") as stream:
        head = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not file.stat().st_size:
        return "empty"
    if _is_safetensors(file):
        return None
    if known := next((kind for start, kind in _STARTS if head.startswith(start)), None):
        return known
    if not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        return (
            "a TorchScript archive, a program that brings its weights along. If you trust it, keep its tensors alone: "
            f"python -c \"import torch; torch.save(torch.jit.load('{file}').state_dict(), 'tensors.pth')\""
        )
    if "data.pkl" in last:
        return None
    more = ", ..." if len(names) > 4 else ""
    return f"an archive of {', '.join(names[:4])}{more}, not weights of PyTorch"


def _unpickle(file: Path) -> Any:
    """The content of torch's own format, each unknown class an `Inert`, read by torch's weights-only reader."""
    known: dict[str, type] = {}
    while True:
        allowed: list[Any] = [(stand_in, path) for path, stand_in in known.items()]
        try:
            with torch.serialization.safe_globals(allowed), file.open("rb") as stream:  # a name's ending would count
                return torch.load(stream, map_location="cpu", weights_only=True)
        except Exception as error:
            if "Only persistent_load of storage is allowed" in str(error):
                raise DataError(
                    f"{file} cannot be read as weights: it is a module that was pickled whole, by an old torch. "
                    "Load it with the code that made it, and save its state_dict() alone."
                ) from error
            found = _GLOBAL.search(str(error))
            if found is None or len(known) > MOST_CLASSES:
                raise
            path = found[1] if "." in found[1] else f"builtins.{found[1]}"  # torch leaves the latter's module out
            if path in known:
                raise
            known[path] = _PLAIN.get(path) or type("Inert", (Inert,), {"path": path})


def _tensors(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        if name:
            yield name, value
        return
    if isinstance(value, Inert):
        value = _parts(value)
    elif depth >= DEEPEST:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _tensors(inner, f"{name}.{key}" if name else str(key), depth + 1)


def _parts(module: Inert) -> Mapping[str, Any]:
    """What a pickled `nn.Module` holds, under the names of its ``state_dict``."""
    state = module.state
    if not isinstance(state, Mapping):
        return {}
    parts = [state.get(name) for name in ("_parameters", "_buffers", "_modules")]
    return {key: value for part in parts if isinstance(part, Mapping) for key, value in part.items()}


def _spell(content: Any) -> str:
    """What the file holds instead of tensors."""
    if isinstance(content, Mapping):
        keys = [str(key) for key in content]
        return f"the keys {', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}" if keys else "nothing"
    return f"an object of {content.path}" if isinstance(content, Inert) else f"a {type(content).__name__}"
