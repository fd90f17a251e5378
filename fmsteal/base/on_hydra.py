"""Everything that fmsteal uses from Hydra's internals, or changes there.

Written for hydra-core 1.3.5 to 1.3.8. Hydra guarantees none of it: `tests/base/test_on_hydra.py` compares this file's
assumptions with the installed Hydra, and fails if they no longer hold.

- `parse` and `run_command`: `hydra.main` reads only `sys.argv`; our words are quoted first, and a sweep is named.
- `_errors_alone`: Hydra prints an error written for the user between two lines of its own.
- `run_in_process`: a job in a notebook. Hydra's own entry point sets up logging and ends the process.
- `borrow`, `forget`, `open_group`: a notebook may use Hydra itself, and Hydra is global to the process.
- `SharedLoader`, `only_needed_maps`: Hydra reads and parses each file again for each job of a sweep, and lists all
  choices each time.
- `parsed_once`: OmegaConf parses an interpolation again each time that its value is read.
- `known_mode`: before a command runs, Hydra composes all of it to learn whether it is a sweep.
- `combinations`: the jobs of a grid, in the order of Hydra's own sweeper.
- `error_of`, `make_return`: what a job raised, without the lines that Hydra prints when asked for it.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra import version as hydra_version
from hydra._internal import defaults_list as composing
from hydra._internal import utils
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, _flush_loggers, run_job
from hydra.errors import CompactHydraException
from hydra.main import _get_rerun_conf
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext, RunMode, TaskFunction
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf import base as reading

from fmsteal.base.shell import NO_READER, is_unread

VERSION = "1.3"  # Hydra behaves as this version does by default
ROOT = "config"  # name of the root config
FULL_ERROR = "HYDRA_FULL_ERROR"
STATE = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)  # what Hydra keeps of a run
_ABSENT: Any = object()


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line as Hydra does; exit if Hydra cannot read it."""
    return utils.get_args_parser().parse_args(list(words))


def run_command(args: argparse.Namespace, task: TaskFunction, conf: Path, known: DictConfig | None = None) -> None:
    """Run a command line as a function decorated with `hydra.main` would.

    Args:
        args: the parsed command line, see `parse`.
        task: the function that runs a job.
        conf: the folder of configs, with the root config.
        known: the command line's config, if it was composed before.
    """
    hydra_version.setbase(VERSION)
    if args.experimental_rerun is not None:
        task(_get_rerun_conf(args.experimental_rerun, args.overrides))
        _flush_loggers()
        return
    with _errors_alone(), only_needed_maps(), known_mode(known):
        utils._run_hydra(args, utils.get_args_parser(), task, config_path=str(conf), config_name=ROOT)


@contextmanager
def _errors_alone() -> Iterator[None]:
    """Let Hydra print an error that is written for the user without adding to it.

    Hydra would put ``Error executing job with overrides`` before it, and after it how to see a stack trace. With
    HYDRA_FULL_ERROR=1, or for an unexpected error, it prints everything, as usual.
    """
    given, reported = JobReturn.return_value, utils.run_and_report

    def value(job: JobReturn) -> Any:
        if job.status is JobStatus.FAILED and isinstance(error_of(job), CompactHydraException) and not _full():
            raise error_of(job)
        return given.fget(job)  # type: ignore[attr-defined]

    def report(call: Callable[[], Any]) -> Any:
        def alone() -> Any:
            try:
                return call()
            except CompactHydraException as error:
                if _full() or not str(error).startswith("fmsteal:"):
                    raise
                print(error, file=sys.stderr)
                sys.exit(1)
            except BrokenPipeError:
                if is_unread():  # Hydra would print a stack trace
                    sys.exit(NO_READER)
                raise

        return reported(alone)

    JobReturn.return_value = property(value, given.fset)  # type: ignore[assignment,attr-defined]
    utils.run_and_report = report  # type: ignore[assignment]
    try:
        yield
    finally:
        JobReturn.return_value, utils.run_and_report = given, reported  # type: ignore[method-assign]


def _full() -> bool:
    return os.environ.get(FULL_ERROR) == "1"


def error_of(job: JobReturn) -> Any:
    """The exception that a failed job raised."""
    return job._return_value


def make_return(error: Exception | None) -> JobReturn:
    """What a launcher returns for a job that has ended: failed if there is an error, otherwise completed."""
    return JobReturn(status=JobStatus.COMPLETED if error is None else JobStatus.FAILED, _return_value=error)


def run_in_process(words: Sequence[str], task: TaskFunction, conf: Path, name: str) -> JobReturn:
    """Run a job as `hydra.main` does, without setting up logging or ending the process.

    Args:
        words: the job's overrides.
        task: the function that runs it.
        conf: the folder of configs.
        name: Hydra's name for the job.
    """
    with initialize_config_dir(str(conf), job_name=name, version_base=VERSION):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        cfg = hydra.compose_config(ROOT, list(words), RunMode.RUN, with_log_configuration=False)
        cfg.hydra.mode = RunMode.RUN
        callbacks = Callbacks(cfg)
        callbacks.on_run_start(config=cfg, config_name=ROOT)
        context = HydraContext(hydra.config_loader, callbacks)
        done = run_job(task, cfg, "hydra.run.dir", None, context, configure_logging=False)
        callbacks.on_run_end(config=cfg, config_name=ROOT, job_return=done)
        return done


