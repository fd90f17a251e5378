"""What attacks on embedding APIs have in common: pool images, their embeddings, an encoder trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext, affordable
from fmsteal.attacks.selection import Selection, select
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.recipe import Recipe, StealModule


@dataclass(frozen=True, kw_only=True)
class EmbeddingAttack:
    """Asks about as many pool images as the budget allows.

    Attributes:
        selection: chooses the images, without replacement.
    """

    answers: ClassVar[Answers] = "embeddings"

    selection: Selection

    @property
    def asks(self) -> int:
        """Questions about each image; the budget is enough for ``budget // asks`` images."""
        return 1

    def images(self, budget: Budget, pool: Images) -> int:
        """The number of images that the budget is enough for.

        Raises:
            ConfigError: the budget is too small for one image, or for more than the pool holds.
        """
        return affordable(budget, pool, self.asks)

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse, before anything is trained, a budget that cannot be used.

        Raises:
            ConfigError: it is too small for one image, or for more than the pool holds.
        """
        self.images(budget, pool)


@dataclass(frozen=True, kw_only=True)
class EncoderAttack(EmbeddingAttack):
    """Asks about as many pool images as the budget allows, then trains an encoder on the answers.

    A method defines how the encoder is trained (`module`) and, unless it simply asks about each image once, its
    training set (`transfer_set`) and how often it asks (`asks`).

    Attributes:
        recipe: the method's own optimiser, schedule and epochs.
    """

    fewest: ClassVar[int] = 1  # fewest images in a batch; 2 if they are contrasted with each other
    augments: ClassVar[bool] = False  # whether the recipe's augmentation is used; most have their own views

    recipe: Recipe

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse, before anything is trained, a budget that cannot be used.

        Raises:
            ConfigError: the budget or the batch size is too small, the budget is for more than the pool holds, or the
                recipe has a setting without effect.
        """
        unused = ["views", "label_smoothing", *([] if self.augments else ["augment"])]
        if ignored := [name for name in unused if getattr(self.recipe, name)]:
            raise ConfigError(
                f"attack.recipe.{ignored[0]} has no effect on this attack: leave it out. Augmentation is attack.views, "
                "where an attack has it."
            )
        self.require_batches(self.images(budget, pool), self.fewest, budget)

    def require_batches(self, count: int, fewest: int, budget: Budget) -> None:
        """Refuse batches of fewer than ``fewest`` images.

        Raises:
            ConfigError: the ``count`` of images, or the recipe's batch size, is smaller than ``fewest``.
        """
        if min(count, self.recipe.batch_size) < fewest:
            raise ConfigError(
                f"This attack tells the images of a batch apart and needs {fewest} or more in it, but a budget of "
                f"{budget.queries} queries is for {count} and attack.recipe.batch_size is {self.recipe.batch_size}. "
                "Choose a larger one: budget=..., budget.queries=N or attack.recipe.batch_size=N."
            )

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Ask, then train; returns the encoder: raw images in, embeddings ``(n, D)`` as wide as the answers out."""
        net = ctx.encoder(oracle.width)  # refuses a thief that does not fit, before any query is paid
        ids = select(self.selection, pool, self.images(oracle.budget, pool), ctx)
        loader = self.transfer_set(oracle, pool, ids, ctx)
        require_varied(loader.targets)
        recipe = self.recipe.for_steps(len(loader))
        return ctx.train(self.module(net, recipe, derive_seed("thief", "epochs", ctx.seed)), loader)

    def transfer_set(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> TensorLoader:
        """Batches of images and their embeddings; by default each image is asked about once."""
        return self.loader(pool, ids, oracle.ask(ids), ctx)

    def module(self, net: nn.Module, recipe: Recipe, seed: int) -> StealModule:
        """The method: a Lightning module that trains ``net`` on the transfer set."""
        raise NotImplementedError

    def loader(self, images: Images, ids: Ids, targets: Tensor, ctx: AttackContext) -> TensorLoader:
        """Shuffled batches of ``images[ids]`` (uint8) and their ``targets (n, D)``."""
        order = derive_seed("thief", "order", ctx.seed)
        return TensorLoader(images.picked(ids), targets, self.recipe.batch_size, order, whole=True)


def require_varied(embeddings: Tensor) -> None:
    """Refuse embeddings from which nothing can be learnt.

    Raises:
        AttackError: all images have the same embedding.
    """
    if len(embeddings) > 1 and bool((embeddings == embeddings[0]).all()):
        raise AttackError(
            f"The API answered the same embedding to all of {len(embeddings)} images: its encoder (victim=...) has "
            "collapsed, or its defense leaves nothing over (defense=...)."
        )


@torch.no_grad()
def draw_several(views: nn.Module, images: Tensor, count: int) -> list[Tensor]:
    """Draw ``count`` random views of each image ``(n, 3, H, W)`` at once; returns ``count`` batches of floats."""
    return list(views(images.repeat(count, 1, 1, 1)).chunk(count)) if count else []
