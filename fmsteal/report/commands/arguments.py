"""What the sub-commands have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fmsteal.base.errors import FmstealError


@contextmanager
def end_if_refused() -> Iterator[None]:
    """End the command where something is refused, and say why; also a decorator.

    Raises:
        SystemExit: a `FmstealError` was raised.
    """
    try:
        yield
    except FmstealError as error:
        sys.exit(f"fmsteal: {error}")


def make_parser(name: str, text: str) -> argparse.ArgumentParser:
    """A sub-command's parser, whose help begins with a text that keeps its lines."""
    return argparse.ArgumentParser(
        prog=f"fmsteal {name}", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