@contextmanager
def borrow(stored: Sequence[tuple[str, ...]]) -> Iterator[None]:
    """Run the block with an uninitialised Hydra; afterwards restore Hydra's state, including its version.

    Args:
        stored: the nodes of Hydra's config store that the block may change, each given by its groups and its file
            name. They are absent when the block starts.
    """
    Plugins.instance()  # first, so that what plug-ins add to the store stays there
    state = {kind: Singleton._instances.pop(kind, None) for kind in STATE}
    nodes = {path: forget(path) for path in stored}
    try:
        with parsed_once():
            yield
    finally:
        for kind, instance in state.items():
            Singleton._instances.pop(kind, None)
            if instance is not None:
                Singleton._instances[kind] = instance
        for path, node in nodes.items():
            forget(path)
            if node is not _ABSENT:
                open_group(*path[:-1])[path[-1]] = node


def forget(path: tuple[str, ...]) -> Any:
    """Remove a node, given by its groups and its file name, from Hydra's config store and return it."""
    return open_group(*path[:-1]).pop(path[-1], _ABSENT)


def open_group(*names: str) -> dict[str, Any]:
    """The nodes and groups of a group in Hydra's config store; ``names`` are the groups that lead to it."""
    found: dict[str, Any] = ConfigStore.instance().repo
    for part in names:
        found = found.setdefault(part, {})
    return found


def combinations(overrides: list[Override]) -> list[list[str]]:
    """The overrides of each job of a grid, in Hydra's own order: the last axis changes fastest."""
    return BasicSweeper.split_arguments(overrides, None)[0]


class SharedLoader(ConfigLoaderImpl):
    """Composes the same configs as Hydra's loader, but reads and parses a file once, not once per job.

    All jobs must have the same ``hydra.searchpath``, as those of a sweep do. A launcher also ships a loader to its
    workers, which compose their job from the files again.
    """

    def __init__(self, config_search_path: ConfigSearchPath, frozen: bool = False) -> None:
        """Read from ``config_search_path``; if ``frozen``, it already includes what ``hydra.searchpath`` adds."""
        super().__init__(config_search_path)
        self._frozen = frozen
        self._files: CachingConfigRepository | None = None
        self._nodes: dict[tuple[str | None, str | None, bool], ConfigResult] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was read: workers read the files themselves, so each job shipped stays small."""
        return {**self.__dict__, "_files": None, "_nodes": {}}

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed = OverridesParser.create().parse_overrides(overrides=overrides)
        if self._files is None:
            files = CachingConfigRepository(self.repository)
            if not self._frozen:
                self._process_config_searchpath(config_name, parsed, files)
            self._files = files
        return parsed, self._files

    def _load_configuration_impl(self, *args: Any, **kwargs: Any) -> DictConfig:
        with only_needed_maps():
            return super()._load_configuration_impl(*args, **kwargs)

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        key = (default.config_path, default.package, default.primary)
        if key not in self._nodes:
            self._nodes[key] = super()._load_single_config(default, repo)
        kept = self._nodes[key]
        fresh = copy.copy(kept)
        fresh.config = copy.deepcopy(kept.config)  # merging takes over the nodes
        return fresh

    def open(self, master: DictConfig) -> None:
        """Find the config sources of a sweep from its own config; call this before any other method."""
        overrides = [str(o) for o in master.hydra.overrides.hydra]
        self._parse_overrides_and_create_caching_repo(master.hydra.job.config_name, overrides)

    def chooses(self, override: Override) -> bool:
        """Whether an override chooses a file rather than setting a value."""
        assert self._files is not None
        return self._files.group_exists(override.key_or_group)

    def set_values(self, overrides: list[Override], cfg: DictConfig) -> None:
        """Apply overrides that set values to a composed config."""
        self._apply_overrides_to_config(overrides, cfg)

    def moved(self, place: Callable[[Path], Path]) -> SharedLoader:
        """A loader of the same configs that reads each folder from the path that ``place`` maps it to."""
        assert self._files is not None
        search = ConfigSearchPathImpl()
        for source in self._files.get_sources():
            path = f"{source.scheme()}://{source.path}"
            if source.scheme() == "file" and source.available():
                path = f"file://{place(Path(source.path).absolute())}"
            search.append(source.provider, path)
        return SharedLoader(search, frozen=True)


@contextmanager
def only_needed_maps() -> Iterator[None]:
    """Skip the map of all choices that Hydra makes for each defaults list, if no entry of the list needs it.

    Making it takes two thirds of a composition's time; only lists with an interpolation (``${...}``) need it.
    """
    made = composing._create_interpolation_map

    def needed(overrides: composing.Overrides, defaults_list: list[InputDefault], self_added: bool) -> DictConfig:
        if any(default.is_interpolation() for default in defaults_list):
            return made(overrides, defaults_list, self_added)
        return OmegaConf.create()

    composing._create_interpolation_map = needed
    try:
        yield
    finally:
        composing._create_interpolation_map = made


@contextmanager
def parsed_once() -> Iterator[None]:
    """Parse each interpolation once in the block: OmegaConf only reads what its parser returns."""
    parse_anew = reading.parse
    reading.parse = lru_cache(maxsize=None)(parse_anew)
    try:
        yield
    finally:
        reading.parse = parse_anew


@contextmanager
def known_mode(cfg: DictConfig | None) -> Iterator[None]:
    """Let Hydra take ``hydra.mode`` from a config that was composed before instead of composing it for that alone."""
    asked = Hydra.get_mode
    if cfg is not None:
        mode = cfg.hydra.mode
        Hydra.get_mode = lambda self, config_name, overrides: mode  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = asked  # type: ignore[method-assign]
