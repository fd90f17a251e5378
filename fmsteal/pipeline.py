"""One job, told on a page: victim -> oracle -> attack -> evaluation -> ``result.json``."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fmsteal import answers, build
from fmsteal.attacks.base import Attack, AttackContext
from fmsteal.context import Context
from fmsteal.curves import Spending
from fmsteal.data.images import Images, Task
from fmsteal.data.overlap import overlap
from fmsteal.defenses.base import Defense
from fmsteal.environment import environment
from fmsteal.errors import AttackError, BudgetExceeded, ConfigError, DataError, FmstealError
from fmsteal.evaluation.base import Evaluation, Measured
from fmsteal.learners import ClassifierLearner, EncoderLearner
from fmsteal.meter import Meter
from fmsteal.modules.classifier import save_weights
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.progress import Progress
from fmsteal.results import FAILURE, INPUTS, RESULT, SCHEMA, paths
from fmsteal.schema import Overlap
from fmsteal.store import Store, digest, explained, read_json, sync, write_json
from fmsteal.sweep.identity import cell_settings
from fmsteal.sweep.victims import remember
from fmsteal.tracking.base import RunInfo, Tracker, Tracking
from fmsteal.training import Training
from fmsteal.victims.base import Victim, VictimMaker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Which job this is, where it writes, which victim's key it shares with other jobs, and if it shows a bar.

    ``name``, ``jobs`` and ``requeued`` are for its tracker: see `RunInfo`.
    """

    key: str
    folder: Path
    axis: dict[str, Any]
    command: str
    victim: str
    bar: bool = True
    name: str = ""
    jobs: int = 1
    requeued: bool = False


def run(cfg: DictConfig, job: Job) -> dict[str, Any]:
    """Run one job to its result. Interrupted, it goes on where it was when it is called again."""
    parts = Parts.of(cfg)
    meter = Meter(job.folder / "work" / "cost.json")
    with Progress(on_update=meter.save, alone=job.bar) as progress:
        store = Store(cfg.cache, tell=progress.update)
        task: Task = build.make(cfg.data, store=store)
        pool: Images = build.make(cfg.query, store=store, task=task)
        parts.attack.check(parts.budget, pool)
        mind_overlap(store, pool, task, cfg.overlap)
        inputs = same_inputs(task, pool, parts, job, store)
        if (done := already_done(cfg, inputs, job)) is not None:
            return done

        env = environment()
        with surroundings(cfg, job, parts, store, progress, env) as ctx:
            victim = meter.victim = prepared(cfg, job, parts, task, ctx)
            oracle = behind_api(victim, pool, parts, ctx, job)
            with named(cfg.attack._target_):
                with blamed(oracle):
                    thief = parts.attack.run(oracle, pool, AttackContext(parts.thief, ctx, lambda: oracle.used))
                    if not isinstance(thief, nn.Module):
                        raise AttackError(f"it returned {type(thief).__name__}, not a thief (a torch.nn.Module).")
                meter.stop_counting()
                measured = parts.evaluation.run(victim, thief, task, (parts.victim, parts.thief), ctx)

            cost = {"cost/queries": oracle.used, "cost/usd": parts.budget.usd(oracle.used), **meter.read()}
            ctx.tracker.summary({**measured.metrics, **cost})
            keep(job, thief, measured, ctx.tracker)
            more = {"inputs": inputs, "env": env, "tracker": ctx.tracker.place}
            return publish(cfg, job, measured, cost, more)


def prepare_victim(cfg: DictConfig, job: Job) -> dict[str, Any]:
    """Put the job's victim into the store and end: the first stage of a sweep. Interrupted, it goes on likewise."""
    parts = Parts.of(cfg)
    meter = Meter(job.folder / "work" / "cost.json")
    with Progress(on_update=meter.save, alone=job.bar) as progress:
        store = Store(cfg.cache, tell=progress.update)
        task: Task = build.make(cfg.data, store=store)
        with surroundings(cfg, job, parts, store, progress, environment(), "victim") as ctx:
            victim = prepared(cfg, job, parts, task, ctx)
            cost = {"cost/seconds": meter.read()["cost/seconds"]}
            ctx.tracker.summary(cost)
    shutil.rmtree(job.folder / "work", ignore_errors=True)
    return {"job_key": job.key, "victim": victim.key, "cost": cost}


