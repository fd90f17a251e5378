"""Networks that a defense trains jointly, on the same batches, to answer in a victim's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.seeds import derive_seed
from fmsteal.data.augment import apply_augment
from fmsteal.data.beside import Beside
from fmsteal.data.images import Images
from fmsteal.training.classifier import Classifier, save_weights
from fmsteal.training.context import Context
from fmsteal.training.inference import run_in_batches
from fmsteal.training.learners import ClassifierLearner
from fmsteal.training.recipe import Recipe, StealModule

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim


class TogetherModule(StealModule):
    """Trains networks, ``net[0]``, ``net[1]``, ..., on batches ``(inputs, targets, others)``, see `Beside`."""

    def __init__(self, net: nn.ModuleList, recipe: Recipe, seed: int) -> None:
        super().__init__(net, recipe, seed)
        self.augment = recipe.augment

    @property
    def networks(self) -> list[nn.Module]:
        """The networks, each from inputs to logits."""
        assert isinstance(self.net, nn.ModuleList)
        return list(self.net)

    def show(self, inputs: Tensor) -> Tensor:
        """A batch of images augmented by the recipe, float in [0, 1]; features are returned as they are."""
        return apply_augment(self.augment, inputs) if inputs.ndim == 4 else inputs


@dataclass(frozen=True)
class Together:
    """What is trained: ``count`` networks of one kind with different seeds.

    Attributes:
        learner: makes the first network; the others differ by seeds derived from its seed.
        count: number of networks.
        stage: names the curves and the artifact.
        settings: what else their weights depend on, for the artifact's spec.
        module: makes what trains the networks, from a `ModuleList`, a recipe and a seed.
        kept: the first ``kept`` networks answer; the others are discarded.
    """

    learner: ClassifierLearner
    count: int
    stage: str
    settings: Mapping[str, Any]
    module: Callable[[nn.ModuleList, Recipe, int], TogetherModule]
    kept: int

    def prepare(self, train: Images, others: Images, targets: Callable[[], Tensor], ctx: Context) -> list[Classifier]:
        """The trained networks, from the store if any job has trained them before.

        Args:
            train: the training images.
            others: images shown alongside them.
            targets: gives the training images' targets ``(n, ...)``; called only if networks are trained.
            ctx: the job's context.
        """
        classes = len(train.classes)
        spec = {
            "defense": self.stage,
            "learner": self.learner.identity(),
            "count": self.count,
            "trainer": ctx.training.identity(),
            "data": train.digest,
            "others": others.digest,
            "classes": classes,
            **self.settings,
        }

        def build(out: Path, scratch: Path) -> None:
            for number, model in enumerate(self._train(train, others, targets(), ctx, scratch)[: self.kept]):
                save_weights(model, out / _file(number))

        place = ctx.store.get("defenses", f"{self.stage}-{self.learner.backbone.model}", spec, build)
        models = [self._learner(number).build(classes, role="victim") for number in range(self.kept)]
        for number, model in enumerate(models):
            model.trained.load_state_dict(load_file(place / _file(number)))
        return [model.eval() for model in models]

    def _train(self, train: Images, others: Images, targets: Tensor, ctx: Context, scratch: Path) -> list[Classifier]:
        classes = len(train.classes)
        starts = [self._learner(number).untrained(classes, ctx, role="victim") for number in range(self.count)]
        first = starts[0]
        beside = partial(Beside, others=first.inputs(others, np.arange(len(others))))
        loader = first.loader(train, np.arange(len(train)), targets, beside)
        networks = nn.ModuleList([start.net for start in starts])
        module = self.module(networks, first.recipe.for_steps(len(loader)), first.seed)
        ctx.training.fit(module, loader, stage=self.stage, scratch=scratch, tracker=ctx.tracker, progress=ctx.progress)
        return [start.model.cpu().eval() for start in starts]

    def _learner(self, number: int) -> ClassifierLearner:
        seed = self.learner.seed
        return self.learner if not number else replace(self.learner, seed=derive_seed("member", seed, number))


def require_steps(net: ClassifierLearner, name: str) -> None:
    """Check that the networks can be trained together by steps.

    Raises:
        ConfigError: they would be fitted in another way; the message says what to choose.
    """
    if net.is_convex:
        raise ConfigError(
            f"{name} trains its networks on a loss that is not convex, for which recipe.solver=convex is not meant: "
            "defense.net.recipe.solver=steps."
        )
    if net.adaptation == "lora":
        raise ConfigError(f"{name} trains no low-rank updates: defense.net.adaptation=full, probe or scratch.")


def require_trainable(victim: Victim, train: Images, name: str) -> Tensor:
    """Check that networks trained on a victim's data can replace it; returns the labels ``(n,)``.

    Raises:
        DataError: the training images have no labels, or not as many classes as the victim's answers.
    """
    if train.labels is None:
        raise DataError(f"{name} trains networks on the victim's training data, but that has no labels: data=... .")
    if len(train.classes) != victim.width:
        raise DataError(
            f"{name} trains networks on {len(train.classes)} classes, but the victim's answers have {victim.width}: in "
            "a chain it comes before what changes the width (defense.of.a=...)."
        )
    return torch.from_numpy(np.array(train.labels))


def answer_with(model: nn.Module, images: Tensor, ctx: Context) -> Tensor:
    """A network's softmax rows, float64 ``(n, K)``; a row does not depend on the number of images."""
    return run_in_batches(model, lambda part: images[part], len(images), ctx).double().softmax(1)


def _file(number: int) -> str:
    return f"network{number}.safetensors"
