"""How a model is made: a backbone, how it is adapted, and a classifier's recipe. Victims and thieves alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.base.store import write_json
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images, Picked
from fmsteal.data.loader import TensorLoader
from fmsteal.identity.rules import Ignores
from fmsteal.networks.backbones import BackboneSpec, set_memory_format
from fmsteal.records.results import EPOCHS
from fmsteal.training.classifier import Classifier, Loss, SupervisedModule
from fmsteal.training.context import Context
from fmsteal.training.convex import FITS, fit_head
from fmsteal.training.encoder import Encoder, Match
from fmsteal.training.held_out import BestEpoch, HeldOut
from fmsteal.training.inference import features
from fmsteal.training.lora import LoRA, require_adaptable
from fmsteal.training.recipe import Recipe
from fmsteal.training.updates import inject, merge

Role = Literal["victim", "thief"]
Inputs = Tensor | Picked
IS_CONVEX = {"adaptation": "probe", "recipe.solver": "convex"}  # then `ClassifierLearner.fit` takes no steps


class Learner:
    """What victims and thieves have in common before they are made: a trunk, and what it starts from."""

    backbone: BackboneSpec
    adaptation: str

    @property
    def pretrained(self) -> bool:
        """Whether it starts from pretrained weights, which have to be there."""
        return self.adaptation not in ("scratch", "simclr")

    def identity(self) -> dict[str, Any]:
        """All that decides the result, apart from the data."""
        raise NotImplementedError

    def require_makeable(self) -> None:
        """Check, before anything is made, that it can be: its backbone, and the weights that it starts from.

        Raises:
            ConfigError: the backbone cannot be made as it is described.
            DataError: the weights are not there.
        """
        if isinstance(backbone := getattr(self, "backbone", None), BackboneSpec):
            backbone.require_buildable()
            backbone.require_trainable(self.adaptation)
        if self.pretrained:
            self.backbone.require_weights()


@dataclass(frozen=True)
class ClassifierLearner(Learner):
    """Fits a classifier.

    Attributes:
        backbone: the trunk and how it sees images.
        adaptation: ``scratch`` (random initialisation), ``probe`` (frozen pretrained trunk, linear head on features
            computed once), ``full`` (pretrained, all weights trained) or ``lora`` (pretrained, low-rank updates of some
            layers and the head trained: `fmsteal.training.lora`; merged at the end, which leaves a plain model).
        recipe: optimiser, schedule, epochs; or a probe's minimum (``solver: convex``).
        seed: seed of initialisation, order and augmentation. A minimum depends on none of them.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = {
        "backbone.weights": {"adaptation": "scratch"},
        "recipe.views": {"adaptation": ["scratch", "full", "lora"]},
        "recipe.lora": {"adaptation": ["scratch", "probe", "full"]},
    }

    backbone: BackboneSpec
    adaptation: Literal["scratch", "probe", "full", "lora"]
    recipe: Recipe
    seed: int = 0

    def __post_init__(self) -> None:
        if self.is_convex and self.adaptation != "probe":
            raise ConfigError(
                f"recipe.solver=convex fits the head of a frozen trunk (adaptation=probe), but adaptation="
                f"{self.adaptation} trains the trunk: recipe.solver=steps, or the recipe of its own "
                f"(conf/recipe/{self.adaptation}.yaml)."
            )

    @property
    def is_convex(self) -> bool:
        """Whether `fit` finds a minimum; if not, it takes steps."""
        return self.recipe.solver == "convex"

    @property
    def lora(self) -> LoRA | None:
        """The low-rank updates that it trains; None if it trains none."""
        return (self.recipe.lora or LoRA()) if self.adaptation == "lora" else None

    def identity(self) -> dict[str, Any]:
        """All that decides the result, apart from the data."""
        return {
            "backbone": self.backbone.identity(pretrained=self.pretrained),
            "adaptation": self.adaptation,
            "recipe": self.recipe.identity(),
            **({} if self.lora is None else {"lora": self.lora.identity()}),
            **({} if self.is_convex else {"seed": self.seed}),
        }

    def require_makeable(self) -> None:
        """Check the same, and that low-rank updates, if it trains any, can be put into the backbone."""
        super().require_makeable()
        if self.lora is not None:
            require_adaptable(self.backbone, self.lora)

    def build(self, num_classes: int, role: Role = "thief") -> Classifier:
        """The untrained classifier: seeded initialisation, and a pretrained trunk unless it starts from scratch.

        A thief's random numbers are never the victim's, even if both have the same backbone and seed.
        """
        with seed_block(role, "init", self.seed):
            backbone = self.backbone.build(pretrained=self.pretrained)
            return Classifier(backbone, num_classes, self.backbone if self.adaptation == "probe" else None)

    def fit(
        self,
        images: Images,
        ids: Ids,
        targets: Tensor,
        num_classes: int,
        loss: Loss,
        ctx: Context,
        *,
        stage: str,
        scratch: Path,
        role: Role = "thief",
        held_out: HeldOut | None = None,
    ) -> Classifier:
        """Train on ``images[ids]`` with ``targets`` (labels ``(n,)`` or soft answers ``(n, C)``).

        Args:
            images: where the training images are.
            ids: ids of the training images, int64 ``(n,)``.
            targets: one target for each id.
            num_classes: width of the head.
            loss: function of (logits, targets).
            ctx: the job's context.
            stage: name under which curves are logged.
            scratch: where checkpoints go, and are found again after a kill.
            role: whose random numbers to use: see `build`.
            held_out: held-out images from ``images``; if given, the weights of the epoch that fits them best are kept.
                A convex recipe chooses its penalty by them, and finally fits them as well.
        """
        start = self.untrained(num_classes, ctx, role)
        if self.is_convex:
            return _find_minimum(start, images, ids, targets, loss, ctx, stage, scratch, held_out)
        loader = start.loader(images, ids, targets)
        module = self.module(start, loss, self.recipe.for_steps(len(loader)))
        ctx.training.fit(
            module,
            loader,
            stage=stage,
            scratch=scratch,
            tracker=ctx.tracker,
            progress=ctx.progress,
            callbacks=start.choosing(images, held_out),
        )
        if self.lora is not None:
            merge(start.model)
        return start.model.cpu().eval()

    def module(self, start: Untrained, loss: Loss, recipe: Recipe) -> SupervisedModule:
        """The module that trains by the steps of a recipe."""
        return SupervisedModule(start.net, loss, recipe, start.seed)

    def untrained(self, num_classes: int, ctx: Context, role: Role = "thief") -> Untrained:
        """What a training begins with: the classifier, and how images reach the part of it that is trained.

        A classifier with low-rank updates is only for training: `merge` turns it into a plain one.
        """
        model = self.build(num_classes, role)
        if self.lora is not None:
            with seed_block(role, "lora", self.seed):
                inject(model, self.lora, self.backbone.model)
        set_memory_format(model, ctx.training.layout)
        order, seed = derive_seed(role, "order", self.seed), derive_seed(role, "epochs", self.seed)
        if self.adaptation != "probe":
            return Untrained(model, self.recipe, order, seed, Images.picked, Images.picked)
        model.backbone.requires_grad_(False)
        views = self.recipe.bank()

        def seen(images: Images, ids: Ids) -> Tensor:
            return features(self.backbone, model.backbone, images, ids, ctx)

        def bank(images: Images, ids: Ids) -> Tensor:
            return torch.stack([features(self.backbone, model.backbone, images, ids, ctx, view) for view in views])

        return Untrained(model, self.recipe, order, seed, bank if views else seen, seen)


