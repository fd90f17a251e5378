"""All jobs of a sweep, composed and checked before anything runs. Imports torch only for the checks."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.base.on_hydra import SharedLoader, combinations
from fmsteal.base.quoting import quote_override, spell
from fmsteal.base.store import digest
from fmsteal.identity.keys import (
    ANY_SEED,
    axes,
    cell_key,
    cell_settings,
    find,
    find_without_effect,
    flatten,
    hash_of,
    identity,
    job_key,
    resolve_groups,
    victim_key,
)
from fmsteal.identity.resolving import resolve
from fmsteal.job import victims
from fmsteal.job.theft import is_sealed
from fmsteal.records import results
from fmsteal.records.folders import THEFTS, SweepFolder
from fmsteal.sweep.only import Only
from fmsteal.sweep.overrides import explain, require_complete, require_known

log = logging.getLogger(__name__)
NAMED = 5  # settings without effect that are named, approximately


@dataclass(frozen=True)
class SweepJob:
    """One job of the grid.

    Attributes:
        overrides: the overrides that make it, without ``stage``.
        key: the job's key.
        axis: its columns, see `fmsteal.identity.keys.axes`.
        cell: the key of its cell.
        folder: the folder it writes to.
        victim: its victim's key.
        cache: the folder where victims are kept.
        queries: how many queries it may ask.
        usd: their price.
        finished: whether its result existed when the sweep began.
        victim_ready: whether its victim was ready then.
        sealed: whether its theft was sealed then, by any sweep: it asks and trains nothing again.
        settings: its identity, flat.
        accelerator: what it trains on, as the trainer's config says.
        asked: a digest of what it measures; only in a dry run, which looks for jobs that measured the same.
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
    sealed: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    accelerator: str = "auto"
    asked: str = ""


@dataclass(frozen=True)
class Grid:
    """All jobs of a sweep, each once.

    Attributes:
        jobs: the jobs.
        fixed: the settings that are the same in all jobs, except the seed and those that follow it.
        varied: the settings that are not; a setting in neither is at its default in all jobs.
        repeated: how many combinations equal an earlier one, and are not run again.
        idle: the settings that vary without effect, so that combinations are equal; each with the reason.
        joined: how many combinations only add measurements to an earlier one's theft, and share its job.
        unlike: the pickled configs of the unfinished jobs that have a part unlike any before.
    """

    jobs: Sequence[SweepJob]
    fixed: dict[str, Any]
    varied: frozenset[str] = frozenset()
    repeated: int = 0
    idle: Sequence[str] = ()
    joined: int = 0
    unlike: Sequence[bytes] = ()

    @property
    def merged(self) -> str:
        """In words, how many combinations equal others or differ in their evaluation alone; "" if none does."""
        said, of = [], self.repeated + self.joined + len(self.jobs)
        if self.repeated:
            why = f" ({'; '.join(self.idle)})" if self.idle else ""
            said.append(f"{self.repeated} of {of} combinations are the same as others{why}")
        if self.joined:
            said.append(
                f"{self.joined} of {of} combinations differ in their evaluation alone: one job measures all of it"
            )
        return "; ".join(said)


def check_jobs(loader: SharedLoader, master: DictConfig, jobs: Sequence[Sequence[str]]) -> Grid:
    """Compose and check every job of a sweep, each given by its overrides.

    Only jobs without a result are checked against the classes they name, and of these only jobs with a part unlike any
    before: each check depends on one part and the API's answers alone. Combinations with the same key are one job, the
    first of them; where they differ in their evaluation, it measures all that they ask for.

    Raises:
        ConfigError: a job is not valid; the message is about the first such job.
    """
    merging = _Merging()
    for overrides, cfg in compose_jobs(loader, master, jobs):
        with _naming(overrides):
            values = _resolved(cfg)
            found = identity(cfg, values)
            merging.add(overrides, cfg, values, found)
    if merging.unlike:
        _check(merging.unlike)
    grid = merging.grid()
    if grid.merged:
        log.info("%s", grid.merged)
    return grid


