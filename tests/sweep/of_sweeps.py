"""The loaders and the grid of a sweep, without running it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from fmsteal import cli
from fmsteal.base import paths
from fmsteal.base.on_hydra import SharedLoader
from fmsteal.sweep.grid import Grid, check_jobs, expand

assert cli  # importing it registers the root config and the resolvers


@contextmanager
def sweep(*hydra: str) -> Iterator[tuple[SharedLoader, DictConfig]]:
    """A loader, and the config of a sweep that has no axes yet."""
    with initialize_config_dir(str(paths.folder("conf")), version_base="1.3"):
        plain = GlobalHydra.instance().config_loader()
        master = plain.load_configuration("config", list(hydra), RunMode.MULTIRUN)
        loader = SharedLoader(plain.get_search_path())
        loader.open(master)
        yield loader, master


def grid(*arguments: str) -> Grid:
    with sweep() as (loader, master):
        return check_jobs(loader, master, expand(loader, arguments))
