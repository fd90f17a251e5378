"""What the sub-commands have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fmsteal.base.errors import FmstealError, StoreError


@contextmanager
def end_if_refused() -> Iterator[None]:
    """Exit with the reason if something is refused; also a decorator.

    Raises:
        SystemExit: a `FmstealError` was raised.
    """
    try:
        yield
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")


def require_folder(file: Path) -> None:
    """Make sure that the folder of a file to be written exists.

    Raises:
        StoreError: it does not exist.
    """
    folder = file.absolute().parent
    if not folder.is_dir():
        raise StoreError(f"There is no folder {folder} to write {file.name} into.")


def make_parser(name: str, text: str) -> argparse.ArgumentParser:
    """A sub-command's parser, whose help begins with a text that keeps its line breaks."""
    return argparse.ArgumentParser(
        prog=f"fmsteal {name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
