"""One job on one page: victim -> guarded API -> attack -> theft -> measurements -> ``result.json``."""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fmsteal.attacks.own_data import find_labelled_images
from fmsteal.base.environment import describe_environment
from fmsteal.base.errors import DataError
from fmsteal.base.lease import LEASE_SECONDS
from fmsteal.base.progress import Progress
from fmsteal.base.store import Store, explain_errors, write_text
from fmsteal.base.users import register
from fmsteal.config import build
from fmsteal.config.schema import Overlap
from fmsteal.data.images import Images, Task
from fmsteal.data.overlap import count_overlap
from fmsteal.defenses.replacing import is_replacing
from fmsteal.evaluation.base import Pair, check_task, find_inputs
from fmsteal.evaluation.sound import require_telling
from fmsteal.identity.keys import identity
from fmsteal.job import stolen
from fmsteal.job.batches import require_batches
from fmsteal.job.honest import find_model, open_door
from fmsteal.job.measure import Known, Measurements, list_asked
from fmsteal.job.meter import Meter
from fmsteal.job.parts import Parts
from fmsteal.job.protocols import check_attack, is_ours, make_victim, require_images, require_task
from fmsteal.job.publish import JobInfo, publish, replay
from fmsteal.job.steal import steal, train_again
from fmsteal.job.theft import Theft, hold
from fmsteal.job.victims import remember
from fmsteal.records.folders import THEFTS, find_theft
from fmsteal.tracking.base import RunInfo, keep_last
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from fmsteal.victims.content import know

log = logging.getLogger(__name__)


def run(cfg: DictConfig, job: JobInfo) -> dict[str, Any]:
    """Run one job to its result. If interrupted, it continues where it stopped when called again."""
    parts = Parts.of(cfg)
    with hold_theft(cfg, job) as theft:
        record = theft.sealed()
        meter = Meter((theft.folder if record is None else job.files).cost)
        with Progress(on_update=meter.save, alone=job.bar) as progress:
            store = Store(cfg.cache, tell=progress.update)
            task, pool = load_images(cfg, parts, store)
            with open_context(cfg, job, parts, store, progress, None if record else theft) as opened:
                ctx = replace(opened, account=theft.folder.path.name.rpartition("-")[2])
                victim = functools.cache(lambda: prepare(cfg, job, parts, task, ctx))
                content = describe(task, pool, parts)
                if record is None:
                    for each in list_asked(cfg, parts):  # detect missing images before anything is paid
                        find_inputs(each.what, store)
                        check_task(each.what, task)
                    if is_ours(parts.victim) and not victim().paid:
                        require_telling(victim(), task, ctx)
                    meter.start_attack(victim(), store.spent.get("victims", 0.0))
                    theft.begin({**content, "victim": victim().digest})
                    closed, thief = steal(cfg, theft, victim(), pool, task, parts, meter, ctx)
                    record = theft.seal({**closed, **tell_origin(job)}, stolen.list_files(theft.folder))
                else:
                    theft.require_content({**content, **({} if is_ours(parts.victim) else {"victim": victim().digest})})
                    replay(theft, record, ctx)
                    thief = None

                def pair(known: Known) -> Pair:
                    theft.require_content({"victim": victim().digest})
                    model = thief or stolen.load(theft.folder, record["thief"])
                    if model is None:  # no file can hold it, so it is trained again from its ledger
                        model = train_again(cfg, theft, victim(), pool, task, parts, ctx)
                    api = (parts.defense, victim(), task, ctx)
                    learners = (parts.victim, parts.thief)
                    return Pair(victim(), model, learners, task, ctx, known, open_door(*api), find_model(*api))

                measured = Measurements(theft.folder, record, content, is_replacing(parts.defense)).run(
                    list_asked(cfg, parts), pair, ctx
                )
                return publish(cfg, job, theft, record, measured, ctx)


def prepare_victim(cfg: DictConfig, job: JobInfo) -> dict[str, Any]:
    """Only put the job's victim into the store: the first stage of a sweep. If interrupted, it continues like `run`."""
    parts = Parts.of(cfg)
    meter = Meter(job.files.cost)
    with Progress(on_update=meter.save, alone=job.bar) as progress:
        store = Store(cfg.cache, tell=progress.update)
        task = load_task(cfg, store)
        with open_context(cfg, job, parts, store, progress, None, "victim") as ctx:
            victim = prepare(cfg, job, parts, task, ctx)
            if is_ours(parts.victim) and not victim.paid:
                require_telling(victim, task, ctx)
            cost = {"cost/seconds": meter.read()["cost/seconds"]}
            ctx.tracker.summary(cost)
            keep_last(job.files.curves)
    shutil.rmtree(job.files.work, ignore_errors=True)
    return {"job_key": job.key, "victim": victim.key, "cost": cost}


