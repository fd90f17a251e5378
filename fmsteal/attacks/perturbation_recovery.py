"""BESA: finds out how an encoder's API perturbs its answers, and undoes it (Ren et al., 2025, arXiv 2506.04556).

In the paper a meta-classifier infers the defense from the target's feature vectors, and a generative model restores the
clean vectors; any encoder stealing attack follows. We had its abstract alone and no code. Ours, therefore:

- the shadow encoders: random ones on the features of the attacker's public trunk (`draw_shadow`), for images that were
  asked about anyway: no query is added;
- the meta-classifier: see `fmsteal.attacks.defense_detection`;
- the generator: a network that restores entry by entry (`fmsteal.attacks.entry_generator`), as a shadow's entries mean
  nothing for the target's. Besides the answer it is shown what a ridge map from the public trunk, fitted to the other
  half of the answers, expects. A shadow is made of one half of the trunk's features and expected from the other, so
  that its embeddings cannot be told from public features either;
- the generator learns from the shadows whose answers look most like the API's;
- embeddings are restored up to their length;
- where the answers look undefended, they are left as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.defense_detection import TINY, MetaClassifier, describe_answers
from fmsteal.attacks.entry_generator import EntryGenerator, describe_entries, to_unit
from fmsteal.attacks.ridge import fit_ridge
from fmsteal.attacks.shadow_encoders import draw_shadow
from fmsteal.attacks.simulation import Simulation
from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.simulated import KnownDefense, name_of, simulate
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe

log = logging.getLogger(__name__)

FEWEST = 8  # images: a ridge map is fitted to half of them, and its penalty chosen on a fifth of these
SET = 64  # answers that are described together
SETS = 8  # of the API's, at most
DRAWN = 8  # shadow encoders for each that the generator learns from
UNDEFENDED = "none"


@dataclass(frozen=True, kw_only=True)
class PerturbationRecovery:
    """Detects which of the candidate defenses an API has, and restores its answers.

    Attributes:
        candidates: defenses by name, each with its options; `UNDEFENDED` is one in which nothing is undone.
        restorer: how the generator is trained.
        hidden: widths of its hidden layers.
        trunk: the public trunk of the shadow encoders; None is the thief's own.
        shadows: shadow encoders that the meta-classifier learns from, under each candidate.
        pairs: shadow encoders that the generator learns from, under the candidate found.
        rows: maximum number of images for each of these.
        entries: entries drawn of each of these, to train on.
    """

    candidates: Mapping[str, KnownDefense]
    restorer: Recipe
    hidden: Sequence[int] = (32, 32)
    trunk: BackboneSpec | None = None
    shadows: int = 12
    pairs: int = 4
    rows: int = 500
    entries: int = 20_000

    def __post_init__(self) -> None:
        if len(self.candidates) < 2:
            raise ConfigError(
                "attack.recovery.candidates must name two defenses or more: with one nothing is told apart."
            )
        for name, defense in self.candidates.items():
            if getattr(defense, "answers", "embeddings") != "embeddings":
                raise ConfigError(
                    f"attack.recovery.candidates.{name} ({name_of(defense)}) is a defense of probabilities, but this "
                    "attack undoes defenses of embeddings. Choose feature_top_k, feature_rounding, feature_noise, ..."
                )
            simulate(defense, 2, 0)  # refuses one that cannot be simulated before anything is asked
        for name, value, least in (
            ("shadows", self.shadows, 1), ("pairs", self.pairs, 1), ("rows", self.rows, FEWEST),
            ("entries", self.entries, 2), ("hidden", min(self.hidden, default=1), 1),
        ):  # fmt: skip
            if value < least:
                raise ConfigError(f"attack.recovery.{name} must be at least {least}, not {value}.")
        for name in ("augment", "views", "label_smoothing", "l2"):
            if getattr(self.restorer, name):
                raise ConfigError(f"attack.recovery.restorer.{name} has no effect on the generator: leave it out.")
        if self.restorer.solver != "steps":
            raise ConfigError("attack.recovery.restorer.solver must be steps: the generator is no linear head.")

    def require_images(self, count: int) -> None:
        """Refuse too few images.

        Raises:
            ConfigError: there are fewer than `FEWEST`.
        """
        if count < FEWEST:
            raise ConfigError(
                f"This attack tells defenses apart by the answers to {FEWEST} images or more, and the budget is for "
                f"{count}. Choose a larger one: budget=..., or budget.queries=N."
            )

    def prepare(self, pool: Images, width: int, ctx: AttackContext) -> Mapping[str, Simulation]:
        """The attacker's copy of each candidate, for embeddings of that ``width``.

        Raises:
            ConfigError: a candidate changes the width.
        """
        return {
            name: Simulation(defense, width, pool, ctx.seed, "embeddings") for name, defense in self.candidates.items()
        }

    def recover(
        self, answers: Tensor, ids: Ids, pool: Images, copies: Mapping[str, Simulation], ctx: AttackContext
    ) -> Tensor:
        """The embeddings to learn from, float32 ``(n, D)``, for the API's ``answers`` about the pool images ``ids``."""
        features = ctx.public_features(pool, ids, self.trunk)
        chances = self.detect(answers, features, ids, copies, ctx.seed)
        name = max(chances, key=chances.__getitem__)
        log.info("The answers look defended by %s (%.0f %%)", name, 100 * chances[name])
        found = answers if name == UNDEFENDED else self.restore(answers, features, ids, copies[name], ctx)
        turned = F.cosine_similarity(found, answers).mean().item()
        ctx.report(
            [
                Metric(f"detected/{name}", chances[name], f"how sure the answers look defended by {name}", None),
                Metric("turned", turned, "cosine of a recovered embedding with the API's answer", None),
            ]
        )
        return found

    def detect(
        self, answers: Tensor, features: Tensor, ids: Ids, copies: Mapping[str, Simulation], seed: int
    ) -> Mapping[str, float]:
        """The probability of each candidate, given ``answers (n, D)`` about images with public ``features (n, d)``."""
        random = np.random.default_rng(derive_seed("detection", seed))

        def answer_by_shadows() -> Iterator[tuple[str, Tensor]]:
            for number in range(self.shadows):
                rows = random.permutation(len(ids))[:SET]
                drawn = derive_seed("shadow", number, seed)
                shadow = draw_shadow(features[torch.from_numpy(rows)], answers.shape[1], drawn)
                for name, copy in copies.items():
                    yield name, copy.answer(shadow, ids[rows])

        sets = answers.split(min(SET, len(answers)))
        whole = [part for part in sets if len(part) == len(sets[0])]
        return MetaClassifier(answer_by_shadows(), seed).judge(whole[:SETS])

    def restore(self, answers: Tensor, features: Tensor, ids: Ids, copy: Simulation, ctx: AttackContext) -> Tensor:
        """Embeddings of length 1, ``(n, D)``, restored by a generator that is trained on shadows under one defense."""
        described, clean = self.make_pairs(answers, features, ids, copy, ctx.seed)
        loader = TensorLoader(
            described, clean[:, None], self.restorer.batch_size, derive_seed("restorer order", ctx.seed), whole=True
        )
        with seed_block("restorer", ctx.seed):
            net = EntryGenerator(described, self.hidden)
        recipe, seed = self.restorer.for_steps(len(loader)), derive_seed("restorer epochs", ctx.seed)
        trained = ctx.train(SupervisedModule(net, F.mse_loss, recipe, seed), loader, stage="restorer")
        assert isinstance(trained, EntryGenerator)
        return trained.restore(answers, expect_crosswise(features, answers, ctx.seed))

    def make_pairs(
        self, answers: Tensor, features: Tensor, ids: Ids, copy: Simulation, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Described entries of shadows' defended answers, ``(m, SEEN)``, and the clean entries ``(m,)`` they had.

        Of `DRAWN` times as many shadows these are the ones whose defended answers look most like the API's.
        """
        looks = np.stack(
            [
                describe_answers(self._draw_pair(number, answers, features, ids, copy, seed, SET)[1])
                for number in range(DRAWN * self.pairs)
            ]
        )
        spread = looks.std(0).clip(min=TINY)
        apart = np.square((looks - describe_answers(answers[:SET])) / spread).sum(1)
        parts = []
        for number in np.argsort(apart, kind="stable")[: self.pairs].tolist():
            clean, defended, public = self._draw_pair(number, answers, features, ids, copy, seed, self.rows)
            expected = expect_crosswise(public, defended, seed)
            random = np.random.default_rng(derive_seed("entries", number, seed))
            drawn = torch.from_numpy(random.integers(defended.numel(), size=self.entries))
            described = describe_entries(defended, expected).flatten(0, 1)
            parts.append((described[drawn], to_unit(clean).flatten()[drawn]))
        return torch.cat([described for described, _ in parts]), torch.cat([clean for _, clean in parts])

    def _draw_pair(
        self, number: int, answers: Tensor, features: Tensor, ids: Ids, copy: Simulation, seed: int, most: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A shadow's clean and defended embeddings of ``most`` images, and the features it is not made of."""
        random = np.random.default_rng(derive_seed("pair", number, seed))
        own, public = torch.from_numpy(random.permutation(features.shape[1])).tensor_split(2)
        rows = torch.from_numpy(random.permutation(len(ids))[:most])
        clean = draw_shadow(features[rows][:, own], answers.shape[1], derive_seed("pair shadow", number, seed))
        return clean, copy.answer(clean, ids[rows.numpy()]), features[rows][:, public]


def expect_crosswise(features: Tensor, answers: Tensor, seed: int) -> Tensor:
    """What a ridge map expects of each answer that is fitted to the other half of them, float32 ``(n, D)``.

    Args:
        features: public features ``(n, d)``, n at least `FEWEST`.
        answers: ``(n, D)``.
        seed: of the halves, and of the fifth of each that chooses the penalty.
    """
    order = torch.from_numpy(np.random.default_rng(derive_seed("crosswise", seed)).permutation(len(answers)))
    found = torch.empty(answers.shape)
    for own, other in (order.tensor_split(2), order.tensor_split(2)[::-1]):
        held_out = torch.arange(len(other)) < max(1, len(other) // 5)
        ridge = fit_ridge(features[other], answers[other], held_out)
        found[own] = (features[own].double() @ ridge.weight.T + ridge.bias).float()
    return found
