"""The downsampled ImageNet (Chrabaszcz et al., 2017, arXiv 1707.08819): query sets from its pickled batches.

A pickle can run any code when it is loaded, and these are downloads. They are read by an unpickler that makes arrays,
dicts, lists, tuples, numbers and text, and refuses everything else by name, before it is called.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from fmsteal.base.errors import DataError
from fmsteal.base.store import Store, digest
from fmsteal.data.images import PIXELS, Images, Pixels, choose_ids, load, save
from fmsteal.identity.rules import declare

CLASSES = 1000  # labels run from 1 to this number
BATCHES = 10


@declare(machine=frozenset({"root"}))
def pool(
    store: Store,
    root: str,
    *,
    batches: Sequence[int] = (1,),
    size: int = 32,
    count: int | None = None,
    seed: int = 0,
) -> Images:
    """A query set: the images of some training batches without labels, or ``count`` of them chosen at random.

    Args:
        store: where the images are kept.
        root: the folder with ``train_data_batch_1`` to ``train_data_batch_10``.
        batches: numbers of the batches to use.
        size: pixels of the images in the files (there are sets of 8, 16, 32 and 64).
        count: number of images, chosen at random; None for all.
        seed: seed of the choice.

    Raises:
        DataError: a file is missing, or is not such a batch.
    """
    folder, numbers = Path(root).expanduser().absolute(), list(batches)
    if not numbers or len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(1, BATCHES + 1)):
        raise DataError(f"query.batches={numbers} must be different numbers from 1 to {BATCHES}.")
    files = [folder / f"train_data_batch_{number}" for number in numbers]
    for file in files:
        _require(file, size)
    stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    spec = {
        "name": "downsampled ImageNet",
        "root": str(folder),
        "files": digest(stamps),
        "size": size,
        "some": None if count is None else [count, seed],
    }

    def build(out: Path, scratch: Path) -> None:
        counts = [len(read_batch(file, size)) for file in files]  # all are checked before any is kept
        some = choose_ids(sum(counts), count, seed)
        pixels = open_memmap(out / PIXELS, "w+", np.uint8, (len(some), 3, size, size))
        first = done = 0
        for file, length in zip(files, counts, strict=True):  # one in memory at a time
            here = some[(some >= first) & (some < first + length)] - first
            pixels[done : done + len(here)] = read_batch(file, size)[here]
            first, done = first + length, done + len(here)
            store.tell(f"read ImageNet-{size}", done, len(some))
        pixels.flush()
        save(out, pixels)

    return load(store.get("images", f"imagenet{size}", spec, build))


def read_batch(file: Path, size: int) -> Pixels:
    """The images of a batch, uint8 ``(n, 3, size, size)``.

    Raises:
        DataError: the file is not such a batch; the message says why.
    """
    batch = _unpickled(file, size)
    if not isinstance(batch, dict):
        raise _no_batch(file, size, f"it holds a {type(batch).__name__}, not a dict")
    found = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    if missing := [name for name in ("data", "labels") if name not in found]:
        raise _no_batch(file, size, f"it has no '{missing[0]}', but {', '.join(sorted(map(str, found)))}")
    data, width = found["data"], 3 * size * size
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != width:
        shape = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise _no_batch(file, size, f"'data' is {shape}, not uint8 (n, {width})")
    _require_labels(file, size, _integers(found["labels"]), len(data))
    return data.reshape(-1, 3, size, size)


def _require_labels(file: Path, size: int, labels: npt.NDArray[np.integer] | None, images: int) -> None:
    if labels is None or labels.shape != (images,) or not images:
        raise _no_batch(file, size, f"'labels' are not one whole number for each of {images} images")
    if not 1 <= labels.min() <= labels.max() <= CLASSES:
        said = f"labels run from {labels.min()} to {labels.max()}, not from 1 to {CLASSES}"
        raise _no_batch(file, size, said)


def _integers(values: Any) -> npt.NDArray[np.integer] | None:
    try:
        found = np.asarray(values)
    except ValueError:  # a ragged list
        return None
    return found if np.issubdtype(found.dtype, np.integer) else None


def _require(file: Path, size: int) -> None:
    if not file.is_file():
        raise DataError(
            f"There is no {file}. ImageNet-{size} is downloaded, after registering, from "
            f"https://image-net.org/download-images.php (Imagenet{size}_train). Unpack it, and give the folder with "
            "train_data_batch_1 to train_data_batch_10: query.root=/path."
        )


def _no_batch(file: Path, size: int, why: str) -> DataError:
    return DataError(
        f"{file} is no batch of ImageNet-{size}: {why}. Fetch it again from where https://image-net.org offers it, or "
        "choose others: query.batches=[1]."
    )


def _unpickled(file: Path, size: int) -> Any:
    try:
        with file.open("rb") as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise _no_batch(file, size, f"{type(error).__name__}: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Allows only what pickles of arrays and plain values need, written by numpy 1 or 2 and Python 2 or 3."""

    def find_class(self, module: str, name: str) -> Any:
        """The object of this name, if it is one of the few that a batch needs."""
        found = _KNOWN.get((module.replace("numpy.core", "numpy._core"), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs; that was not run")
        return found


class _Array:
    """Stands for the class ``numpy.ndarray``, which is named but never called."""

    __slots__ = ()


class _Empty:
    """``numpy.core.multiarray._reconstruct``: an empty array, which its state fills. Has no attributes."""

    __slots__ = ()

    def __call__(self, kind: Any, shape: Any, code: Any) -> npt.NDArray[Any]:
        return np.ndarray((0,), np.int8)


class _FromBuffer:
    """``numpy.core.numeric._frombuffer``, used by pickle protocol 5."""

    __slots__ = ()

    def __call__(self, buffer: bytes | bytearray, dtype: np.dtype[Any], shape: Any, order: Any) -> npt.NDArray[Any]:
        return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


class _Encode:
    """``_codecs.encode``, with which Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, text: str, codec: str = "latin1") -> bytes:
        if codec != "latin1":
            raise pickle.UnpicklingError(f"it encodes text as {codec}")
        return text.encode("latin1")


class _NoBytes:
    """``bytes``, with which Python 3 writes empty bytes for Python 2."""

    __slots__ = ()

    def __call__(self) -> bytes:
        return b""


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array(),
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): _Empty(),
    ("numpy._core.numeric", "_frombuffer"): _FromBuffer(),
    ("_codecs", "encode"): _Encode(),
    ("builtins", "bytes"): _NoBytes(),
    ("__builtin__", "bytes"): _NoBytes(),
}
