"""``fmsteal report --variance``: how much of a figure's variance victim, pool and thief cause. Imports no torch.

It needs a sweep that crosses their seeds: ``fmsteal -m data.seed=0,1,2 query.seed=0,1,2 seed=0,1,2``. A victim
that is trained by steps also differs by ``victim.seed``; a probed head is a minimum, which depends on its data alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from fmsteal.base.errors import FmstealError
from fmsteal.identity.keys import ANY_SEED
from fmsteal.report.read.components import estimate_components
from fmsteal.report.read.study import Study, StudyJob
from fmsteal.report.show.plain import Plain

SEEDS = {  # what each seed setting decides; ``seed`` is the job's, from which the attack draws its questions
    "data.seed": "data", "victim.seed": "victim", "query.seed": "pool", "thief.seed": "thief", "seed": "questions",
}  # fmt: skip
FEWEST = 2  # factors with two levels or more
HOW = "fmsteal -m data.seed=0,1,2 query.seed=0,1,2 seed=0,1,2 crosses the victim's data, pool and thief"


@dataclass(frozen=True)
class SeedGrid:
    """Jobs that differ in seeds alone, fully crossed.

    Attributes:
        factors: what varies independently; things whose seeds vary together are one factor.
        values: the metric, with an axis for each factor.
    """

    factors: Sequence[str]
    values: Any

    @property
    def components(self) -> dict[str, float]:
        """The variance due to each factor and each interaction; the last is the rest, including chance."""
        found = estimate_components(self.values)
        names = {axes: " x ".join(self.factors[axis] for axis in axes) for axes in found}
        return {
            f"rest ({name})" if len(axes) == len(self.factors) else name: found[axes] for axes, name in names.items()
        }


def lay_grid(jobs: Sequence[StudyJob], metric: str) -> SeedGrid:
    """Find the factors that the jobs cross, and lay out their figures.

    Raises:
        FmstealError: fewer than two things vary independently, or combinations are missing or repeated.
    """
    levels = _find_factors(jobs)
    factors = list(levels)
    if len(factors) < FEWEST:
        raise FmstealError(f"of what seeds decide {_varies(factors)}; {HOW}")
    choices = [sorted(set(own)) for own in levels.values()]
    places = list(zip(*levels.values(), strict=True))
    figures = dict(zip(places, (job.figure(metric) for job in jobs), strict=True))
    missing = [place for place in product(*choices) if figures.get(place) is None]
    if missing:
        sizes, first = " x ".join(str(len(c)) for c in choices), zip(factors, missing[0], strict=True)
        raise FmstealError(
            f"{len(missing)} of {sizes} combinations of {', '.join(factors)} have no {metric}, the first of them "
            f"{', '.join(f'{factor} {level}' for factor, level in first)}; each must be there once"
        )
    if len(places) > len(figures):
        raise FmstealError(f"{len(places) - len(figures)} combinations of {', '.join(factors)} are there twice")
    return SeedGrid(factors, np.array([figures[p] for p in product(*choices)]).reshape([len(c) for c in choices]))


def _find_factors(jobs: Sequence[StudyJob]) -> dict[str, list[int]]:
    """What varies independently, with each job's level; things whose seeds vary together are one factor."""
    together: dict[tuple[int, ...], list[str]] = {}  # by which jobs have the same level
    levels = {what: [_level(job, key) for job in jobs] for key, what in SEEDS.items()}
    for what, own in levels.items():
        if len(set(own)) > 1:
            together.setdefault(tuple(own.index(level) for level in own), []).append(what)
    return {" and ".join(names): levels[names[0]] for names in together.values()}


def tabulate_variance(study: Study, metric: str) -> Plain:
    """Tabulate the components of every group of jobs that differ in seeds alone.

    Raises:
        FmstealError: no group's grid is complete and large enough.
    """
    keys = [name for name in study.columns if name not in SEEDS]
    rows: list[list[str]] = []
    refused: list[str] = []
    for values, jobs in _groups(study, keys).items():
        where = ", ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))
        try:
            grid = lay_grid(jobs, metric)
        except FmstealError as error:
            refused.append(f"{where}: {error}" if where else str(error))
            continue
        found = {name: max(variance, 0.0) for name, variance in grid.components.items()}
        whole = math.fsum(found.values())
        sizes = dict(zip(grid.factors, grid.values.shape, strict=True))
        rows += [
            [
                *values,
                name,
                f"{math.sqrt(value):.4f}",
                f"{value / whole:.0%}" if whole else "",
                str(sizes.get(name, "")),
            ]
            for name, value in found.items()
        ]
    if not rows:
        raise FmstealError(f"--variance: no grid is large enough. {refused[0] if refused else 'No job is finished'}.")
    notes = [
        f"{study.label(metric).capitalize()}: standard deviation that each source alone would make (a crossed "
        "random-effects model, method of moments; negative estimates are 0), and its share of the sum of variances. "
        "What has few levels is known badly: of two levels a component has one degree of freedom.",
        *(f"Left out: {each}." for each in refused),
    ]
    columns = ("standard deviation", "of the variance", "levels")
    title = f"where the variance of {study.label(metric)} comes from"
    return Plain("variance", title, [*keys, "source"], columns, rows, notes)


def _groups(study: Study, keys: Sequence[str]) -> dict[tuple[str, ...], list[StudyJob]]:
    """The finished jobs that agree in all but their seeds, by their values on the study's other columns."""
    found: dict[tuple[str, ...], list[StudyJob]] = {}
    for cell in study.cells:
        found.setdefault(tuple(cell.values[key] for key in keys), []).extend(cell.done)
    return {values: jobs for values, jobs in found.items() if jobs}


def _settings(job: StudyJob) -> Mapping[str, Any]:
    found = (job.on_disk.result or {}).get("settings")
    return found if isinstance(found, dict) else {}


def _level(job: StudyJob, key: str) -> int:
    """The seed that a setting has in a job; 0, the default, is not kept in settings."""
    seed = job.seed if key == "seed" else _settings(job).get(key, 0)
    return (job.seed or 0) if seed == ANY_SEED or not isinstance(seed, int) else seed


def _varies(factors: Sequence[str]) -> str:
    return f"{factors[0]} alone varies, all together" if factors else "nothing varies"
