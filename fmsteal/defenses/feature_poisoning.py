"""Poisoned embeddings: the defenses of the first paper on stealing encoders (Dziedzic et al., ICML 2022, section 6).

There are two defenses, and the published code picks one by the attacker's loss. Against contrastive losses, where the
attacker asks about views of the same images: a row of a batch that lies near an earlier one, after the victim's
projection head, is replaced by noise around 1,000. Against other losses: every embedding gets noise around 5. An API
does not know the loss, so here each is a choice. The published threshold, .8 of ``(cosine + 1) / 2``, is a cosine of
.6; rows are compared with all earlier ones of their batch, replaced ones included, and embeddings are not normalised.

The published head is the one that the victim was trained with. Few victims keep theirs, so here one is trained before
the first answer, on the victim's embeddings of views of its training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images, choose_ids
from fmsteal.data.random_views import Views
from fmsteal.defenses.base import RowDefense
from fmsteal.defenses.projection_head import draw_view_sets, make_head, train_head
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question

if TYPE_CHECKING:
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim


class FeaturePoisoning:
    """Replaces a row by ``N(mean, sigma^2)`` if its projection has a cosine above ``threshold`` with an earlier one.

    Other rows are returned as they are; replaced ones are counted (``flags/poisoned``).
    """

    answers: ClassVar[Answers] = "embeddings"
    depends: ClassVar[Depends] = "batch"

    def __init__(
        self,
        views: Views,
        threshold: float = 0.6,
        mean: float = 1000.0,
        sigma: float = 0.5,
        batch: int = 256,
        images: int = 1000,
        drawn: int = 4,
        projection: int = 128,
        temperature: float = 0.5,
        epochs: int = 100,
        seed: int = 0,
    ) -> None:
        """Compare within ``batch`` questions.

        The head outputs ``projection`` numbers. It is trained for ``epochs`` epochs by NT-Xent at ``temperature``, on
        ``drawn`` random ``views`` of each of at most ``images`` training images, chosen by ``seed``.
        """
        if not -1 <= threshold < 1:
            raise ConfigError(f"defense.threshold must be a cosine from -1 to below 1, not {threshold}.")
        _require_noise(mean, sigma)
        for name, value, least in (
            ("batch", batch, 2), ("images", images, 2), ("drawn", drawn, 2), ("projection", projection, 1),
            ("epochs", epochs, 1),
        ):  # fmt: skip
            if value < least:
                raise ConfigError(f"defense.{name} must be at least {least}, not {value}.")
        if not 0 < temperature < float("inf"):
            raise ConfigError(f"defense.temperature must be above 0, and finite, not {temperature}.")
        self.views, self.threshold, self.mean, self.sigma, self.batch = views, threshold, mean, sigma, batch
        self.images, self.drawn, self.projection = images, drawn, projection
        self.temperature, self.epochs, self.seed = temperature, epochs, seed

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Train the head, or load it from the store."""
        spec = {
            "defense": "projection head",
            "victim": victim.key,
            "data": train.digest,
            "views": self.views.identity(),
            "settings": [self.images, self.drawn, self.projection, self.temperature, self.epochs, self.seed],
        }
        place = ctx.store.get("defenses", "projection", spec, lambda out, _: self._train(victim, train, ctx, out))
        weights = load_file(place / "weights.safetensors")
        head = make_head(len(weights["0.weight"]), self.projection)
        head.load_state_dict(weights)
        return PoisoningGuard(self, head.eval().requires_grad_(False), victim.width)

    def _train(self, victim: Victim, train: Images, ctx: Context, out: Path) -> None:
        ids = choose_ids(len(train), min(self.images, len(train)), self.seed)
        seen = draw_view_sets(self.views, self.drawn, train, ids, self.seed)
        rows = victim.raw(seen, choose_ids(len(seen), None, 0), ctx)
        rows = rows.reshape(self.drawn, len(ids), -1)
        head = train_head(rows, self.projection, self.temperature, self.epochs, self.seed)
        save_file(head.state_dict(), out / "weights.safetensors")


class PoisoningGuard:
    """Replaces rows of a batch that lie near earlier ones."""

    def __init__(self, defense: FeaturePoisoning, head: nn.Module, width: int) -> None:
        self.width, self.batch = width, defense.batch
        self._defense, self._head = defense, head

    def reply(self, ask: Ask) -> Reply:
        """The rows of a batch, with those near earlier ones replaced by noise."""
        with torch.no_grad():
            near = find_near(self._head(ask.raw), self._defense.threshold)
        answers = ask.answers.clone()
        for row in near.nonzero()[:, 0].tolist():
            noise = torch.randn(self.width, generator=ask.generator(row))
            answers[row] = self._defense.mean + self._defense.sigma * noise
        return Reply(answers, flags={"poisoned": near})

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """There is no state."""


class FeatureOffset(RowDefense):
    """Returns the embedding plus ``N(mean, sigma^2)`` on every entry, drawn anew for each (client, image, ask)."""

    answers: ClassVar[Answers] = "embeddings"

    def __init__(self, mean: float = 5.0, sigma: float = 0.5) -> None:
        _require_noise(mean, sigma)
        self.mean, self.sigma = mean, sigma

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        """Return shifted and noisy rows, ``(n, D)``."""
        noise = [torch.randn(answers.shape[1], generator=ask.generator(row)) for row in range(len(answers))]
        return answers + self.mean + self.sigma * torch.stack(noise) if noise else answers


def find_near(rows: Tensor, threshold: float) -> Tensor:
    """Which rows ``(n, P)`` have a cosine above the threshold with an earlier one, bool ``(n,)``."""
    unit = F.normalize(rows.double(), dim=1)
    return (unit @ unit.T > threshold).tril(-1).any(1)


def _require_noise(mean: float, sigma: float) -> None:
    if not abs(mean) < float("inf") or not 0 <= sigma < float("inf"):
        raise ConfigError(
            f"defense.mean must be finite, and defense.sigma 0 or more and finite, not {mean} and {sigma}."
        )
