"""DFME (Truong et al., CVPR 2021): uses no images; a generator makes images on which thief and API disagree.

Two networks play against each other, so the training loop is here. The budget ends it: an iteration is one step of the
generator, with ``(directions + 1) * batch`` queries, and five of the student, with ``batch`` queries each. A killed run
starts over; the ledger answers what was paid for, so the run gets back to where it was without paying again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.curves import POINTS

#: Answers are clamped to this before the logarithm: an API that rounds, or answers top-k, returns 0.
FLOOR = 1e-10


@dataclass(frozen=True, kw_only=True)
class DFME:
    """The student is the thief's classifier, trained with these options instead of the thief's recipe.

    A convex recipe is no exception, since the images change with every step. The pool is not used. Images reach the
    API as floating-point numbers: those of a finite difference are closer together than 8 bits can resolve.

    Attributes:
        size: side of the square images in pixels, a multiple of 4.
        batch: images in a step, at least 2.
        noise: width of the generator's input.
        width: channels of the generator's last layers.
        student_steps: steps of the student per step of the generator.
        directions: number of finite differences (m).
        epsilon: length of the finite differences.
        centre: added to the scaled tanh of the generator, per channel, in [0, 1].
        spread: multiplies that tanh, per channel. By default images fill the API's range. The published code passes
            the tanh to a network as standardised pixels: its images are within one standard deviation of CIFAR-10's
            mean (``attack=dfme_standardised``).
        student_lr: SGD learning rate, with ``momentum`` and ``weight_decay``.
        generator_lr: Adam learning rate.
        milestones: shares of the budget after which both learning rates are multiplied by ``gamma``.

    The published code counts milestones in epochs of 50 iterations, and keeps the student that is best on the test
    set; here the last student is the thief.
    """

    version: ClassVar[int] = 2  # the generator's gradient is divided by the number of classes, as published
    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = {"/thief.recipe": {}}
    needs_floats: ClassVar[bool] = True

    size: int = 32
    batch: int = 256
    noise: int = 256
    width: int = 64
    student_steps: int = 5
    directions: int = 1
    epsilon: float = 1e-3
    centre: Sequence[float] = field(default=(0.5, 0.5, 0.5))
    spread: Sequence[float] = field(default=(0.5, 0.5, 0.5))
    student_lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    generator_lr: float = 1e-4
    milestones: Sequence[float] = field(default=(0.1, 0.3, 0.5))
    gamma: float = 0.3

    def __post_init__(self) -> None:
        if self.size < 4 or self.size % 4:
            raise ConfigError(f"attack.size must be a multiple of 4, not {self.size}.")
        if self.batch < 2 or min(self.student_steps, self.directions, self.noise, self.width) < 1:
            raise ConfigError(
                "attack.batch must be at least 2; student_steps, directions, noise and width at least 1: "
                f"{self.batch}, {self.student_steps}, {self.directions}, {self.noise}, {self.width}."
            )
        if self.epsilon <= 0:
            raise ConfigError(f"attack.epsilon must be above 0, not {self.epsilon}.")
        ranges = list(zip(self.centre, self.spread, strict=False))
        if not len(self.centre) == len(self.spread) == 3 or any(s <= 0 or not s <= c <= 1 - s for c, s in ranges):
            raise ConfigError(
                "attack.centre and attack.spread are three numbers each, a spread above 0, and centre - spread to "
                f"centre + spread within [0, 1]: {list(self.centre)}, {list(self.spread)}."
            )

    @property
    def costs(self) -> Iterator[tuple[str, int]]:
        """The steps, endlessly, each with the queries it takes."""
        while True:
            yield from chain(
                [("generator", (self.directions + 1) * self.batch)],
                repeat(("student", self.batch), self.student_steps),
            )

    def steps(self, budget: Budget) -> Iterator[tuple[str, int]]:
        """The steps that fit into the budget, each with the total number of queries asked after it."""
        asked = 0
        for step, cost in self.costs:
            if (asked := asked + cost) > budget.queries:
                return
            yield step, asked

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget that is too small for the student's first step."""
        least = (self.directions + 2) * self.batch
        if budget.queries < least:
            raise ConfigError(
                f"The budget is {budget.queries} queries, but the first steps of DFME take {least}. Choose a larger "
                "budget (budget=..., or budget.queries=N), or smaller steps (attack.batch=N)."
            )

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Play until the next step does not fit into the budget; returns the student at that point."""
        budget = oracle.budget
        with seed_block("dfme", "dropout", ctx.seed):
            game = Game(self, oracle, ctx)
            logged, latest = 0.0, {"loss": math.nan, "disagreement": math.nan}
            for step, asked in self.steps(budget):
                game.slow_down(self.gamma ** sum(asked >= share * budget.queries for share in self.milestones))
                if step == "generator":
                    latest["disagreement"] = game.generator_step()
                    continue
                loss = game.student_step()
                if asked >= logged:
                    ctx.log(latest | {"loss": require_finite(loss, asked)}, asked)
                    logged = asked + budget.queries / POINTS
            require_finite(loss, asked)
        return game.student.cpu().eval()


class Game:
    """Both networks, their optimisers, and the API."""

    def __init__(self, attack: DFME, oracle: Oracle, ctx: AttackContext) -> None:
        self.attack, self.oracle, self.ctx = attack, oracle, ctx
        with seed_block("dfme", "generator", ctx.seed):
            self.generator = Generator(attack.noise, attack.width, attack.size).to(ctx.device)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=attack.generator_lr)
        self.random = torch.Generator().manual_seed(derive_seed("dfme", "noise", ctx.seed))
        self.student = ctx.untrained(oracle.width).model.to(ctx.device)
        learns = [p for p in self.student.parameters() if p.requires_grad]
        self.student_optimizer = torch.optim.SGD(
            learns, lr=attack.student_lr, momentum=attack.momentum, weight_decay=attack.weight_decay
        )

    def slow_down(self, factor: float) -> None:
        """Set the learning rates to ``factor`` times their initial values."""
        for optimizer, lr in (
            (self.generator_optimizer, self.attack.generator_lr),
            (self.student_optimizer, self.attack.student_lr),
        ):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor

    def generator_step(self) -> float:
        """Take one step up the disagreement's gradient, estimated from answers; returns the disagreement."""
        attack = self.attack
        before_tanh = self.generator.train()(self._noise())
        directions = draw_directions(attack.directions, before_tanh.shape, self.random).to(before_tanh.device)

        @torch.no_grad()
        def objective(points: Tensor) -> Tensor:
            images = self.show(points)
            targets = self._ask(images)
            return disagreement(self.student.eval()(images), targets)

        slope, values = forward_differences(objective, before_tanh.detach(), directions, attack.epsilon)
        self.generator_optimizer.zero_grad()
        before_tanh.backward(-slope / (len(slope) * self.oracle.width))  # over the classes a second time, as published
        self.generator_optimizer.step()
        return float(values.mean())

    def student_step(self) -> Tensor:
        """Take one step of the student towards the answers to new images; returns its loss."""
        with torch.no_grad():
            images = self.show(self.generator(self._noise()))
        targets = self._ask(images)
        set_training_mode(self.student)
        loss = disagreement(self.student(images), targets).mean()
        self.student_optimizer.zero_grad()
        loss.backward()
        self.student_optimizer.step()
        return loss.detach()

    def show(self, before_tanh: Tensor) -> Tensor:
        """The images that the API is asked about."""
        return squash(before_tanh, self.attack.centre, self.attack.spread)

    def _noise(self) -> Tensor:
        """A batch of noise, drawn on the CPU so that every device starts with the same images."""
        return torch.randn(self.attack.batch, self.attack.noise, generator=self.random).to(self.ctx.device)

    def _ask(self, images: Tensor) -> Tensor:
        return recover_logits(self.oracle.ask_images(images)).to(images.device)


