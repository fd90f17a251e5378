"""White-box accuracy: the share of images that a model gets right when PGD has its gradients, over several restarts.

An image withstands an attack if the model gives its label at every point that PGD visits, from every start. Images that
the clean model gets wrong do not withstand it, and none is attacked further once its label is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fmsteal.base.rows import Rows
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids, Images
from fmsteal.networks.backbones import set_memory_format
from fmsteal.training.context import Context
from fmsteal.training.inference import run_in_batches
from fmsteal.training.perturb import pgd, restore_after
from fmsteal.victims.base import Victim

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PGD:
    """An attack within an L-infinity ball of raw pixels in [0, 1].

    Attributes:
        eps: how far a pixel may move.
        steps: number of steps of each restart.
        restarts: number of random starts.
        step: how far a pixel moves in a step; None takes 2.5 eps / steps (Madry et al., ICLR 2018).
    """

    eps: float
    steps: int
    restarts: int
    step: float | None = None

    @property
    def name(self) -> str:
        """Its steps, and its radius in grey levels: ``pgd10@8`` has eps 8/255."""
        return f"pgd{self.steps}@{255 * self.eps:g}"

    def examples(self, model: nn.Module, images: Tensor, labels: Tensor, ids: Ids, restart: int) -> Tensor:
        """One restart's examples; an image's start depends on its id, not on the images that are attacked with it."""
        step = 2.5 * self.eps / self.steps if self.step is None else self.step
        start = torch.stack([_start(images.shape[1:], number, restart) for number in ids.tolist()]).to(images.device)
        return pgd(model, images, labels, self.eps, step, self.steps, start, stop=True)


def find_withstanding(
    model: nn.Module, images: Images, labels: Tensor, ids: Ids, attack: PGD, ctx: Context, who: str = "model"
) -> Flags:
    """Which of the images ``ids`` with these ``labels`` withstand the attack: ``(n,)``.

    The model is left unchanged.
    """
    device, size = ctx.training.device, ctx.training.inference_batch or 64
    pixels = torch.from_numpy(np.array(images.pixels[ids])).float() / 255
    with restore_after(model):
        standing = run_in_batches(model, lambda part: pixels[part], len(ids), ctx).argmax(1) == labels
        for restart in range(attack.restarts):
            chunks = standing.nonzero()[:, 0].split(size) if standing.any() else ()
            for number, some in enumerate(chunks):
                x, y = pixels[some].to(device), labels[some].to(device)
                set_memory_format(model.to(device).eval(), ctx.training.layout)
                made = attack.examples(model, x, y, ids[some.numpy()], restart)
                answers = run_in_batches(model, made.__getitem__, len(some), ctx)
                standing[some] = answers.argmax(1) == labels[some]
                done = restart * len(ids) + min(len(ids), (number + 1) * size)
                ctx.progress.update(f"{attack.name} on {who}", done, attack.restarts * len(ids))
        ctx.progress.update(f"{attack.name} on {who}", attack.restarts * len(ids), attack.restarts * len(ids))
    return standing.numpy()


def find_victim_withstanding(
    victim: Victim, images: Images, labels: Tensor, ids: Ids, attack: PGD, ctx: Context
) -> Flags:
    """The same for a victim: computed once, and shared with all jobs that measure it on these images.

    Every image that passes through the victim, also for its gradient, is counted with its calls.
    """
    stored, places = images.whole(), images.place(ids)
    given = dict(zip(places.tolist(), labels.tolist(), strict=True))

    def compute(missing: Ids) -> Rows:
        counted = victim.model.register_forward_pre_hook(lambda _, seen: victim.calls.compute(len(seen[0])))
        try:
            wanted = torch.tensor([given[place] for place in missing.tolist()])
            found = find_withstanding(victim.model, stored, wanted, missing, attack, ctx, "victim")
        finally:
            counted.remove()
        return found.astype(np.float32)[:, None]

    victim.calls.show(len(ids))
    spec: Mapping[str, object] = {
        "victim": victim.key, "images": stored.digest, "classes": list(images.classes), "attack": asdict(attack)
    }  # fmt: skip
    return ctx.rows("withstanding", victim.key, spec).get(places, compute)[:, 0] > 0


def find_thief_withstanding(
    thief: nn.Module, images: Images, labels: Tensor, ids: Ids, attack: PGD, ctx: Context
) -> Flags:
    """The same for a thief, which no other job has."""
    return find_withstanding(thief, images.whole(), labels, images.place(ids), attack, ctx, "thief")


def _start(shape: torch.Size, number: int, restart: int) -> Tensor:
    drawn = np.random.default_rng(derive_seed("pgd", number, restart)).uniform(-1, 1, shape)
    return torch.from_numpy(drawn.astype(np.float32))