class _Merging:
    """Takes the combinations of a sweep one by one, and merges those with the same key into one job."""

    def __init__(self) -> None:
        self.unlike: list[tuple[Sequence[str], bytes]] = []  # overrides and pickled config, see `Grid.unlike`
        self._cells: dict[str, SweepJob] = {}  # by the hash of their key
        self._evaluations: dict[str, list[Any]] = {}  # by the same hash
        self._known, self._seen = _Known(), set[str]()
        self._names = set[str]()
        self._fixed: dict[str, Any] | None = None
        self._repeated, self._joined, self._idle = 0, 0, dict[str, None]()

    def add(self, overrides: Sequence[str], cfg: DictConfig, values: dict[str, Any], found: dict[str, Any]) -> None:
        """Take a combination: its overrides, config, the config's parts as plain values, and identity."""
        job = self._known.make_job(overrides, cfg, found)
        key = hash_of(job.key)
        if self._cells.setdefault(key, job) is job:
            self._keep_settings(flatten(found))
        self._merge(key, job, cfg, values)
        if not self._cells[key].finished and (fresh := _parts(cfg, values) - self._seen):
            self._seen |= fresh
            self.unlike.append((overrides, pickle.dumps(cfg)))

    def _keep_settings(self, given: dict[str, Any]) -> None:
        """Keep the settings that are the same in all jobs, and the names of all settings."""
        self._names |= given.keys()
        fixed = given if self._fixed is None else self._fixed
        self._fixed = {k: v for k, v in fixed.items() if k in given and given[k] == v}

    def _merge(self, key: str, job: SweepJob, cfg: DictConfig, values: dict[str, Any]) -> None:
        """Count a combination that is the same job as an earlier one, and let that job measure what it asks for."""
        asked = [values["evaluation"], *OmegaConf.to_container(cfg.evaluations, resolve=True)]  # type: ignore[misc]
        first, before = self._cells[key], self._evaluations.setdefault(key, asked)
        if first is job:
            return
        if more := [node for node in asked if node not in before]:
            self._joined += 1
            before += more
            self._cells[key] = _joined(first, job, cfg, before)
            return
        self._repeated += 1
        self._idle |= _idle(first, job.overrides, cfg) if len(self._idle) < NAMED else {}

    def grid(self) -> Grid:
        """The jobs made from all combinations."""
        of_seed = self._known.following
        fixed = {k: v for k, v in (self._fixed or {}).items() if k not in of_seed}
        return Grid(
            list(self._cells.values()),
            fixed,
            frozenset((self._names | of_seed) - fixed.keys()),
            self._repeated,
            list(self._idle),
            self._joined,
            [pickled for _, pickled in self.unlike],
        )


