"""What an attack says of budgets, asked of the attack alone: quick, before any job is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from omegaconf import DictConfig

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.config import answers, build
from fmsteal.data.images import Images
from fmsteal.job.protocols import check_attack
from fmsteal.oracle.oracle import Budget


@dataclass(frozen=True)
class Probed:
    """What an attack says of budgets.

    Attributes:
        rungs: the budgets that it can have; 0 alone if it asks nothing.
        refused: why it cannot have the others.
    """

    rungs: tuple[int, ...]
    refused: dict[int, str] = field(default_factory=dict)


def probe_attack(cfg: DictConfig, rungs: Sequence[int]) -> Probed:
    """Ask the attack of a job which budgets it can have.

    Raises:
        ConfigError: the attack or the defense is not made for the API's answers, or the attack cannot be made.
    """
    answers.check(cfg)
    attack, count = build.make(cfg.attack), cfg.query.get("count")
    if _accepts(attack, 0, 1) and not _accepts(attack, 1, 1):
        if why := _find_obstacle(cfg):
            raise ConfigError(f"attack={cfg.hydra.runtime.choices['attack']}: {why}")
        return Probed((0,))
    known = isinstance(count, int) and count > 0 and str(cfg.query._target_).startswith("fmsteal.data.")
    if not known:
        return Probed(tuple(rungs))
    refused = {rung: why for rung in rungs if (why := _find_refusal(attack, rung, count))}
    return Probed(tuple(rung for rung in rungs if rung not in refused), refused)


def _accepts(attack: object, queries: int, images: int) -> bool:
    return not _find_refusal(attack, queries, images)


def _find_refusal(attack: object, queries: int, images: int) -> str:
    """Why an attack refuses a budget with a query set of that size; "" if it does not."""
    pool = Images(np.broadcast_to(np.zeros((1, 3, 1, 1), np.uint8), (images, 3, 1, 1)), "a set of that size")
    try:
        check_attack(attack, Budget(queries), pool)  # type: ignore[arg-type]
    except FmstealError as error:
        return str(error)
    return ""


def _find_obstacle(cfg: DictConfig) -> str:
    """Why an attacker that asks nothing cannot be tried; "" if nothing is known against it."""
    labelled = getattr(build.locate(str(cfg.attack._target_), "attack"), "labelled", None)
    if labelled == "unseen" and "train_count" in cfg.data and cfg.data.train_count is None:
        return "it needs labelled images that the victim was not trained on: data.train_count=N leaves some out."
    return ""
