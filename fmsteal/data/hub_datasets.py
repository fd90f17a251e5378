"""Opens data sets with the package ``datasets`` (Hugging Face), from disk alone unless a download is allowed.

The package decides when it is imported whether it may use the network (``HF_HUB_OFFLINE``). Here that is decided for a
single call: its flag is set as that variable would set it. Found so in ``datasets`` 3 to 5.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmsteal.base.errors import DataError


def open_folder(folder: Path) -> Any:
    """What ``save_to_disk`` has written: a ``Dataset``, or a ``DatasetDict`` of splits.

    Raises:
        DataError: it is no such folder, or damaged.
    """
    datasets = _import()
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder} of a data set: query.root=/path (data.root=/path).")
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # its own, pyarrow's, or of JSON
        raise DataError(
            f"{folder} is no folder that save_to_disk has written, or damaged ({type(error).__name__}: "
            f"{_first_line(error)}). For a data set by its name: query.dataset=NAME (data.dataset)."
        ) from error


def open_named(name: str, config: str | None, *, download: bool) -> Any:
    """A data set by its name: from the local cache, or with ``download`` from the hub.

    Raises:
        DataError: it is not there.
    """
    datasets = _import()
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise DataError(f"{name} is no name of a data set, but a path: give it as query.root (data.root).")
    try:
        with _go_offline(not download):
            return datasets.load_dataset(name, config)
    except Exception as error:  # of the hub, the network, pyarrow, or the builder
        where = "could be fetched from neither the hub nor the local cache" if download else "is not in the local cache"
        chosen = f"(config {config}) " if config else ""
        way = "" if download else "Let it be fetched: query.download=true (data.download). Or: w"
        raise DataError(
            f"The data set {name} {chosen}{where} {datasets.config.HF_DATASETS_CACHE} ({type(error).__name__}: "
            f"{_first_line(error)}). {way or 'W'}here there is a network, datasets.load_dataset('{name}')"
            ".save_to_disk('/path'), and give that folder: query.root=/path query.dataset=null (data.root)."
        ) from error


def _import() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError("query=huggingface (data=huggingface) needs: pip install 'fmsteal[huggingface]'") from error
    return datasets


@contextmanager
def _go_offline(offline: bool) -> Iterator[None]:
    import datasets
    import huggingface_hub.constants

    if not offline:
        yield
        return
    flags: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [flag.HF_HUB_OFFLINE for flag in flags]
    noise = logging.getLogger("datasets"), logging.getLogger("datasets").level
    try:
        for flag in flags:
            flag.HF_HUB_OFFLINE = True
        noise[0].setLevel(logging.ERROR)  # it warns that it has not asked the hub
        yield
    finally:
        noise[0].setLevel(noise[1])
        for flag, value in zip(flags, before, strict=True):
            flag.HF_HUB_OFFLINE = value


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