def expand(loader: SharedLoader, arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, in Hydra's order: the last axis varies fastest."""
    parsed = OverridesParser.create(loader).parse_overrides(list(arguments))
    jobs = combinations(parsed)
    spelt = {
        word: quote_override(word) for word in {word for job in jobs for word in job}
    }  # names that glob(*) finds are not quoted
    return [[spelt[word] for word in job] for job in jobs]


def compose_jobs(
    loader: SharedLoader, master: DictConfig, jobs: Sequence[Sequence[str]]
) -> Iterator[tuple[Sequence[str], DictConfig]]:
    """Each job's overrides and config, with the options for its choices alone (`fmsteal.sweep.only`).

    Raises:
        ConfigError: an option, key or value is misspelt; the message lists the valid ones.
    """
    composing, only = _Composing(loader, master), Only()
    for overrides in jobs:
        with _naming(overrides):
            try:
                cfg = composing.cfg(overrides)
                if more := only.words(cfg, overrides):
                    overrides = [*overrides, *more]
                    cfg = composing.cfg(overrides)
            except (HydraException, OmegaConfBaseException, AssertionError, ValueError) as error:
                raise ConfigError(explain("config", list(overrides), error)) from error
        yield overrides, cfg
    with _naming(()):
        only.require_used()


class _Composing:
    """Composes a sweep's jobs; reads config files once for all jobs that differ in plain values alone."""

    def __init__(self, loader: SharedLoader, master: DictConfig) -> None:
        self._loader, self._master = loader, master
        self._parser, self._bases = OverridesParser.create(loader), dict[tuple[str, ...], bytes]()
        self._read: dict[str, Override] = {}  # parsed once, however many jobs have it

    def cfg(self, overrides: Sequence[str]) -> DictConfig:
        """The config of a job, as an object of its own."""
        for word in overrides:
            if word not in self._read:
                self._read[word] = self._parser.parse_overrides([word])[0]
        parsed = [self._read[word] for word in overrides]
        values = [o for o in parsed if not (o.is_hydra_override() or self._loader.chooses(o))]
        chosen = tuple(str(o.input_line) for o in parsed if o not in values)
        if chosen not in self._bases:
            self._bases[chosen] = pickle.dumps(self._loader.load_sweep_config(self._master, list(chosen)))
        cfg: DictConfig = pickle.loads(self._bases[chosen])
        self._loader.set_values(values, cfg)
        return cfg


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """All parts of a job, as plain values.

    Raises:
        ConfigError: a value is missing, or nothing reads one of the parts.
    """
    require_known(cfg)
    try:
        return {**resolve_groups(cfg), "evaluation": resolve(cfg, "evaluation")}
    except OmegaConfBaseException as error:
        with suppress(OmegaConfBaseException):
            require_complete(cfg)  # has a better message, if a value is missing
        raise ConfigError(str(error)) from error


class _Known:
    """What jobs of a cell or a victim share, found once."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, ...], str] = {}  # cell keys by the overrides without the seed
        self.asked: dict[tuple[str, ...], str] = {}  # what a dry run compares, by the same overrides
        self.following: set[str] = {"seed"}  # settings that follow the job's seed, such as data.seed with vary=all
        self.victims: dict[str, str] = {}  # a victim's key by its hash, with the slug of the first job that has it

    def make_job(self, overrides: Sequence[str], cfg: DictConfig, found: dict[str, Any]) -> SweepJob:
        """A job of the grid, from its ``overrides``, its config and its identity."""
        choices = {str(name): choice for name, choice in cfg.hydra.runtime.choices.items()}
        axis, but_seed = axes(cfg, choices), tuple(o for o in overrides if not o.startswith("seed="))
        if but_seed not in self.cells:  # found once for all seeds: it takes as long as the rest together
            known = cell_settings(cfg)
            self.cells[but_seed] = cell_key(axis, known)
            now = flatten(found)
            self.asked[but_seed] = results.digest_asked(cfg) if cfg.dry_run else ""
            self.following |= {k for k, v in known.items() if v == ANY_SEED and now.get(k, cfg.seed) == cfg.seed}
        sweep = Path(cfg.hydra.sweep.dir)
        folder = find(sweep, job_key(cfg, choices, found))
        victim = find(SweepFolder(sweep).victims, victim_key(cfg, choices, found)).name
        victim = self.victims.setdefault(hash_of(victim), victim)
        finished = not cfg.force and results.find_finished(folder, folder.name, cfg) is not None
        queries, price = axis["queries"], OmegaConf.select(cfg, "budget.usd_per_1000", default=0.0)
        asked = queries if isinstance(queries, int) else 0
        return SweepJob(
            overrides=tuple(o for o in overrides if not o.startswith("stage=")),
            key=folder.name,
            axis=axis,
            cell=self.cells[but_seed],
            folder=folder,
            victim=victim,
            cache=Path(cfg.cache),
            queries=asked,
            usd=asked * price / 1000 if isinstance(price, int | float) else 0.0,
            finished=finished,
            victim_ready=victims.is_ready(cfg, victim),
            sealed=not cfg.force and cfg.reuse and is_sealed(Path(cfg.output).absolute() / THEFTS, folder.name),
            settings=flatten(found),
            accelerator=str(OmegaConf.select(cfg, "trainer.lightning.accelerator", default="auto")),
            asked=self.asked[but_seed],
        )


def _joined(first: SweepJob, job: SweepJob, cfg: DictConfig, evaluations: Sequence[Any]) -> SweepJob:
    """Merge two jobs that differ in their evaluation alone; ``cfg`` is the later one's."""
    names = [*first.axis["evaluation"].split("+"), job.axis["evaluation"]]
    own = cfg.evaluation, cfg.evaluations
    with open_dict(cfg):
        cfg.evaluation, cfg.evaluations = evaluations[0], evaluations[1:]
        finished = not cfg.force and results.find_finished(first.folder, first.key, cfg) is not None
        asked = results.digest_asked(cfg) if cfg.dry_run else ""
        cfg.evaluation, cfg.evaluations = own
    words = (word for word in first.overrides if not word.startswith("evaluations="))
    return replace(
        first,
        overrides=(*words, f"evaluations={spell(evaluations[1:])}"),
        axis={**first.axis, "evaluation": "+".join(dict.fromkeys(names))},
        finished=finished,
        asked=asked,
    )


def _idle(first: SweepJob, overrides: Sequence[str], cfg: DictConfig) -> dict[str, None]:
    """In words, the overrides without effect in which a job differs from the first job that equals it."""
    given = {word.partition("=")[0].lstrip("+") for word in set(overrides) ^ set(first.overrides)}
    found = [idle for idle in find_without_effect(cfg) if any(idle.covers(key) for key in given)]
    return {f"{key} has no effect with {i.reason}": None for i in found for key in sorted(given) if i.covers(key)}


def _parts(cfg: DictConfig, values: dict[str, Any]) -> set[str]:
    """A digest of each part of a job that is checked, with the kind of answers that it has to fit.

    Seeds do not count, or each job of a thousand seeds would be checked.
    """
    parts = {name: _any_seed(part) for name, part in values.items()}
    parts["tracker"] = OmegaConf.to_container(cfg.tracker, resolve=True)
    parts["seed"] = cfg.seed if cfg.seed < 0 else "a seed"
    parts["asked"] = [parts["attack"], parts["budget"], parts["query"]]
    return {digest([name, cfg.task.answers, part]) for name, part in parts.items()}


def _any_seed(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _any_seed(v, str(k)) for k, v in value.items()}
    return "a seed" if key == "seed" and type(value) is int and value >= 0 else value


def _check(jobs: Sequence[tuple[Sequence[str], bytes]]) -> None:
    from fmsteal.sweep.servable import require_servable

    for overrides, pickled in jobs:
        with _naming(overrides):
            require_servable(pickle.loads(pickled))


class _naming:
    """Adds the job to the message of its error."""

    def __init__(self, overrides: Sequence[str]) -> None:
        self.job = " ".join(overrides)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FmstealError):
            named = f"{error}\nThis is job {self.job}" if self.job else str(error)
            raise type(error)(f"{named}\nNo job was run.") from error
