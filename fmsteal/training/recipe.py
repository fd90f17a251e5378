"""What every Lightning module of the project shares: optimiser, schedule, logging, reproducible epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import lightning
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.data.augment import Augment, changes_nothing, describe
from fmsteal.data.views import View
from fmsteal.identity.rules import Ignores
from fmsteal.training import stepping
from fmsteal.training.lora import LoRA
from fmsteal.training.stepping import Optimizers

#: The options of a recipe that are about its steps.
STEPS = (
    "epochs", "min_steps", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule", "milestones",
    "gamma", "warmup_epochs",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        epochs: passes over the training images.
        min_steps: minimum number of steps; if ``epochs`` gives fewer, there are more passes.
        batch_size: images per step.
        optimizer: any of timm's optimisers by name (adam, adamw, lars, ...); ``sgd`` is SGD with classical momentum as
            papers mean it (timm's ``momentum``), ``nesterov`` is timm's ``sgd``. Or any class, as
            ``{_target_: torch.optim.RMSprop, _partial_: true, alpha: 0.9}``: it takes ``lr`` and ``weight_decay`` from
            here, unless it is given its own, and nothing else.
        lr: learning rate at the start (after warm-up).
        momentum: momentum of timm's optimisers that have one.
        weight_decay: weight decay on all weights.
        schedule: ``cosine`` to zero, ``step`` (times gamma at each milestone, in epochs) or ``constant``; or
            ``late_cosine``, constant for ``hold_epochs``, then a new rate each epoch, which falls to zero in as many
            epochs as an epoch has batches and rises again in as many more: PyTorch's ``CosineAnnealingLR`` with
            ``T_max`` equal to the loader's length, as in the code of Dziedzic et al. (ICML 2022). Or any class,
            as ``{_target_: torch.optim.lr_scheduler.ExponentialLR, _partial_: true, gamma: 0.9}``: stepped every epoch,
            or every batch if it takes ``total_steps``, see `fmsteal.training.stepping`.
        warmup_epochs: linear warm-up before that.
        hold_epochs: constant epochs of ``late_cosine``.
        label_smoothing: smoothing of labels, not of soft answers.
        augment: batched augmentation of training images: a step, or `fmsteal.data.random_views.Views` of several; None
            for none.
        views: for a frozen trunk (probe), the number of augmented views of each image that are computed and kept; an
            epoch takes one of them at random. 0 is the image itself.
        solver: ``steps`` of the optimiser, or ``convex``, for the head of a frozen trunk (probe): its minimum, found
            by `fmsteal.training.convex`, from all rows at once; all views are rows. Then the options of the steps have
            no effect, except in attacks with a training loop of their own, which take steps all the same.
        l2: the penalty of ``convex``, as defined there; None chooses it by a part of the rows.
        lora: the low-rank updates of a trunk (lora); None for their defaults.
    """

    ignores: ClassVar[Ignores] = {
        "milestones": {"schedule": ["cosine", "constant", "late_cosine"]},
        "gamma": {"schedule": ["cosine", "constant", "late_cosine"]},
        "momentum": {"optimizer": ["adam", "adamw"]},
        "hold_epochs": {"schedule": ["cosine", "step", "constant"]},
    }

    epochs: int
    batch_size: int
    optimizer: Optimizers
    lr: float
    min_steps: int = 0
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["cosine", "step", "constant", "late_cosine"] | Callable[..., LRScheduler] = "cosine"
    milestones: Sequence[int] = field(default=())
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    augment: Augment | None = field(default=None, compare=False)
    views: int = 0
    solver: Literal["steps", "convex"] = "steps"
    l2: float | None = None
    lora: LoRA | None = None
    hold_epochs: int = 0

    def __post_init__(self) -> None:
        self._require_steps()
        self._require_views()
        self._require_solver()
        stepping.require_known(self)

    def _require_steps(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(
                f"recipe.epochs and recipe.batch_size must be at least 1: {self.epochs}, {self.batch_size}."
            )
        if self.hold_epochs < 0:
            raise ConfigError(f"recipe.hold_epochs must be at least 0, not {self.hold_epochs}.")
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1 or not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                "A recipe needs lr > 0, weight_decay >= 0, 0 <= momentum < 1 and 0 <= label_smoothing < 1; given: "
                f"{self.lr}, {self.weight_decay}, {self.momentum}, {self.label_smoothing}."
            )

    def _require_views(self) -> None:
        if self.views < 0 or (self.views and changes_nothing(self.augment)):
            raise ConfigError(
                f"recipe.views={self.views}: a bank of views needs an augmentation, as recipe.augment.flip=0.5, and 0 "
                "or more of them."
            )

    def _require_solver(self) -> None:
        if self.solver not in ("steps", "convex"):
            raise ConfigError(f"recipe.solver is steps or convex, not {self.solver}.")
        if self.l2 is not None and (self.solver != "convex" or self.l2 <= 0):
            raise ConfigError(
                f"recipe.l2={self.l2}: the penalty of recipe.solver=convex is above 0, or null to choose it by a part "
                "of the rows; steps have recipe.weight_decay."
            )

    def identity(self) -> dict[str, Any]:
        """The settings that decide a training, for an artifact's spec."""
        if self.solver == "convex":
            seen = {"views": self.views, "augment": describe(self.augment)} if self.views else {}
            return {"solver": "convex", "l2": self.l2, "label_smoothing": self.label_smoothing, **seen}
        left_out = {"augment", "solver", "l2", "lora", *(() if self.views else ("views",))}
        left_out |= {"hold_epochs"} if self.schedule != "late_cosine" else set()
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        steps = {name: stepping.describe(settings[name]) for name in ("optimizer", "schedule")}
        return {**settings, **steps, "augment": describe(self.augment)}

    def bank(self) -> list[View]:
        """The views of each image that a frozen trunk is shown; none if it sees the image itself."""
        return [View(self.augment, number) for number in range(self.views)] if self.augment is not None else []

    def for_steps(self, steps_per_epoch: int) -> Recipe:
        """The recipe with as many epochs as ``min_steps`` requires."""
        return replace(self, epochs=max(self.epochs, math.ceil(self.min_steps / steps_per_epoch)))

    def lr_factor(self, epoch: float, batches: int = 1) -> float:
        """The learning rate's factor after ``epoch`` (fractional) epochs of ``batches`` batches."""
        if epoch < self.warmup_epochs:
            return (epoch + 1e-3) / (self.warmup_epochs + 1e-3)
        if self.schedule == "cosine":
            done = (epoch - self.warmup_epochs) / max(self.epochs - self.warmup_epochs, 1e-9)
            return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        if self.schedule == "late_cosine":
            return 0.5 * (1 + math.cos(math.pi * max(0, math.floor(epoch) - self.hold_epochs) / batches))
        if self.schedule == "step":
            return self.gamma ** sum(epoch >= m for m in self.milestones)
        return 1.0


