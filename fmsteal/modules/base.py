"""What every Lightning module of the project shares: optimiser, schedule, logging, reproducible epochs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import lightning
import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import Tensor, nn

from fmsteal.data.augment import RandomAffine
from fmsteal.data.views import View
from fmsteal.errors import ConfigError, FmstealError

_TIMM_NAMES = {"sgd": "momentum", "nesterov": "sgd"}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: passes over the training images.
        min_steps: more passes where the images are so few that these would be fewer steps than this.
        batch_size: images per step.
        optimizer: any of timm's optimisers by name (adam, adamw, lars, ...); ``sgd`` is SGD with classical momentum as
            papers mean it (timm's ``momentum``), ``nesterov`` the other one (timm's ``sgd``).
        lr: learning rate at the start (after warm-up).
        momentum: for the optimisers that have one.
        weight_decay: on all weights.
        schedule: ``cosine`` to zero, ``step`` (times gamma at each milestone, in epochs) or ``constant``.
        warmup_epochs: linear warm-up before that.
        label_smoothing: for labels, not for soft answers.
        augment: batched augmentation of training images; None for none.
        views: of a frozen trunk (probe): how many augmented views of each image are computed and kept; an epoch takes
            one of them at random. 0 is the image itself.
    """

    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    min_steps: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: Sequence[int] = field(default=())
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    augment: RandomAffine | None = field(default=None, compare=False)
    views: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(
                f"recipe.epochs and recipe.batch_size must be at least 1: {self.epochs}, {self.batch_size}."
            )
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1 or not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                "A recipe needs lr > 0, weight_decay >= 0, 0 <= momentum < 1 and 0 <= label_smoothing < 1; given: "
                f"{self.lr}, {self.weight_decay}, {self.momentum}, {self.label_smoothing}."
            )
        if self.views < 0 or (self.views and (self.augment is None or not any(self.augment.identity().values()))):
            raise ConfigError(
                f"recipe.views={self.views}: a bank of views needs an augmentation, as recipe.augment.flip=0.5, and 0 "
                "or more of them."
            )
        known = sorted({*list_optimizers(), *_TIMM_NAMES})
        if self.optimizer not in known:
            raise ConfigError(f"There is no optimizer '{self.optimizer}'. There are: {', '.join(known)}.")

    def identity(self) -> dict[str, Any]:
        """The settings that decide a training, for an artifact's spec."""
        plain = [f.name for f in fields(self) if f.name != "augment" and (f.name != "views" or self.views)]
        settings = {name: getattr(self, name) for name in plain}
        return {**settings, "augment": None if self.augment is None else self.augment.identity()}

    def bank(self) -> list[View]:
        """The views of each image that a frozen trunk is shown; none if it sees the image itself."""
        return [View(self.augment, number) for number in range(self.views)] if self.augment is not None else []

    def for_steps(self, steps_per_epoch: int) -> Recipe:
        """The recipe with as many epochs as ``min_steps`` asks for."""
        return replace(self, epochs=max(self.epochs, math.ceil(self.min_steps / steps_per_epoch)))

    def lr_factor(self, epoch: float) -> float:
        """The learning rate's factor after ``epoch`` (fractional) epochs."""
        if epoch < self.warmup_epochs:
            return (epoch + 1e-3) / (self.warmup_epochs + 1e-3)
        if self.schedule == "cosine":
            done = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
            return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        if self.schedule == "step":
            return self.gamma ** sum(epoch >= m for m in self.milestones)
        return 1.0


class StealModule(lightning.LightningModule):
    """A method is one network, ``net``, and one function: `loss(batch) -> (loss, logs)`. The rest is here.

    The random state of an epoch depends on ``(seed, epoch)`` and the process's rank alone, so a run resumed at an
    epoch's start goes on as if it had never stopped. Losses are summed on the device and logged once an epoch.
    """

    compiled = False  # run torch.compile on the network

    def __init__(self, net: nn.Module, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.net = net
        self.recipe = recipe
        self.seed = seed
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch (a scalar), and further scalars to log."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Compile the network, in the process that trains it."""
        if self.compiled:
            self.net.compile()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One step: the loss, remembered for the epoch's mean."""
        loss, logs = self.loss(batch)
        for name, value in {"loss": loss, **logs}.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        return loss

    def on_train_epoch_start(self) -> None:
        """Make the epoch's random numbers its own."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch + (self.global_rank << 48))
        self._sums, self._steps = {}, 0

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means; stop if the loss is not a number any more."""
        totals = {name: self.trainer.strategy.reduce(total, reduce_op="mean") for name, total in self._sums.items()}
        means = {name: float(total) / max(self._steps, 1) for name, total in totals.items()}
        if not math.isfinite(means.get("loss", 0.0)):
            raise FmstealError(
                f"The training loss became {means['loss']} in epoch {self.current_epoch + 1}. "
                "Lower the recipe's lr, or clip gradients (+trainer.lightning.gradient_clip_val=1)."
            )
        if self.logger is not None and self.trainer.is_global_zero:
            self.logger.log_metrics(means, step=self.current_epoch + 1)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and its schedule, stepped every batch."""
        recipe = self.recipe
        optimizer = create_optimizer_v2(
            [p for p in self.parameters() if p.requires_grad],
            opt=_TIMM_NAMES.get(recipe.optimizer, recipe.optimizer),
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            filter_bias_and_bn=False,
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches) // recipe.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.lr_factor(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
