"""What a sweep will take: the seconds of each job and victim, and the disk. Imports torch only to count what is new."""

from __future__ import annotations

import pickle
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from fmsteal.base.errors import ConfigError
from fmsteal.identity.kinds import name_theft_kind, name_victim_kind
from fmsteal.sweep.grid import SweepJob
from fmsteal.sweep.measured import CPU, GPU, expect, read_times
from fmsteal.sweep.work import WorkCount

if TYPE_CHECKING:
    from fmsteal.sweep.stages import SweepPlan

MEASURED, SCALED, COUNTED = SOURCES = ("measured", "scaled", "arithmetic")
TERAFLOPS = {CPU: 0.05, GPU: 10.0}  # of one job, sustained; given otherwise by hydra.sweeper.teraflops
_ON_CPU = {"cpu"}
_ON_GPU = {"gpu", "cuda", "mps"}


@dataclass(frozen=True)
class Expected:
    """What a job is expected to take.

    Attributes:
        seconds: on one device.
        device: ``CPU`` or ``GPU``.
        source: ``measured`` (jobs of this kind have finished), ``scaled`` (from such as differ in their budget, in
            options of attack or defense, or in what they measure), or ``arithmetic``.
    """

    seconds: float
    device: str
    source: str


@dataclass
class Estimate:
    """What a sweep is expected to take.

    Attributes:
        victims: by key, each victim that is to be made.
        jobs: by key, each job that is to be run.
        images: bytes of decoded images that no finished job has made.
        features: bytes of the thieves' features of query sets that no finished job has made.
        finished: how many finished jobs the times are from.
        rate: operations a second, in 10^12, by which the arithmetic was turned into seconds.
        unknown: what the arithmetic could not count.
    """

    victims: dict[str, Expected] = field(default_factory=dict)
    jobs: dict[str, Expected] = field(default_factory=dict)
    images: int = 0
    features: int = 0
    finished: int = 0
    rate: Mapping[str, float] = field(default_factory=dict)
    unknown: Sequence[str] = ()

    def count_sources(self) -> Counter[str]:
        """How many jobs and victims have their time from each source."""
        return Counter(each.source for each in (*self.victims.values(), *self.jobs.values()))


def estimate(plan: SweepPlan, master: DictConfig) -> Estimate:
    """Estimate what the jobs of a plan will take.

    Raises:
        ConfigError: ``hydra.sweeper.teraflops`` is no rate.
    """
    return _Estimator(plan, master).estimate()


class _Estimator:
    def __init__(self, plan: SweepPlan, master: DictConfig) -> None:
        self.plan, self.rate = plan, _read_rate(master)
        self.cache = Path(master.cache)
        self.times = read_times(Path(master.output), self.cache)
        self.auto = _find_device(master.hydra.launcher)
        self._work: WorkCount | None = None

    def estimate(self) -> Estimate:
        needed = {job.victim: job for job in (*self.plan.thefts, *self.plan.victims)}
        missing = {victim: job for victim, job in needed.items() if victim not in self.plan.ready}
        victims = {victim: self._expect_victim(job) for victim, job in missing.items()}
        jobs = {job.key: self._expect_theft(job) for job in self.plan.thefts}
        jobs |= {job.key: self._expect_measuring(job) for job in self.plan.measured}
        found = Estimate(victims, jobs, finished=self.times.jobs, rate=self.rate)
        self._add_disk(found)
        found.unknown = sorted(self._work.unknown) if self._work is not None else ()
        return found

    @property
    def work(self) -> WorkCount:
        if self._work is None:
            self._work = WorkCount([pickle.loads(job) for job in self.plan.grid.unlike], self.cache)
        return self._work

    def _expect_victim(self, job: SweepJob) -> Expected:
        device = self._device(job)
        if known := self.times.victims.get((name_victim_kind(job.settings), device)):
            return Expected(statistics.fmean(known), device, MEASURED)
        return self._count(self.work.prepare(job.settings), device)

    def _expect_theft(self, job: SweepJob) -> Expected:
        device, kind = self._device(job), name_theft_kind(job.settings)
        near = (name_theft_kind(job.settings, near=True), device)
        known = self.times.thefts.get((kind, device)) or self.times.near.get(near)
        if known is None:
            return self._count(self.work.steal(job.settings, job.queries, job.axis["seed"]), device, job)
        exact = (kind, device) in self.times.thefts and job.queries in known
        measuring, same = self._find_measuring(job, device)
        source = MEASURED if exact and same else SCALED
        return Expected(expect(known, job.queries) + (measuring or 0.0), device, source)

    def _expect_measuring(self, job: SweepJob) -> Expected:
        device = self._device(job)
        known, same = self._find_measuring(job, device)
        if known is not None:
            return Expected(known, device, MEASURED if same else SCALED)
        return self._count(self.work.measure(job.settings), device)

    def _find_measuring(self, job: SweepJob, device: str) -> tuple[float | None, bool]:
        """The seconds of a job's measurements, None if nothing like it was measured; and whether they are the same."""
        if known := self.times.measurements.get((name_theft_kind(job.settings), job.asked, device)):
            return statistics.fmean(known), True
        near = self.times.near_measurements.get((name_theft_kind(job.settings, near=True), device))
        return (statistics.fmean(near) if near else None), False

    def _count(self, flops: float, device: str, job: SweepJob | None = None) -> Expected:
        more = 0.0 if job is None else self.work.measure(job.settings)
        return Expected((flops + more) / (self.rate[device] * 1e12), device, COUNTED)

    def _device(self, job: SweepJob) -> str:
        if job.accelerator in _ON_CPU:
            return CPU
        return GPU if job.accelerator in _ON_GPU else self.auto

    def _add_disk(self, found: Estimate) -> None:
        """Count images and features of jobs that are to steal; those that finished jobs have made are there."""
        if not self.plan.thefts:
            return
        work = WorkCount([pickle.loads(job) for job in self.plan.grid.unlike], self.cache)
        for settings, queries, seed in self.times.done:
            work.keep_images(settings)
            work.keep_features(settings, queries, seed)
        for job in self.plan.thefts:
            found.images += work.keep_images(job.settings)
            found.features += work.keep_features(job.settings, job.queries, job.axis["seed"])


def _read_rate(master: DictConfig) -> dict[str, float]:
    """The rate of each device.

    Raises:
        ConfigError: one that is given is none.
    """
    given = master.hydra.sweeper.get("teraflops")
    if given is None:
        return dict(TERAFLOPS)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise ConfigError(
            f"hydra.sweeper.teraflops={given} is no rate: the 10^12 operations a second that one job gets from its "
            "device, as hydra.sweeper.teraflops=10."
        )
    return dict.fromkeys(TERAFLOPS, float(given))


def _find_device(launcher: DictConfig) -> str:
    """Where a job with trainer.lightning.accelerator=auto will run: as its launcher asks, or as this machine has."""
    asked = [launcher.get(name) for name in ("gpus_per_node", "gpus_per_task", "num_gpus", "gres") if name in launcher]
    if asked:
        return GPU if any(asked) else CPU
    drivers: Iterable[Path] = (Path("/proc/driver/nvidia/version"), Path("/dev/kfd"))
    return GPU if any(driver.exists() for driver in drivers) else CPU
