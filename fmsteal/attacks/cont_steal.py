"""Cont-Steal (Sha et al., CVPR 2023), as in its code: the thief's and the victim's embeddings act as two views."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor, nn

from fmsteal.attacks.asked_views import AskedViews, ask_views
from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.encoders import EncoderAttack
from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed
from fmsteal.data.images import Ids, Images, Pixels
from fmsteal.data.loader import TensorLoader
from fmsteal.data.random_views import draw_views
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.contrastive import nt_xent
from fmsteal.training.recipe import Recipe, StealModule


@dataclass(frozen=True, kw_only=True)
class ContSteal(EncoderAttack):
    """The API is asked about an augmented view of each image, and the thief is shown the same view.

    Attributes:
        views: random views of a batch of images.
        ask: ``every_epoch`` draws and asks about new views in each epoch: images x epochs queries. ``once`` draws them
            once, for comparisons at equal numbers of queries.
        temperature: temperature of the loss.
    """

    fewest: ClassVar[int] = 2

    views: nn.Module
    ask: Literal["once", "every_epoch"] = "every_epoch"
    temperature: float = 0.5

    def __post_init__(self) -> None:
        if self.ask == "every_epoch" and self.recipe.min_steps:
            raise ConfigError(
                "attack.ask=every_epoch asks as often as attack.recipe.epochs says: leave attack.recipe.min_steps at 0."
            )

    @property
    def asks(self) -> int:
        """Questions about each image."""
        return self.recipe.epochs if self.ask == "every_epoch" else 1

    def transfer_set(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> TensorLoader:
        """Views of the images, and the API's embeddings of the views.

        Raises:
            ConfigError: several processes train, but questions are due in every epoch.
        """
        if self.ask == "every_epoch" and ctx.processes > 1:
            raise ConfigError(
                "attack.ask=every_epoch asks while it trains, which only one process can: choose one device "
                "(trainer.lightning.devices=1), or attack.ask=once."
            )
        order = derive_seed("thief", "order", ctx.seed)

        def views_of(epoch: int) -> tuple[Pixels, Tensor]:
            shown, questions = self.pair(pool, ids, ctx.seed, epoch)
            return shown, ask_views(oracle, questions)

        return AskedViews(views_of, self.recipe.batch_size, order, anew=self.ask == "every_epoch")

    def pair(self, pool: Images, ids: Ids, seed: int, epoch: int) -> tuple[Pixels, Pixels]:
        """The views that the thief is shown and those that the API is asked about; here they are the same."""
        views = draw_views(self.views, pool, ids, "cont_steal", seed, epoch)
        return views, views

    def module(self, net: nn.Module, recipe: Recipe, seed: int) -> StealModule:
        """Trains by `cont_steal_loss`."""
        return SupervisedModule(net, partial(cont_steal_loss, temperature=self.temperature), recipe, seed)


def cont_steal_loss(thief: Tensor, victim: Tensor, temperature: float = 0.5) -> Tensor:
    """NT-Xent over the thief's and the victim's embeddings of the same images, exactly: ``nt_xent(thief, victim, t)``.

    Both sides are anchors, so the denominators contain pairs of two victim embeddings, and the positive itself. The
    paper writes another loss, see ``cont_steal_two_view``. For a single image the loss is 0.

    Args:
        thief, victim: ``(n, D)``; row i of both is the same (augmented) image. Normalised here.
        temperature: divides the cosines; the code's is 0.5.
    """
    return nt_xent(thief, victim, temperature)