@dataclass(frozen=True)
class Untrained:
    """A fresh classifier, and the inputs of the part of it that is trained.

    Attributes:
        model: raw images in, logits out. If the trunk is frozen (probe), only the head has gradients.
        recipe: how it is to be trained.
        order: seed of the order in which images come.
        seed: seed of augmentation and the like, epoch by epoch.
        inputs: gives the training inputs for the images ``ids`` of a set: their pixels, or, if the trunk is frozen, its
            features ``(n, D)``, or ``(views, n, D)`` if the recipe has views.
        plain: the same for the images as they are, without views: ``(n, ...)``.
    """

    model: Classifier
    recipe: Recipe
    order: int
    seed: int
    inputs: Callable[[Images, Ids], Inputs]
    plain: Callable[[Images, Ids], Inputs]

    @property
    def net(self) -> nn.Module:
        """The part that is trained, from inputs to logits: the head alone if the trunk is frozen."""
        return self.model.trained

    def loader(
        self, images: Images, ids: Ids, targets: Tensor, kind: Callable[..., TensorLoader] = TensorLoader
    ) -> TensorLoader:
        """Shuffled batches of ``images[ids]`` and their targets, from a `TensorLoader` or another ``kind`` of one."""
        frozen = self.model.frozen is not None
        views = frozen and bool(self.recipe.views)
        inputs = self.inputs(images, ids)
        return kind(inputs, targets, self.recipe.batch_size, self.order, whole=not frozen, views=views)

    def choosing(self, images: Images, held_out: HeldOut | None) -> list[Callback]:
        """The callback that keeps the epoch that best fits the held-out images; none if there are no such images."""
        if held_out is None:
            return []
        inputs = self.plain(images, held_out.ids)
        return [BestEpoch(inputs, held_out.answers, held_out.patience, held_out.by, held_out.every)]