@contextmanager
def surroundings(
    cfg: DictConfig, job: Job, parts: Parts, store: Store, progress: Progress, env: dict[str, Any], kind: str = "thief"
) -> Iterator[Context]:
    """What the stages of a job are handed, its run in the tracker begun."""
    config = OmegaConf.to_container(cfg, resolve=True)
    how = {"name": job.name, "jobs": job.jobs, "requeued": job.requeued}
    known = (job.key, job.folder, job.axis, config, cfg.sweep_id, env["git"], kind)
    info = RunInfo(*known, **how)  # type: ignore[arg-type]
    with parts.tracking.open(info) as tracker:
        yield Context(store, job.folder, parts.training, tracker, progress, cfg.seed)


def prepared(cfg: DictConfig, job: Job, parts: Parts, task: Task, ctx: Context) -> Victim:
    """The job's victim, from the store or made now; the store is told that it is there, the run where it was made."""
    victim, mine = parts.victim.prepare(task, ctx), ctx.tracker.identity
    maker = remember(cfg, job.victim, victim.key, victim.place, mine)
    ctx.tracker.link("victim_run", maker)
    if maker is not None and maker == mine and victim.place is not None:
        ctx.tracker.artifact("victim", victim.place)
    return victim


def mind_overlap(store: Store, pool: Images, task: Task, how: Overlap) -> None:
    """Warn of a query set that holds the victim's own images, or refuse it."""
    if how is Overlap.allow:
        return
    shared = {split: count for split, count in overlap(store, pool, task).items() if count}
    if not shared:
        return
    counts = " and ".join(f"{count} of the {split} split" for split, count in shared.items())
    finding = f"The query set seems to hold images of the victim's own data: {counts}."
    if how is Overlap.refuse:
        raise DataError(f"{finding} Choose another query set (query=...), or overlap=allow.")
    log.warning("%s If that is meant: overlap=allow.", finding)


def same_inputs(task: Task, pool: Images, parts: Parts, job: Job, store: Store) -> dict[str, str]:
    """Record what the job works on; refuse to go on in a folder where the same names stood for other content."""
    inputs = {
        "training images": task.train.digest,
        "test images": task.test.digest,
        "query set": pool.digest,
        "victim": digest(parts.victim.identity()),
        "thief": digest(parts.thief.identity()),
        **parts.evaluation.inputs(store),
    }
    before = read_json(job.folder / INPUTS)
    changed = sorted(k for k in inputs if before and before.get(k) != inputs[k])
    if changed:
        raise DataError(
            f"{job.folder} was begun with other content under the same names ({', '.join(changed)}). Give folders and "
            "weights files different names, choose another output folder (output=...), or redo the job: force=true."
        )
    with explained(job.folder):
        write_json(job.folder / INPUTS, inputs)
    return inputs


def already_done(cfg: DictConfig, inputs: dict[str, str], job: Job) -> dict[str, Any] | None:
    """The result that is there, if it was made from the very same content (whose paths or times have changed)."""
    result = read_json(job.folder / RESULT)
    if result is None or result.get("job_key") != job.key or result.get("inputs") != inputs:
        return None
    write_json(job.folder / RESULT, {**result, "paths": paths(cfg)})
    shutil.rmtree(job.folder / "work", ignore_errors=True)  # what was kept while the images were decoded again
    return result


