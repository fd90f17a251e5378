"""The optimiser and the schedule of a training, by name or as a class of any package (``_target_``)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from timm.optim import create_optimizer_v2, list_optimizers
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from fmsteal.base.errors import ConfigError
from fmsteal.identity import foreign

if TYPE_CHECKING:
    from fmsteal.training.recipe import Recipe

TIMM_NAMES = {"sgd": "momentum", "nesterov": "sgd"}
Optimizers = str | Callable[..., Optimizer]  # `Recipe.optimizer`
OF_RECIPE = ("lr", "weight_decay")  # what an optimiser given as a class takes from its recipe
SCHEDULES = ("cosine", "step", "constant", "late_cosine")


def require_known(recipe: Recipe) -> None:
    """Check that a recipe's optimiser and schedule can be made.

    Raises:
        ConfigError: a name is unknown, the schedule is ``ReduceLROnPlateau``, or it is a class and ``warmup_epochs``,
            which it does not read, is set.
    """
    if isinstance(recipe.optimizer, str):
        known = sorted({*list_optimizers(), *TIMM_NAMES})
        if recipe.optimizer not in known:
            raise ConfigError(
                f"There is no optimizer '{recipe.optimizer}'. There are: {', '.join(known)}. A class of another "
                "package: recipe.optimizer={_target_: package.Class, _partial_: true}."
            )
    if isinstance(recipe.schedule, str):
        if recipe.schedule not in SCHEDULES:
            raise ConfigError(
                f"There is no schedule '{recipe.schedule}'. There are: {', '.join(SCHEDULES)}. A class of another "
                "package: recipe.schedule={_target_: package.Class, _partial_: true}."
            )
        return
    if _class(recipe.schedule) is ReduceLROnPlateau:
        raise ConfigError("recipe.schedule: ReduceLROnPlateau needs images held out, which a recipe has none of.")
    if recipe.warmup_epochs:
        raise ConfigError(
            f"recipe.warmup_epochs={recipe.warmup_epochs} has no effect: recipe.schedule is a class, and says itself "
            "how training begins. Set it to 0."
        )


def make(recipe: Recipe, parameters: Iterable[Parameter], steps: int) -> dict[str, Any]:
    """Optimiser and schedule for `lightning.LightningModule.configure_optimizers`.

    A schedule given by name is stepped every batch. One given as a class is stepped every epoch, as torch's are meant
    to be; or every batch, if it takes ``total_steps`` and none is given: then it gets ``steps``.

    Args:
        recipe: the recipe that gives them.
        parameters: the network's parameters; those that need a gradient are trained.
        steps: number of batches of the whole training.
    """
    optimizer = _optimizer(recipe, [p for p in parameters if p.requires_grad])
    if isinstance(recipe.schedule, str):
        each = max(1, steps // recipe.epochs)
        schedule: LRScheduler = LambdaLR(optimizer, lambda step: recipe.lr_factor(step / each, each))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
    counted = "total_steps" in _takes(recipe.schedule) and "total_steps" not in _given(recipe.schedule)
    schedule = recipe.schedule(optimizer, **({"total_steps": steps} if counted else {}))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step" if counted else "epoch"}}


def describe(value: Any) -> Any:
    """What identifies an optimiser or a schedule in an artifact's spec: its name, or path and options of its class."""
    if isinstance(value, str):
        return value
    made = _class(value)
    return {**foreign.describe(f"{made.__module__}.{made.__qualname__}").head, **_given(value)}


def _optimizer(recipe: Recipe, parameters: list[Parameter]) -> Optimizer:
    if isinstance(recipe.optimizer, str):
        return create_optimizer_v2(
            parameters,
            opt=TIMM_NAMES.get(recipe.optimizer, recipe.optimizer),
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            filter_bias_and_bn=False,
        )
    takes, given = _takes(recipe.optimizer), _given(recipe.optimizer)
    return recipe.optimizer(
        parameters, **{name: getattr(recipe, name) for name in OF_RECIPE if name in takes and name not in given}
    )


def _class(value: Any) -> Any:
    return value.func if isinstance(value, partial) else value


def _given(value: Any) -> dict[str, Any]:
    return dict(value.keywords) if isinstance(value, partial) else {}


def _takes(value: Any) -> Iterable[str]:
    return inspect.signature(_class(value)).parameters
