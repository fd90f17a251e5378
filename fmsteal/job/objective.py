"""The figure that a search looks for: ``metric=test/agreement``, a float that each job returns to its sweeper.

What is known before a job is run is checked then: which figures our plain evaluation of a classifier logs, and that an
attack holds answers out. Other figures are known from a job's result alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.records.honest import find_honest

CLASSIFY = "fmsteal.evaluation.classifier.ClassifierEvaluation"
OF_CLASSIFY = (
    "test/agreement", "test/accuracy", "test/victim_accuracy", "test/relative_accuracy", "test/kl", "test/l1",
    "test/kappa", "test/agreement_victim_wrong", "test/agreement_least_sure",
)  # fmt: skip
HELD_OUT = ("attack/held_out_agreement", "attack/held_out_macro_f1")
OF_ATTACK = ("attack/", "cost/")  # beginnings of figures that no measurement makes


def require_logged(cfg: DictConfig) -> None:
    """Refuse a metric of which it is certain that the job will not log it.

    Raises:
        ConfigError: it will not; the message says which figures there are, or what to set.
    """
    metric = cfg.metric
    if metric is None:
        return
    if metric in HELD_OUT:
        _require_held_out(cfg, metric)
    elif _is_plain(cfg) and not metric.startswith(OF_ATTACK):
        there = [*OF_CLASSIFY, f"test/agreement@{cfg.evaluation.k}"]
        if metric not in there:
            raise ConfigError(
                f"metric={metric}: {_guess(metric, there)}This evaluation logs {', '.join(there)}; besides there are "
                "cost/queries, cost/usd and the like, and attack/... of what the attack reports. Another evaluation "
                "logs more: evaluation=..."
            )


def read(result: Mapping[str, Any], metric: str) -> float:
    """A figure of a finished job.

    Raises:
        ConfigError: the job has no such figure; the message lists those that it has.
    """
    there = {**result["metrics"], **result["cost"]}
    if metric not in there:
        raise ConfigError(
            f"metric={metric}: {result['job_key']} has no such figure. {_guess(metric, there)}It has "
            f"{', '.join(sorted(there))}."
        )
    return float(there[metric])


def _require_held_out(cfg: DictConfig, metric: str) -> None:
    share, by = (OmegaConf.select(cfg, f"attack.{name}") for name in ("validation", "by"))
    if share is None:
        raise ConfigError(
            f"metric={metric}: this attack holds no answers out. Those with attack.validation do: attack=knockoff, for "
            "example."
        )
    if not share:
        raise ConfigError(f"metric={metric} needs answers that the thief is not trained on: set attack.validation=0.2.")
    chosen = "attack/held_out_" + (by or "agreement")
    if metric != chosen:
        raise ConfigError(f"metric={metric}: with attack.by={by} the attack logs {chosen}.")


def _is_plain(cfg: DictConfig) -> bool:
    """Whether the job is measured by our evaluation of a classifier and nothing else."""
    plain = cfg.evaluation.get("_target_") == CLASSIFY and not cfg.evaluation.get("also")
    return plain and not cfg.evaluations and find_honest(cfg) is None


def _guess(metric: str, there: Iterable[str]) -> str:
    near = difflib.get_close_matches(metric, list(there), n=1)
    return f"Did you mean {near[0]}? " if near else ""
