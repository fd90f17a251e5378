"""Configs of other packages, which ``hydra.searchpath`` and ``--config-dir`` add, known before anything is composed.

Hydra itself looks there only while it composes a job. Help, completion and our own messages need the choices at other
times; `add_places` adds those places with a search path plugin, Hydra's own mechanism.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path
from typing import ClassVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin

from fmsteal.base import paths
from fmsteal.base.errors import ConfigError
from fmsteal.config import derived

KEY = "hydra.searchpath"
_PACKAGE, _FOLDER = "pkg://", "file://"


class _Known(SearchPathPlugin):
    """Adds the current ``places``."""

    places: ClassVar[Sequence[str]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for place in self.places:
            search_path.append(KEY, place)


@contextmanager
def add_places(places: Sequence[str]) -> Iterator[None]:
    """Let Hydra also list and find the choices of these places, whenever it is initialised in the block."""
    Plugins.instance().register(_Known)
    with derived.store_for_block(find_folders(places)):
        before, _Known.places = _Known.places, places
        try:
            yield
        finally:
            _Known.places = before


def add_derived(args: argparse.Namespace) -> AbstractContextManager[None]:
    """Add the derived choices of the places that a command line adds to Hydra's store, for the length of a block."""
    return derived.store_for_block(find_folders(parse_places(args)))


def parse_places(args: argparse.Namespace) -> list[str]:
    """The places that a command line adds; none if they cannot be parsed, which Hydra reports."""
    words = [word for word in args.overrides if word.lstrip("+").startswith(f"{KEY}=")]
    try:
        values = [override.value() for override in OverridesParser.create().parse_overrides(words)]
    except HydraException:
        values = []
    places = [str(place) for value in values if isinstance(value, list) for place in value]
    return [*([f"{_FOLDER}{Path(args.config_dir).absolute()}"] if args.config_dir else []), *places]


def require_available(places: Sequence[str]) -> None:
    """Check that each place is an existing folder or package.

    Raises:
        ConfigError: a place is not; the message says what is missing.
    """
    for place in places:
        if "://" not in place:
            where = "a package is pkg://name.conf, a folder file:///path"
            raise ConfigError(f"{KEY}: {place} says neither package nor folder: {where}.")
        if place.startswith(_FOLDER) and not Path(place.removeprefix(_FOLDER)).is_dir():
            raise ConfigError(f"{KEY}: there is no folder {place.removeprefix(_FOLDER)}.")
        if not place.startswith(_PACKAGE):
            continue
        name = place.removeprefix(_PACKAGE).replace("/", ".").rstrip(".")
        try:
            found = resources.files(name)
        except (ModuleNotFoundError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{KEY}: there is no package {name} ({error}). Install it, or put the folder that it lies in on the "
                "PYTHONPATH."
            ) from None
        if not any(file.name == "__init__.py" for file in found.iterdir()):
            raise ConfigError(f"{KEY}: the folder of {name} has no __init__.py, and Hydra takes it for no package.")


def find_folders(places: Sequence[str] = ()) -> list[Path]:
    """The config folders: ours, and those of ``places`` (as Hydra lists its sources) that are on the disk."""
    found = [paths.folder("conf")]
    for place in places:
        if place.startswith(_FOLDER):
            found.append(Path(place.removeprefix(_FOLDER)))
        elif place.startswith(_PACKAGE):
            try:
                inside = resources.files(place.removeprefix(_PACKAGE))
            except (ModuleNotFoundError, TypeError, ValueError):
                continue
            found += [inside] if isinstance(inside, Path) else []
    return list(dict.fromkeys(path for path in found if path.is_dir()))
