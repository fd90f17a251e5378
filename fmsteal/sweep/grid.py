"""Every job of a sweep: its overrides, composed and checked before anything runs. Imports torch only to check."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmsteal import results
from fmsteal.errors import ConfigError, FmstealError
from fmsteal.store import digest
from fmsteal.sweep import victims
from fmsteal.sweep.identity import axes, cell_key, cell_settings, job_key, settings, victim_key
from fmsteal.sweep.loader import SharedLoader
from fmsteal.sweep.overrides import explain, require_complete
from fmsteal.sweep.sharing import Shelf


@dataclass(frozen=True)
class Cell:
    """One job of the grid.

    Attributes:
        overrides: that make it, without ``stage``.
        key: of the job.
        axis: its columns, see `fmsteal.sweep.identity.axes`.
        cell: shared by jobs that differ in nothing but the seed.
        folder: where it writes.
        victim: key of its victim.
        cache: where victims are kept.
        queries: that it may ask.
        usd: what they cost.
        finished: whether its result was there when the sweep was begun.
        victim_ready: the same of its victim.
        shared: the folder of a finished job of another sweep, which may be taken over instead of running this one.
    """

    overrides: tuple[str, ...]
    key: str
    axis: dict[str, Any]
    cell: str
    folder: Path
    victim: str
    cache: Path
    queries: int
    usd: float
    finished: bool
    victim_ready: bool
    shared: Path | None = None


@dataclass(frozen=True)
class Grid:
    """All jobs of a sweep, each once.

    Attributes:
        cells: the jobs.
        fixed: the settings that are the same in all of them, the seed apart.
    """

    cells: Sequence[Cell]
    fixed: dict[str, Any]


def checked(loader: SharedLoader, master: DictConfig, arguments: Sequence[str], shelf: Shelf | None = None) -> Grid:
    """Compose and check every job that a sweep's arguments ask for.

    Only jobs without a result are checked against the classes they name: one job for every part that is not like one
    seen before, since nothing that is checked hangs on more than a part and the API's answers. A job without a result
    is looked for on the ``shelf``.

    Raises:
        ConfigError: what is wrong with the first job that something is wrong with.
    """
    cells: dict[str, Cell] = {}
    alike: dict[tuple[str, ...], str] = {}  # cells by their jobs' overrides but the seed
    fixed: dict[str, Any] | None = None
    seen: set[str] = set()
    unlike: list[tuple[Sequence[str], bytes]] = []
    for overrides, cfg in composed(loader, master, expanded(loader, arguments)):
        with _naming(overrides):
            found = _settings(cfg)
            cell = _cell(overrides, cfg, found, alike, shelf)
        if cell.key in cells:
            continue
        cells[cell.key] = cell
        fixed = found if fixed is None else {k: v for k, v in fixed.items() if k in found and found[k] == v}
        if not (cell.finished or cell.shared) and (fresh := _parts(cfg, found) - seen):
            seen |= fresh
            unlike.append((overrides, pickle.dumps(cfg)))
    if unlike:
        _check(unlike)
    return Grid(list(cells.values()), {k: v for k, v in (fixed or {}).items() if k != "seed"})


def expanded(loader: SharedLoader, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, in Hydra's own order: the last axis changes fastest."""
    parsed = OverridesParser.create(loader).parse_overrides(list(arguments))
    return BasicSweeper.split_arguments(parsed, None)[0]


def composed(
    loader: SharedLoader, master: DictConfig, jobs: Sequence[Sequence[str]]
) -> Iterator[tuple[Sequence[str], DictConfig]]:
    """The config of each job. Jobs that differ in plain values alone are composed from files once.

    Raises:
        ConfigError: a misspelt option, key or value: named, with what there is.
    """
    parser, bases = OverridesParser.create(loader), dict[tuple[str, ...], bytes]()
    for overrides in jobs:
        with _naming(overrides):
            try:
                parsed = parser.parse_overrides(list(overrides))
                values = [o for o in parsed if not (o.is_hydra_override() or loader.chooses(o))]
                chosen = tuple(str(o.input_line) for o in parsed if o not in values)
                if chosen not in bases:
                    bases[chosen] = pickle.dumps(loader.load_sweep_config(master, list(chosen)))
                cfg = pickle.loads(bases[chosen])
                loader._apply_overrides_to_config(values, cfg)
            except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
                raise ConfigError(explain("config", list(overrides), error)) from error
        yield overrides, cfg


def _settings(cfg: DictConfig) -> dict[str, Any]:
    try:
        return settings(cfg)
    except OmegaConfBaseException as error:
        with suppress(OmegaConfBaseException):
            require_complete(cfg)  # says it better, if that is what it is
        raise ConfigError(str(error)) from error


def _cell(
    overrides: Sequence[str],
    cfg: DictConfig,
    found: dict[str, Any],
    alike: dict[tuple[str, ...], str],
    shelf: Shelf | None,
) -> Cell:
    choices = cfg.hydra.runtime.choices
    axis, but_seed = axes(cfg, choices), tuple(o for o in overrides if not o.startswith("seed="))
    if but_seed not in alike:  # found once for all seeds: it takes as long as all the rest
        alike[but_seed] = cell_key(axis, cell_settings(cfg))
    key, victim = job_key(cfg, choices, found), victim_key(cfg, choices, found)
    folder = Path(cfg.hydra.sweep.dir) / key
    queries, price = found.get("budget.queries"), found.get("budget.usd_per_1000", 0.0)
    asked = queries if isinstance(queries, int) else 0
    finished = not cfg.force and results.finished(folder, key, cfg) is not None
    return Cell(
        overrides=tuple(o for o in overrides if not o.startswith("stage=")),
        key=key,
        axis=axis,
        cell=alike[but_seed],
        folder=folder,
        victim=victim,
        cache=Path(cfg.cache),
        queries=asked,
        usd=asked * price / 1000 if isinstance(price, int | float) else 0.0,
        finished=finished,
        victim_ready=victims.ready(cfg, victim),
        shared=None if shelf is None or finished or cfg.force else shelf.find(key, cfg),
    )


def _parts(cfg: DictConfig, found: dict[str, Any]) -> set[str]:
    """A digest of each part of a job that is checked, with the answers that it has to go with.

    One seed is as good as another, or each job of a thousand seeds would be checked.
    """
    parts: dict[str, dict[str, Any]] = {}
    for key, value in found.items():
        a_seed = key.rpartition(".")[2] == "seed" and type(value) is int and value >= 0
        parts.setdefault(key.partition(".")[0], {})[key] = "a seed" if a_seed else value
    for name in ("trainer", "tracker"):
        parts[name] = {name: OmegaConf.to_container(cfg[name], resolve=True)}
    parts["asked"] = {**parts["attack"], **parts["budget"], **parts["query"]}
    return {digest([name, cfg.task.answers, part]) for name, part in parts.items()}


def _check(jobs: Sequence[tuple[Sequence[str], bytes]]) -> None:
    from fmsteal.sweep.servable import require_servable

    for overrides, pickled in jobs:
        with _naming(overrides):
            require_servable(pickle.loads(pickled))


class _naming:
    """Names the job in what is found wrong with it."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self.job = " ".join(overrides)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FmstealError):
            named = f"{error}\nThis is job {self.job}" if self.job else str(error)
            raise type(error)(f"{named}\nNo job was run.") from error