class Generator(nn.Module):
    """Maps noise ``(n, noise)`` to the input of `squash`, ``(n, 3, size, size)``, by the paper's architecture."""

    def __init__(self, noise: int, width: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(noise, 2 * width * (size // 4) ** 2),
            nn.Unflatten(1, (2 * width, size // 4, size // 4)),
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 3, 3, padding=1),
            nn.BatchNorm2d(3, affine=False),
        )

    def forward(self, noise: Tensor) -> Tensor:
        """The images before the generator's tanh."""
        return self.layers(noise)


def squash(
    before_tanh: Tensor, centre: Sequence[float] = (0.5, 0.5, 0.5), spread: Sequence[float] = (0.5, 0.5, 0.5)
) -> Tensor:
    """``centre + spread * tanh`` of the generator's output ``(n, 3, H, W)``: images in the API's range [0, 1]."""
    middle, half = (before_tanh.new_tensor(list(side)).view(1, 3, 1, 1) for side in (centre, spread))
    return middle + half * before_tanh.tanh()


def recover_logits(answers: Tensor) -> Tensor:
    """The victim's logits up to a constant, from probabilities ``(n, C)``: ``log p`` minus its mean over classes."""
    logs = answers.clamp_min(FLOOR).log()
    return logs - logs.mean(dim=1, keepdim=True)


def disagreement(student: Tensor, victim: Tensor) -> Tensor:
    """The mean over classes of ``|student - victim|``, both logits ``(n, C)``; one value per image."""
    return (student - victim).abs().mean(dim=1)


def draw_directions(count: int, shape: torch.Size, random: torch.Generator) -> Tensor:
    """Random directions ``(count, n, ...)`` for inputs ``(n, ...)``, uniform on each input's unit sphere."""
    drawn = torch.randn(count, *shape, generator=random)
    return F.normalize(drawn.flatten(2), dim=2).view_as(drawn)


def forward_differences(
    objective: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """The gradient of each input, estimated from values alone, with d the dimension of an input::

        mean_j d * (f(x + epsilon u_j) - f(x)) / epsilon * u_j

    Args:
        objective: returns one value for each input of a batch; called once, with ``(m + 1) * n`` inputs.
        x: ``(n, ...)``.
        directions: the unit vectors u, ``(m, n, ...)``.
        epsilon: length of the differences.

    Returns:
        The gradients ``(n, ...)``, and the values ``(n,)`` at x.
    """
    points = torch.cat([x[None], x + epsilon * directions])
    values = objective(points.flatten(0, 1)).view(len(points), len(x))
    slopes = (values[1:] - values[0]) / epsilon
    weights = slopes.view(*slopes.shape, *[1] * (x.ndim - 1)) * x[0].numel()
    return (weights * directions).mean(dim=0), values[0]


def set_training_mode(model: nn.Module) -> None:
    """Put a classifier into training mode, except for parts that are not trained: their BatchNorm must not change."""
    model.train()
    for part in model.children():
        if not any(p.requires_grad for p in part.parameters()):
            part.eval()


def require_finite(loss: Tensor, asked: int) -> float:
    """The loss as a number.

    Raises:
        AttackError: the loss is infinite or NaN.
    """
    if not bool(loss.isfinite()):
        raise AttackError(
            f"The student's loss became {float(loss)} within {asked} queries. Lower attack.student_lr, or look at the "
            "defense's answers (defense=...)."
        )
    return float(loss)