@contextmanager
def hold_theft(cfg: DictConfig, job: JobInfo) -> Iterator[Theft]:
    """Find the job's theft, or begin it, and hold it; its path is noted in the job's folder.

    Raises:
        LeaseBusy: another process holds the theft, and this job will be queued again.
    """
    root, own = Path(cfg.output).absolute() / THEFTS, find_theft(job.files)
    anew = own is None and (bool(cfg.force) or not cfg.reuse)
    patience = 2 * LEASE_SECONDS if job.requeued else None  # long enough to recognise a dead holder
    with hold(root, job.key, identity(cfg), None if own is None else own.path, anew, patience) as theft:
        with explain_errors(job.folder):
            job.files.path.mkdir(parents=True, exist_ok=True)
            write_text(job.files.theft, os.path.relpath(theft.folder.path, job.folder.absolute()))
        yield theft


def load_images(cfg: DictConfig, parts: Parts, store: Store) -> tuple[Task, Images]:
    """The victim's task and the query set, checked against the attack's needs."""
    task = load_task(cfg, store)
    pool = require_images(build.make(cfg.query, store=store, task=task), cfg.query._target_)
    check_attack(parts.attack, parts.budget, pool)
    find_labelled_images(parts.attack, task)  # refuses an attack whose labelled images are missing
    require_batches(parts, task, pool)
    mind_overlap(store, pool, task, cfg.overlap)
    return task, pool


def load_task(cfg: DictConfig, store: Store) -> Task:
    """The victim's task."""
    return require_task(build.make(cfg.data, store=store), cfg.data._target_)


@contextmanager
def open_context(
    cfg: DictConfig,
    job: JobInfo,
    parts: Parts,
    store: Store,
    progress: Progress,
    theft: Theft | None,
    kind: str = "thief",
) -> Iterator[Context]:
    """Open the job's run in the tracker and yield the context of its stages, which write to an open theft's folder."""
    config, env = OmegaConf.to_container(cfg, resolve=True), describe_environment()
    how = {"name": job.name, "jobs": job.jobs, "requeued": job.requeued}
    folder, curves = (job.folder, job.files.curves) if theft is None else (theft.folder.path, theft.folder.curves)
    if theft is None and kind == "thief":  # the curves of a sealed theft are sent again
        curves.unlink(missing_ok=True)
    known = (job.key, job.folder, job.axis, config, cfg.sweep_id, env["git"], kind)
    paid = Store(Path(cfg.output) / THEFTS / ".paid")
    register(store.root, Path(cfg.output))
    with parts.tracking.open(RunInfo(*known, **how, curves=curves)) as tracker:  # type: ignore[arg-type]
        yield Context(store, folder, parts.training, tracker, progress, cfg.seed, paid)


def prepare(cfg: DictConfig, job: JobInfo, parts: Parts, task: Task, ctx: Context) -> Victim:
    """The job's victim, from the store or newly made; leaves a note in the store, and links the run that made it."""
    made = make_victim(parts.victim, task, ctx)
    victim, mine = know(made, is_ours(parts.victim), task, ctx), ctx.tracker.identity
    maker = remember(cfg, job.victim, victim.key, victim.place, mine, ctx.training.device.type)
    ctx.tracker.link("victim_run", maker)
    if maker is not None and maker == mine and victim.place is not None:
        ctx.tracker.artifact("victim", victim.place)
    return victim


def mind_overlap(store: Store, pool: Images, task: Task, how: Overlap) -> None:
    """Warn about a query set that holds the victim's own images, or refuse it."""
    if how is Overlap.allow:
        return
    shared = {split: count for split, count in count_overlap(store, pool, task).items() if count}
    if not shared:
        return
    counts = " and ".join(f"{count} of the {split} split" for split, count in shared.items())
    finding = f"The query set seems to hold images of the victim's own data: {counts}."
    if how is Overlap.refuse:
        raise DataError(f"{finding} Choose another query set (query=...), or overlap=allow.")
    log.warning("%s If that is meant: overlap=allow.", finding)


def describe(task: Task, pool: Images, parts: Parts) -> dict[str, str]:
    """Digests of the data and weights that the job's key names, to notice when their content has changed."""
    labelled = find_labelled_images(parts.attack, task)
    return {
        "training images": task.train.digest,
        "test images": task.test.digest,
        "query set": pool.digest,
        **({} if labelled is None else {"labelled images": labelled.digest}),
        "thief's weights": str(parts.thief.backbone.identity(pretrained=parts.thief.pretrained)["weights"]),
    }


def tell_origin(job: JobInfo) -> dict[str, Any]:
    """Which code and command made a theft, and where."""
    env = describe_environment()
    code = {"version": env["packages"]["fmsteal"], "git": env["git"], "dirty": env["git_dirty"]}
    return {"code": code, "env": env, "command": job.command, "job": str(job.folder.absolute())}
