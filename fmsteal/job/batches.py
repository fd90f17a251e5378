"""Detects batches of one image before anything is trained or paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fmsteal.base.errors import ConfigError
from fmsteal.training.recipe import Recipe

if TYPE_CHECKING:
    from fmsteal.data.images import Images, Task
    from fmsteal.job.parts import Parts
    from fmsteal.training.learners import Learner


def require_batches(parts: Parts, task: Task | None = None, pool: Images | None = None) -> None:
    """Refuse single-image batches that can be foreseen before anything is trained or paid, for our victims and thieves.

    A bare head on a frozen trunk, a trunk without BatchNorm, and one trained by low-rank updates may train on a single
    image.

    Raises:
        ConfigError: the batch size is 1, or the budget or the training images allow only a single image.
    """
    recipe = getattr(parts.victim, "recipe", None)
    if isinstance(recipe, Recipe) and _trains_batch_norm(parts.victim):
        _refuse_one("victim.recipe", recipe, None if task is None else len(task.train), "data.train_count=1")
    attack = parts.attack
    if hasattr(attack, "unlabelled") or "/thief.recipe" in getattr(attack, "ignores", {}):
        return  # its batches also hold other images, or it has its own recipe
    key = "attack.recipe" if isinstance(getattr(attack, "recipe", None), Recipe) else "thief.recipe"
    recipe = getattr(attack, "recipe", None) or getattr(parts.thief, "recipe", None)
    if isinstance(recipe, Recipe) and _trains_batch_norm(parts.thief):
        asks = getattr(attack, "asks", 1)
        asks = asks if isinstance(asks, int) else 1
        images = parts.budget.queries // asks
        reason = f"budget.queries={parts.budget.queries}" + (f", {asks} about each image" if asks > 1 else "")
        _refuse_one(key, recipe, images if pool is None else min(images, len(pool)), reason)


def _refuse_one(key: str, recipe: Recipe, images: int | None, reason: str) -> None:
    if recipe.batch_size == 1 or images == 1:
        said = f"{key}.batch_size=1" if recipe.batch_size == 1 else reason
        bare = "" if key == "attack.recipe" else f", or train a bare head ({key.partition('.')[0]}.adaptation=probe)"
        raise ConfigError(
            f"{said}: a batch would be a single image, and the network that is trained has a BatchNorm, which needs "
            f"two or more. Choose a larger {said.partition('=')[0]}{bare}."
        )


def _trains_batch_norm(learner: Learner) -> bool:
    return learner.adaptation not in ("probe", "lora") and learner.backbone.has_batch_norm
