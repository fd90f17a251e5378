"""One job, told on a page: victim -> oracle -> attack -> evaluation -> ``result.json``."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fmsteal import build
from fmsteal.attacks.base import Attack, AttackContext
from fmsteal.context import Context
from fmsteal.data.images import Images, Task
from fmsteal.defenses.base import Defense
from fmsteal.environment import environment
from fmsteal.errors import AttackError
from fmsteal.evaluation.classifier import ClassifierEvaluation, Measured
from fmsteal.learners import ClassifierLearner
from fmsteal.modules.classifier import save_weights
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.progress import Progress
from fmsteal.results import RESULT, SCHEMA
from fmsteal.store import Store, explained, write_json
from fmsteal.tracking.base import RunInfo, Tracking
from fmsteal.training import Training
from fmsteal.victims.base import Victim
from fmsteal.victims.classifier import ClassifierVictim


@dataclass(frozen=True)
class Job:
    """Which job this is, and where it writes."""

    key: str
    folder: Path
    axis: dict[str, Any]
    command: str


def run(cfg: DictConfig, job: Job) -> dict[str, Any]:
    """Run one job to its result. Interrupted, it goes on where it was when it is called again."""
    build.check(cfg)
    parts = Parts.of(cfg)
    env = environment()
    config = OmegaConf.to_container(cfg, resolve=True)
    info = RunInfo(job.key, job.folder, job.axis, config, cfg.sweep_id, env["git"])  # type: ignore[arg-type]
    began = time.monotonic()
    with Progress() as progress, parts.tracking.open(info) as tracker:
        ctx = Context(Store(cfg.cache), job.folder, parts.training, tracker, progress, cfg.seed)
        task: Task = build.make(cfg.data, store=ctx.store)
        pool: Images = build.make(cfg.query, store=ctx.store)
        parts.attack.check(parts.budget, pool)

        victim = parts.victim.prepare(task, ctx)
        oracle = behind_api(victim, pool, parts, ctx, job)
        thief = parts.attack.run(oracle, pool, AttackContext(parts.thief, ctx))
        if not isinstance(thief, nn.Module):
            raise AttackError(
                f"{cfg.attack._target_} returned {type(thief).__name__}, not a thief (a torch.nn.Module)."
            )
        measured = parts.evaluation.run(victim, thief, task, ctx)

        cost = {
            "cost/queries": oracle.used,
            "cost/usd": parts.budget.usd(oracle.used),
            "cost/victim_forwards": victim.forwards,
            "cost/seconds": round(time.monotonic() - began, 2),
        }
        tracker.summary({**measured.metrics, **cost})
        return publish(cfg, job, thief, measured, cost, env, tracker.place)


@dataclass(frozen=True)
class Parts:
    """The objects a job is composed of; all are made before anything is trained."""

    victim: ClassifierVictim
    thief: ClassifierLearner
    attack: Attack
    budget: Budget
    defense: Defense
    evaluation: ClassifierEvaluation
    training: Training
    tracking: Tracking

    @classmethod
    def of(cls, cfg: DictConfig) -> Parts:
        """Make them from their config groups."""
        groups = {"training": "trainer", "tracking": "tracker"}
        return cls(**{f.name: build.make(cfg[groups.get(f.name, f.name)]) for f in fields(cls)})


def behind_api(victim: Victim, pool: Images, parts: Parts, ctx: Context, job: Job) -> Oracle:
    """Put the victim behind defense, budget and ledger; from here on nobody else touches it."""
    return Oracle(
        answer_pool=lambda ids: victim.raw(pool, ids, ctx).softmax(1),
        answer_images=lambda images: victim.raw_images(images, ctx).softmax(1),
        pool=pool,
        defense=parts.defense,
        budget=parts.budget,
        ledger=Ledger(job.folder / "ledger.bin", job.key),
        seed=ctx.seed,
        on_answer=lambda used, allowed: ctx.progress.update("queries", used, allowed),
    )


def publish(
    cfg: DictConfig,
    job: Job,
    thief: nn.Module,
    measured: Measured,
    cost: dict[str, float],
    env: dict[str, Any],
    where: str,
) -> dict[str, Any]:
    """Write the job's files; ``result.json`` last, so that it vouches for the others."""
    result = {
        "schema": SCHEMA,
        "job_key": job.key,
        "sweep_id": cfg.sweep_id,
        "axis": job.axis,
        "metrics": measured.metrics,
        "intervals": measured.intervals,
        "cost": cost,
        "budget": cfg.budget.queries,
        "env": env,
        "command": job.command,
        "tracker": where,
        "notes": OmegaConf.to_container(cfg.notes, resolve=True),
    }
    with explained(job.folder):
        fresh = job.folder / ".predictions.npz"
        np.savez(fresh, **measured.predictions)  # type: ignore[arg-type]
        fresh.replace(job.folder / "predictions.npz")
        save_weights(thief, job.folder / "thief.safetensors")
        write_json(job.folder / RESULT, result)
        shutil.rmtree(job.folder / "work", ignore_errors=True)
    return result