def _find_minimum(
    start: Untrained,
    images: Images,
    ids: Ids,
    targets: Tensor,
    loss: Loss,
    ctx: Context,
    stage: str,
    scratch: Path,
    held_out: HeldOut | None,
) -> Classifier:
    """The classifier whose head minimises the loss. Each penalty that is tried is a point of its curves."""

    def tell(metrics: dict[str, float], done: int, total: int) -> None:
        ctx.tracker.log({f"{stage}/{name}": value for name, value in metrics.items()}, (f"{stage}/epoch", float(done)))
        ctx.progress.update(f"train {stage}", done, total, f"loss {metrics['loss']:.4f}")

    def features(seen: Inputs) -> Tensor:
        assert isinstance(seen, Tensor)  # the trunk is frozen
        return seen

    rows = features(start.inputs(images, ids))
    out = None if held_out is None else (features(start.plain(images, held_out.ids)), held_out.answers)
    scratch.mkdir(parents=True, exist_ok=True)
    write_json(scratch / EPOCHS, FITS)
    device = ctx.training.device
    fit = fit_head(
        rows, targets, loss, start.model.width, start.recipe.l2, held_out=out, device=device, scratch=scratch, tell=tell
    )
    start.model.head.load_state_dict({"weight": fit.weight, "bias": fit.bias})
    return start.model.cpu().eval()


@dataclass(frozen=True)
class EncoderLearner(Learner):
    """What a stolen encoder starts from. Its attack decides how it is trained.

    Attributes:
        backbone: the trunk and how it sees images.
        adaptation: ``scratch`` (random initialisation), ``probe`` (frozen pretrained trunk and a linear map) or
            ``full`` (pretrained, all weights trained).
        match: what is done if the features are not as wide as the embeddings: see `Encoder`. A frozen trunk always has
            a linear map to embeddings of a given width.
        seed: seed of the initialisation.
    """

    answers: ClassVar[Answers] = "embeddings"
    ignores: ClassVar[Ignores] = {"backbone.weights": {"adaptation": "scratch"}, "match": {"adaptation": "probe"}}

    backbone: BackboneSpec
    adaptation: Literal["scratch", "probe", "full"]
    match: Match
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """All that decides the start."""
        return {
            "backbone": self.backbone.identity(pretrained=self.pretrained),
            "adaptation": self.adaptation,
            "match": self.match,
            "seed": self.seed,
        }

    def build(self, width: int | None = None) -> Encoder:
        """The untrained encoder for embeddings ``(n, width)``; None takes the features as they are.

        Raises:
            ConfigError: the features cannot be mapped to that width with this `match`.
        """
        with seed_block("thief", "init", self.seed):
            backbone = self.backbone.build(pretrained=self.pretrained)
            if self.adaptation == "probe":
                match: Match = "linear" if width is None else "map"
                return Encoder(backbone, width or backbone.num_features, match, self.backbone)
            return Encoder(backbone, width or backbone.num_features, self.match)
