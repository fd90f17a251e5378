"""The typed root of the config. The groups below it are plain YAML, checked against the classes they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class Overlap(Enum):
    """What to do if the query set holds the victim's own images."""

    warn = "warn"
    allow = "allow"
    refuse = "refuse"


class Stage(Enum):
    """Which part of a sweep is run: its victims, its thieves (which make missing victims), or both in turn."""

    all = "all"
    victims = "victims"
    thieves = "thieves"


@dataclass
class Config:
    """One job. Each group is described by the first line of its files under ``conf/``."""

    task: Any = MISSING
    data: Any = MISSING
    victim: Any = MISSING
    thief: Any = MISSING
    query: Any = MISSING
    budget: Any = MISSING
    attack: Any = MISSING
    defense: Any = MISSING
    evaluation: Any = MISSING
    trainer: Any = MISSING
    tracker: Any = MISSING
    evaluations: list[Any] = field(default_factory=list)
    """Further evaluations of the same theft: a sweep over ``evaluation`` is one job that measures all of them."""
    recipes: Any = MISSING
    vary: Any = MISSING

    seed: int = 0
    """Of everything random in the job; with ``vary=all`` of the data split and the query set too."""
    sweep_id: str | None = None
    """Names a sweep's folder and W&B group."""
    output: str = "outputs"
    """Root of all that is written."""
    cache: str = "${output}/cache"
    """Artifacts shared between jobs."""
    force: bool = False
    """Do a finished job again: a further theft, beside the one that is there."""
    reuse: bool = True
    """Take a theft of the same key that another job has made; if false, this job steals for itself, once."""
    stage: Stage = Stage.all
    """Of a sweep what is run: all, victims, thieves. Of a single job: victims prepares its victim and ends."""
    dry_run: Any = False
    """Show a sweep's plan and run nothing; ``full`` lists every job too."""
    quiet: bool = False
    """Show warnings, errors and the closing table alone; ``-q`` is short for it."""
    overlap: Overlap = Overlap.warn
    """What to do where the query set holds the victim's own images: warn, allow, refuse."""
    edition: str | None = None
    """Tells apart jobs whose files have the same names and sizes but other content; part of the key."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Free text kept with the result; not part of the job's identity."""