class StealModule(lightning.LightningModule):
    """A method is one network, ``net``, and one function: `loss(batch) -> (loss, logs)`. The rest is here.

    The random state of an epoch depends on ``(seed, epoch)`` and the process's rank alone, so a run resumed at an
    epoch's start continues as if it had never stopped. Losses are summed on the device and logged once an epoch, with
    the mean learning rate of its steps.
    """

    compiled = False  # run torch.compile on the network

    def __init__(self, net: nn.Module, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.net = net
        self.recipe = recipe
        self.seed = seed
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._rates = 0.0

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
        self._rates += float(self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def on_train_epoch_start(self) -> None:
        """Seed the epoch's own random numbers."""
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch + (self.global_rank << 48))
        self._sums, self._steps, self._rates = {}, 0, 0.0

    def on_train_epoch_end(self) -> None:
        """Log the epoch's means; stop if the loss is no longer finite."""
        totals = {name: self.trainer.strategy.reduce(total, reduce_op="mean") for name, total in self._sums.items()}
        means = {name: float(total) / max(self._steps, 1) for name, total in totals.items()}
        if not math.isfinite(means.get("loss", 0.0)):
            raise FmstealError(
                f"The training loss became {means['loss']} in epoch {self.current_epoch + 1}. "
                "Lower the recipe's lr, or clip gradients (+trainer.lightning.gradient_clip_val=1)."
            )
        if self.logger is not None and self.trainer.is_global_zero:
            rate = self._rates / max(self._steps, 1)
            self.logger.log_metrics({**means, "lr": rate}, step=self.current_epoch + 1)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and its schedule."""
        return stepping.make(self.recipe, self.parameters(), int(self.trainer.estimated_stepping_batches))
