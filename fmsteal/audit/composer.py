"""Composes and checks an audit's jobs as a sweep would, without running any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from fmsteal.base import paths
from fmsteal.base.on_hydra import SharedLoader, parse
from fmsteal.base.quoting import quote_override
from fmsteal.config import searchpath
from fmsteal.sweep.grid import SweepJob, check_jobs, compose_jobs, expand
from fmsteal.sweep.overrides import preview


class Composer:
    """Composes jobs of one target. Made by `open_composer`."""

    def __init__(self, loader: SharedLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master

    def compose(self, words: Sequence[str]) -> DictConfig:
        """The config of a single job, with the ``hydra`` node.

        Raises:
            ConfigError: an option, key or value is misspelt.
        """
        job = [quote_override(word) for word in words]
        return next(compose_jobs(self._loader, self._master, [job], partly=True))[1]

    def check(self, words: Sequence[str]) -> Sequence[SweepJob]:
        """The jobs of a grid, each checked against the classes that it names.

        Raises:
            FmstealError: a job is not valid.
        """
        jobs = expand(self._loader, [quote_override(word) for word in words])
        return check_jobs(self._loader, self._master, jobs, partly=True).jobs


@contextmanager
def open_composer(words: Sequence[str]) -> Iterator[Composer]:
    """A composer of the jobs of a target, given the words that all its jobs have.

    Raises:
        ConfigError: an option, key or value among them is misspelt or missing.
    """
    from fmsteal import cli  # which puts the choices that have no file into Hydra's store

    cli.forget_other_plugins()
    args = parse([quote_override(word) for word in words])
    preview(args)  # its messages list what there is
    places = searchpath.parse_places(args)
    with searchpath.add_places(places), initialize_config_dir(str(paths.folder("conf")), version_base="1.3"):
        reader = GlobalHydra.instance().config_loader()
        plain = [word for word in args.overrides if word.startswith("hydra")]
        master = reader.load_configuration("config", plain, RunMode.MULTIRUN)
        loader = SharedLoader(reader.get_search_path())
        loader.open(master)
        yield Composer(loader, master)
