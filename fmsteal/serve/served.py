"""What a service answers with: the victim of a finished job, or of a job that is composed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from omegaconf import DictConfig
from torch import Tensor

from fmsteal.base.errors import VictimError
from fmsteal.base.progress import Progress
from fmsteal.base.store import Store, digest
from fmsteal.data.images import Task
from fmsteal.defenses.base import name_of, prepare
from fmsteal.face.composing import compose
from fmsteal.face.jobs import load
from fmsteal.face.models import open_victim
from fmsteal.identity.keys import node_identity
from fmsteal.job.parts import Parts
from fmsteal.job.pipeline import load_task
from fmsteal.job.protocols import is_ours, make_victim
from fmsteal.networks.backbones import Backbone, set_memory_format
from fmsteal.oracle.guard import Depends
from fmsteal.records.folders import SERVICES, THEFTS, JobFolder, ServiceFolder, TheftFolder
from fmsteal.serve.desk import Counsel
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from fmsteal.victims.content import know

FORWARD = 64  # images that go through the model at once


@dataclass(frozen=True)
class ServedModel:
    """What a service answers with.

    Attributes:
        counsel: victim and defense.
        task: what it does.
        width: length of an answer.
        classes: the class names, in the order of the probabilities; None for embeddings, and if a defense answers with
            another number of them.
        input_size: side in pixels of the square images that the model is made for.
        price: US dollars for a thousand answers, by the config's budget; for the client of a service without a file.
        identity: victim, defense, seed and width, as the service's records name them.
        folder: where the records are by default.
    """

    counsel: Counsel
    task: Literal["classify", "embed"]
    width: int
    classes: Sequence[str] | None
    input_size: int
    price: float
    identity: dict[str, str]
    folder: ServiceFolder


def open_served(job: str | None, overrides: Sequence[str]) -> ServedModel:
    """Make a service's victim and defense ready; a victim that is not in the cache is made, unless it is a job's.

    Args:
        job: a finished job's folder.
        overrides: the words that compose a job, if there is no ``job``.

    Raises:
        FmstealError: the job or its victim is missing, or the config cannot be composed or made.
    """
    if job is not None:
        done = load(job)
        theft = TheftFolder(done.theft_folder)
        return _serve(*open_victim(done.config, JobFolder(done.folder), done.result, theft, done.theft))
    cfg = compose(overrides)
    parts = Parts.of(cfg)
    scratch = Path(cfg.output) / SERVICES / ".work"
    scratch.mkdir(parents=True, exist_ok=True)
    store, paid = Store(cfg.cache), Store(Path(cfg.output) / THEFTS / ".paid")
    with Progress() as progress:
        store.tell = progress.update
        ctx = Context(store, scratch, parts.training, CsvTracker(scratch), progress, cfg.seed, paid)
        task = load_task(cfg, store)
        victim = make_victim(parts.victim, task, ctx)
        require_owned(victim)
        return _serve(cfg, parts, task, know(victim, is_ours(parts.victim), task, ctx), ctx)


def require_owned(victim: Victim) -> None:
    """Check that a victim may be served.

    Raises:
        VictimError: it answers for money.
    """
    if victim.paid:
        raise VictimError("This victim is somebody else's API and answers for money: it cannot be served (victim=...).")


def _serve(cfg: DictConfig, parts: Parts, task: Task, victim: Victim, ctx: Context) -> ServedModel:
    guard = prepare(parts.defense, victim, task.train, ctx)
    defense = node_identity(cfg.defense, "defense")
    identity = {
        "victim": victim.digest,
        "defense": digest(defense)[:16],
        "seed": str(cfg.seed),
        "width": str(guard.width),
    }
    classifies = victim.answers == "probabilities"
    classes = list(task.train.classes) if classifies and guard.width == len(task.train.classes) else None
    depends: Depends = getattr(parts.defense, "depends", "row")
    counsel = Counsel(name_of(parts.defense), depends, guard, _forward(victim, ctx), victim.answer, int(cfg.seed))
    return ServedModel(
        counsel, "classify" if classifies else "embed", guard.width, classes, _find_size(victim, task),
        float(parts.budget.usd(1000)), identity,
        ServiceFolder(Path(cfg.output) / SERVICES / f"{victim.key[:60]}-{digest(identity)[:16]}"),
    )  # fmt: skip


def _find_size(victim: Victim, task: Task) -> int:
    """The side of the first backbone's input; without one, that of the task's images."""
    model: object = victim.model
    modules = model.modules() if isinstance(model, torch.nn.Module) else ()
    sizes = [module.size for module in modules if isinstance(module, Backbone)]
    return sizes[0] if sizes else int(task.test.pixels.shape[-1])


def _forward(victim: Victim, ctx: Context) -> Callable[[Tensor], Tensor]:
    """The victim's raw outputs for uint8 images; unlike a job's, batches are not padded to one size."""
    device = ctx.training.device
    model = set_memory_format(victim.model.to(device=device).eval(), ctx.training.layout)

    @torch.no_grad()
    def forward(images: Tensor) -> Tensor:
        parts = [model(part.to(device)).float().cpu() for part in images.split(FORWARD)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return forward
