"""One job, told on a page: victim -> oracle -> attack -> evaluation -> ``result.json``."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fmsteal import build
from fmsteal.attacks.base import Attack, AttackContext
from fmsteal.context import Context
from fmsteal.data.images import Images, Task
from fmsteal.environment import environment
from fmsteal.errors import AttackError
from fmsteal.evaluation.classifier import Measured
from fmsteal.modules.classifier import save_weights
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.progress import Progress
from fmsteal.results import RESULT, SCHEMA
from fmsteal.store import Store, explained, write_json
from fmsteal.tracking.base import RunInfo
from fmsteal.victims.base import Victim


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
    env = environment()
    info = RunInfo(job.key, job.folder, job.axis, OmegaConf.to_container(cfg, resolve=True), cfg.sweep_id, env["git"])  # type: ignore[arg-type]
    began = time.monotonic()
    with Progress() as progress, build.make(cfg.tracker).open(info) as tracker:
        ctx = Context(
            store=Store(cfg.cache),
            run_dir=job.folder,
            training=build.make(cfg.trainer),
            tracker=tracker,
            progress=progress,
            seed=cfg.seed,
        )
        task, pool = load(cfg, ctx)
        attack: Attack = build.make(cfg.attack)
        budget: Budget = build.make(cfg.budget)
        attack.check(budget, pool)

        victim = prepare(cfg, task, ctx)
        thief, oracle = steal(cfg, attack, budget, victim, pool, ctx, job)
        measured = evaluate(cfg, victim, thief, task, ctx)

        cost = {
            "cost/queries": oracle.used,
            "cost/usd": budget.usd(oracle.used),
            "cost/victim_forwards": victim.forwards,
            "cost/seconds": round(time.monotonic() - began, 2),
        }
        tracker.summary({**measured.metrics, **cost})
        return publish(cfg, job, thief, measured, cost, env, tracker.place)


def load(cfg: DictConfig, ctx: Context) -> tuple[Task, Images]:
    """The victim's task, and the public images the attacker asks about."""
    return build.make(cfg.data, store=ctx.store), build.make(cfg.query, store=ctx.store)


def prepare(cfg: DictConfig, task: Task, ctx: Context) -> Victim:
    """The victim: made once, kept in the store."""
    victim: Victim = build.make(cfg.victim).prepare(task, ctx)
    return victim


def steal(
    cfg: DictConfig, attack: Attack, budget: Budget, victim: Victim, pool: Images, ctx: Context, job: Job
) -> tuple[nn.Module, Oracle]:
    """Put the victim behind an oracle and let the attack loose on it."""
    oracle = Oracle(
        answer_pool=lambda ids: victim.raw(pool, ids, ctx).softmax(1),
        answer_images=lambda images: victim.raw_images(images, ctx).softmax(1),
        pool=pool,
        defense=build.make(cfg.defense),
        budget=budget,
        ledger=Ledger(job.folder / "ledger.bin", job.key),
        seed=cfg.seed,
        on_answer=lambda used, allowed: ctx.progress.update("queries", used, allowed),
    )
    thief = attack.run(oracle, pool, AttackContext(build.make(cfg.thief), ctx))
    if not isinstance(thief, nn.Module):
        raise AttackError(f"{cfg.attack._target_} returned {type(thief).__name__}, not a thief (a torch.nn.Module).")
    return thief, oracle


def evaluate(cfg: DictConfig, victim: Victim, thief: nn.Module, task: Task, ctx: Context) -> Measured:
    """Hold the thief against the undefended victim, once."""
    measured: Measured = build.make(cfg.evaluation).run(victim, thief, task, ctx)
    return measured


def publish(
    cfg: DictConfig, job: Job, thief: nn.Module, measured: Measured, cost: dict[str, float], env: dict[str, Any], where: str
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
