"""JBDA (Papernot et al., AsiaCCS 2017): starts from a few images and moves them along the thief's own gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.asked_views import ask_views
from fmsteal.attacks.base import GRADIENT_BATCH, ONLY_FITTED, AttackContext, affordable
from fmsteal.attacks.selection import Selection, select
from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images, Pixels, content_digest, join
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Loss


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Asks about seed images, then in rounds about images made from those it has; the budget is used up.

    A round trains a thief from scratch, then makes variants of all images (later rounds: of a random sample; the last
    round: of as many as can still be asked about). The thief that is returned is trained from scratch on all images.
    Images are rounded to 8 bits before they are asked about, so the thief trains on exactly the images answered.
    They are kept until the job is done: a run resumed after a kill trains no thief for a round that has its images.

    Attributes:
        selection: chooses the seeds from the pool, without replacement.
        loss: takes the thief's logits and the answers.
        seeds: maximum number of seeds.
        share: maximum share of the budget spent on seeds, so questions are left for the images made from them.
        reservoir: number of images that a round starts from; None for all.
        growth: number of first rounds that start from all images, whatever ``reservoir`` says.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = ONLY_FITTED

    selection: Selection
    loss: Loss
    seeds: int
    share: float = 0.2
    reservoir: int | None = None
    growth: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.growth < 0 or (self.reservoir is not None and self.reservoir < 1):
            raise ConfigError(
                "attack.seeds and attack.reservoir must be at least 1 and attack.growth at least 0: "
                f"{self.seeds}, {self.reservoir}, {self.growth}."
            )
        if not 0 < self.share <= 1:
            raise ConfigError(f"attack.share must be above 0 and at most 1, not {self.share}.")

    @property
    def variants(self) -> int:
        """Images made from each image in a round."""
        return 1

    def make_images(
        self, thief: nn.Module, pixels: Pixels, answers: Tensor, random: np.random.Generator, number: int
    ) -> Pixels:
        """New images from ``pixels (n, 3, H, W)`` and their ``answers (n, C)``; uint8 ``(n * variants, 3, H, W)``.

        ``number`` counts rounds from 0.
        """
        raise NotImplementedError

    def count_seeds(self, budget: Budget) -> int:
        """The number of seeds: at least two, since a thief with BatchNorm cannot be trained on one image."""
        return min(budget.queries, max(2, min(self.seeds, int(budget.queries * self.share))))

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a pool with too few images for the seeds."""
        affordable(Budget(self.count_seeds(budget)), pool)

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask and make images in turn, then fit a thief to all of them."""
        queries = oracle.budget.queries  # not oracle.left: a resumed run has already paid for some
        ids = select(self.selection, pool, self.count_seeds(oracle.budget), ctx)
        pixels = np.empty((queries, *pool.pixels.shape[1:]), np.uint8)  # for all: no round copies earlier images
        pixels[: len(ids)], answers, parts = pool.pixels[ids], oracle.ask(ids), [pool.subset(ids)]

        def fitted(stage: str) -> nn.Module:
            images = join(parts, pixels[: len(answers)])
            return ctx.fit_thief(images, np.arange(len(images)), answers, self.loss, stage)

        def moved(number: int, parents: Ids, random: np.random.Generator) -> Pixels:
            thief = fitted(f"thief-round-{number + 1}").to(ctx.device)
            return self.make_images(thief, pixels[parents], answers[parents], random, number)[: queries - len(answers)]

        while left := queries - len(answers):
            number = len(parts)
            random = np.random.default_rng(derive_seed("augmentation", number, ctx.seed))
            parents = self.parents(len(answers), number - 1, left, random)
            made = ctx.kept(f"round-{number}", partial(moved, number - 1, parents, random))
            new = pixels[len(answers) : len(answers) + len(made)]
            new[:] = made
            answers = torch.cat([answers, ask_views(oracle, new)])
            parts.append(Images(new, content_digest(new)))
        return fitted("thief")

    def parents(self, count: int, number: int, left: int, random: np.random.Generator) -> Ids:
        """Choose which of ``count`` images round ``number`` starts from, with ``left`` questions left to ask.

        The choice is uniform without replacement, like the paper's reservoir sampling from a stream.
        """
        most = count if self.reservoir is None or number < self.growth else self.reservoir
        needed = -(-left // self.variants)
        return random.permutation(count)[: min(most, needed)].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class JBDA(Augmentation):
    """Moves each image one step along the sign of its gradient.

    Attributes:
        step: change of each pixel, in units of [0, 1] (lambda).
        direction: ``logit`` follows the gradient of the logit of the API's label (as in the paper), ``loss`` that of
            the cross-entropy to it (as in the Knockoff lineage's code), which is roughly the opposite direction.
        tau: the step changes sign every ``tau`` rounds: ``step * (-1)^floor(round / tau)``, the periodical step size of
            Papernot et al. (arXiv 1605.07277); None: it never does. CleverHans' code starts with the opposite sign and
            changes it once, after 3 rounds.
    """

    step: float = 0.1
    direction: Literal["logit", "loss"] = "logit"
    tau: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.step <= 1:
            raise ConfigError(f"attack.step must be above 0 and at most 1, not {self.step}.")
        if self.tau is not None and self.tau < 1:
            raise ConfigError(f"attack.tau must be at least 1, or null for a step that never turns, not {self.tau}.")

    def make_images(
        self, thief: nn.Module, pixels: Pixels, answers: Tensor, random: np.random.Generator, number: int
    ) -> Pixels:
        """Make one new image from each."""
        labels, step = answers.argmax(dim=1), self.step_of(number)
        return move_in_chunks(lambda x, part: self.move(thief, x, labels[part].to(x.device), step), thief, pixels)

    def step_of(self, number: int) -> float:
        """The step of round ``number``, from 0."""
        return self.step if self.tau is None else self.step * (-1) ** (number // self.tau)

    def move(self, thief: nn.Module, images: Tensor, labels: Tensor, step: float) -> Tensor:
        """``clip(x + step * sign(gradient))`` of float images ``(n, 3, H, W)`` in [0, 1] with labels ``(n,)``."""

        def objective(logits: Tensor) -> Tensor:
            if self.direction == "loss":
                return F.cross_entropy(logits, labels, reduction="sum")
            return logits.gather(1, labels[:, None]).sum()

        return (images + step * input_gradient(thief, images, objective).sign()).clamp(0, 1)


def input_gradient(model: nn.Module, images: Tensor, objective: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient ``(n, 3, H, W)`` of an objective with respect to each image, in one backward pass.

    Args:
        model: in eval mode, so an image's output does not depend on the other images.
        images: float, in [0, 1].
        objective: maps logits ``(n, C)`` to a scalar, a sum over the images.
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(model(images)), images)
    return gradient


def move_in_chunks(move: Callable[[Tensor, slice], Tensor], model: nn.Module, pixels: Pixels) -> Pixels:
    """Move uint8 images in chunks, on the model's device, by ``move(float images, slice)``; rounds to uint8."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    out = np.empty_like(pixels)
    for start in range(0, len(pixels), GRADIENT_BATCH):
        part = slice(start, min(start + GRADIENT_BATCH, len(pixels)))
        moved = move(torch.from_numpy(pixels[part]).to(device).float() / 255, part)
        out[part] = (moved * 255).round().to(torch.uint8).cpu().numpy()
    return out