@dataclass(frozen=True)
class Parts:
    """The objects a job is composed of; all are made before anything is trained."""

    victim: VictimMaker
    thief: ClassifierLearner | EncoderLearner
    attack: Attack
    budget: Budget
    defense: Defense
    evaluation: Evaluation
    training: Training
    tracking: Tracking

    @classmethod
    def of(cls, cfg: DictConfig) -> Parts:
        """Check the whole config against the classes it names, then make the parts.

        Raises:
            ConfigError: an option that a class does not take, or a value it refuses.
            DataError: pretrained weights that are not there.
        """
        if cfg.seed < 0:
            raise ConfigError(f"seed must not be negative, but is {cfg.seed}.")
        answers.check(cfg)  # before options are: a loss for the other API may bring a recipe along
        build.check(cfg)
        groups = {"training": "trainer", "tracking": "tracker"}
        parts = cls(**{f.name: build.make(cfg[groups.get(f.name, f.name)]) for f in fields(cls)})
        for learner in (parts.victim, parts.thief):
            if learner.pretrained:
                learner.backbone.require_weights()
        return parts


def behind_api(victim: Victim, pool: Images, parts: Parts, ctx: Context, job: Job) -> Oracle:
    """Put the victim behind defense, budget and ledger; from here on nobody else touches it."""
    spending = Spending(ctx.tracker, parts.budget.usd)

    def tell(used: int, allowed: int) -> None:
        ctx.progress.update("queries", used, allowed)
        spending(used, allowed)

    return Oracle(
        answer_pool=lambda ids: victim.answer(victim.raw(pool, ids, ctx)),
        answer_images=lambda images: victim.answer(victim.raw_images(images, ctx)),
        width=victim.width,
        pool=pool,
        defense=parts.defense,
        budget=parts.budget,
        ledger=Ledger(job.folder / "ledger.bin", f"{job.key} against {victim.key}"),
        seed=ctx.seed,
        on_answer=tell,
    )


@contextmanager
def named(attack: str) -> Iterator[None]:
    """Say which attack it was that went wrong, or whose thief cannot be judged.

    Raises:
        AttackError, BudgetExceeded: with the attack's name.
    """
    try:
        yield
    except (AttackError, BudgetExceeded) as error:
        kind = BudgetExceeded if isinstance(error, BudgetExceeded) else AttackError
        raise kind(f"{attack}: {error}") from error


@contextmanager
def blamed(oracle: Oracle) -> Iterator[None]:
    """Take whatever goes wrong for the attack's failure; what it has paid for stays in the ledger.

    Raises:
        AttackError: for any error but the project's own, which pass as they are.
    """
    try:
        yield
    except FmstealError:
        raise
    except Exception as error:  # of whatever kind, by whoever wrote the attack
        raise AttackError(
            f"it failed after {oracle.used} queries ({type(error).__name__}: {error}). The answers are kept: the same "
            f"command goes on from them. The stack trace is in {FAILURE}."
        ) from error


def keep(job: Job, thief: nn.Module, measured: Measured, tracker: Tracker) -> None:
    """Write what the job has made: the thief, and what was predicted."""
    predictions, weights = job.folder / "predictions.npz", job.folder / "thief.safetensors"
    with explained(job.folder):
        fresh = job.folder / ".predictions.npz"
        np.savez(fresh, **measured.predictions)  # type: ignore[arg-type]
        sync(fresh)
        fresh.replace(predictions)
        fresh = job.folder / ".thief.safetensors"  # another sweep's folder may hold the same file by another name
        save_weights(thief, fresh)
        sync(fresh)
        fresh.replace(weights)
    tracker.artifact("predictions", predictions)
    tracker.artifact("thief", weights)


def publish(
    cfg: DictConfig, job: Job, measured: Measured, cost: dict[str, float], more: dict[str, Any]
) -> dict[str, Any]:
    """Write ``result.json``: last, so that it vouches for the other files."""
    result = {
        "schema": SCHEMA,
        "job_key": job.key,
        "sweep_id": cfg.sweep_id,
        "axis": job.axis,
        "settings": cell_settings(cfg),
        "metrics": measured.metrics,
        "intervals": measured.intervals,
        "cost": cost,
        "budget": cfg.budget.queries,
        "command": job.command,
        "paths": paths(cfg),
        "notes": OmegaConf.to_container(cfg.notes, resolve=True),
        **more,
    }
    with explained(job.folder):
        write_json(job.folder / RESULT, result)
        shutil.rmtree(job.folder / "work", ignore_errors=True)
    return result
