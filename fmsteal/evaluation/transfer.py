"""Does what fools the thief fool the victim? Adversarial examples made on the thief alone, tried on the victim.

FGSM and PGD (`fmsteal.training.perturb`), away from the thief's own answer to the clean image, or from the true label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.seeds import seed_block
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.evaluation.base import Measured, Measurement, Pair, sample
from fmsteal.training.context import Context
from fmsteal.training.inference import run_in_batches
from fmsteal.training.perturb import fgsm, pgd, restore_after


@dataclass(frozen=True)
class Transfer(Measurement):
    """Adversarial examples from thief to victim.

    Attributes:
        images: maximum number of test images.
        eps: how far a pixel in [0, 1] may move.
        step: how far it moves in one step of PGD.
        steps: number of PGD steps.
        labels: the label that an example leads away from: ``own``, the thief's; ``truth``, the image's. With the latter
            the figures are named ``adversarial/...``: "adversarial fidelity" (Raj et al., BMVC 2024).
        which: which test images to use: ``random`` ones or the ``first``.
    """

    answers: ClassVar[Answers] = "probabilities"

    images: int = 500
    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    labels: Literal["own", "truth"] = "own"
    which: Literal["random", "first"] = "random"

    def __post_init__(self) -> None:
        for name, least in (("images", 1), ("eps", 0), ("step", 0), ("steps", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"evaluation.also.transfer.{name} must be at least {least}, not {getattr(self, name)}."
                )

    def run(self, pair: Pair, ctx: Context) -> Measured:
        """``transfer/<attack>/{changed,fooled,agreement}`` for fgsm and pgd, and ``test/adversarial_agreement``.

        Shares of images: the victim's label changes, the thief's label changes, and both give the same label. With
        ``labels=truth`` they are ``adversarial/<attack>/{changed,fooled,fidelity}``, and there are no other figures.
        """
        test = pair.task.test
        ids = sample(test, self.images) if self.which == "random" else np.arange(min(self.images, len(test)))
        images = torch.from_numpy(np.array(test.pixels[ids])).float() / 255
        victim, thief = (rows[ids].argmax(1) for rows in pair.logits)
        away = thief if self.labels == "own" else _labels(test, ids)
        found: list[Metric] = []
        for name in ("fgsm", "pgd"):
            examples = self._examples(name, pair.thief, images, away, ctx)
            with restore_after(pair.thief):
                own = run_in_batches(pair.thief, examples.__getitem__, len(ids), ctx).argmax(1)
            victims = pair.victim.raw_images(examples, ctx).argmax(1)
            found += self._figures(name, _share(victims != victim), _share(own != thief), _share(victims == own))
        if self.labels == "own":
            found.insert(0, Metric("test/adversarial_agreement", found[-1].value, "agreement on PGD examples"))
        return Measured(found)

    def _figures(self, attack: str, changed: float, fooled: float, same: float) -> list[Metric]:
        """The figures of one attack, named after the labels that its examples lead away from."""
        which = attack.upper()
        if self.labels == "own":
            return [
                Metric(f"transfer/{attack}/changed", changed, f"victim fooled by {which} on thief"),
                Metric(f"transfer/{attack}/fooled", fooled, f"thief fooled by {which} on itself", None),
                Metric(f"transfer/{attack}/agreement", same, f"agreement on {which} examples"),
            ]
        away = f"{which} away from the true labels"
        return [
            Metric(f"adversarial/{attack}/changed", changed, f"victim's label changed by {away}"),
            Metric(f"adversarial/{attack}/fooled", fooled, f"thief's label changed by {away}", None),
            Metric(f"adversarial/{attack}/fidelity", same, f"adversarial fidelity, {which}"),
        ]

    def _examples(self, name: str, model: nn.Module, images: Tensor, labels: Tensor, ctx: Context) -> Tensor:
        device, size = ctx.training.device, ctx.training.inference_batch or 64
        parts = []
        with restore_after(model), seed_block("transfer", ctx.seed):
            model.to(device).eval()
            for x, y in zip(images.split(size), labels.split(size), strict=True):
                if name == "fgsm":
                    made = fgsm(model, x.to(device), y.to(device), self.eps)
                else:
                    start = (torch.rand(x.shape) * 2 - 1).to(device)
                    made = pgd(model, x.to(device), y.to(device), self.eps, self.step, self.steps, start)
                parts.append(made.cpu())
                ctx.progress.update(name, sum(map(len, parts)), len(images))
        return torch.cat(parts)


def _labels(test: Images, ids: Ids) -> Tensor:
    if test.labels is None:
        raise ConfigError("evaluation.also.transfer.labels=truth needs a test split with labels.")
    return torch.from_numpy(test.labels[ids])


def _share(which: Tensor) -> float:
    return which.double().mean().item()
