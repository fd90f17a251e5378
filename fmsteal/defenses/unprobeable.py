"""A head for a public trunk that a probe of its own answers does not copy (a defense of our own).

A thief who knows the victim's public trunk fits a linear map from its features to the answers that public images get.
Here the victim is not perturbed but replaced: another head on the same frozen trunk, with one hidden layer, is trained
on the victim's training images by cross-entropy plus ``weight`` times::

    mean_j softplus(lead_j)

lead_j is by how much the right class leads, on training image j, in the scores of the ridge probe of this head's own
answers to the defender's public images (`fmsteal.defenses.ridge_probe`), in units of the scores' spread. So the head
learns to be right where its users are, and to answer elsewhere what leads a probe astray.

The probe is linear in the answers, and a step needs them all. Those of the batch's public images are computed with a
gradient, which is scaled to the whole set; the others are remembered from the last step that showed them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.config.answers import Answers
from fmsteal.data.images import Images
from fmsteal.defenses.base import name_of
from fmsteal.defenses.outliers import Outliers
from fmsteal.defenses.replacing import ReplacingGuard
from fmsteal.defenses.ridge_probe import RidgeProbe, relative_lead
from fmsteal.defenses.together import answer_with, require_trainable
from fmsteal.networks.backbones import Backbone, BackboneSpec
from fmsteal.oracle.guard import Depends, Guard
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.inference import features

if TYPE_CHECKING:
    from fmsteal.victims.base import Victim

Form = Literal["probabilities", "logs"]
FORMS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "probabilities": lambda logits: logits.softmax(1),
    "logs": lambda logits: logits - logits.mean(1, keepdim=True),
}
BATCH = 256  # training images, and public images, of a step
RATE, DECAY = 1e-3, 1e-4  # of AdamW


class Unprobeable:
    """Answers by a head of its own on the victim's frozen trunk; the victim itself does not answer.

    The label may change: the head is trained on labels, not on the victim's answers. In a chain it comes first.
    """

    answers: ClassVar[Answers] = "probabilities"
    depends: ClassVar[Depends] = "row"
    replaces: ClassVar[bool] = True

    def __init__(
        self, outliers: Outliers, weight: float = 0.3, form: Form = "probabilities", penalty: float = 1e-2,
        hidden: int = 128, epochs: int = 4, seed: int = 0,
    ) -> None:  # fmt: skip
        """Set the options.

        Args:
            outliers: the public images that the probe is assumed to be fitted on, the defender's own.
            weight: weight of the probe's lead; with 0 a plain head is trained.
            form: the probed answers: ``probabilities``, or their ``logs``, each row centred.
            penalty: of the probe, in units of the mean variance of a feature.
            hidden: width of the hidden layer.
            epochs: passes over the training images.
            seed: of initialisation and order.
        """
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"defense.weight must be 0 or more, and finite, not {weight}.")
        if not 0 < penalty < float("inf"):
            raise ConfigError(f"defense.penalty must be above 0, and finite, not {penalty}.")
        if form not in FORMS:
            raise ConfigError(f"defense.form must be one of {', '.join(FORMS)}, not {form}.")
        if min(hidden, epochs) < 1:
            raise ConfigError(f"defense.hidden and defense.epochs must be at least 1, not {hidden} and {epochs}.")
        self.outliers, self.weight, self.form, self.penalty = outliers, float(weight), form, float(penalty)
        self.hidden, self.epochs, self.seed = hidden, epochs, seed

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Train the head, or load it from the store.

        Raises:
            ConfigError: the victim is no head on a frozen pretrained trunk.
            DataError: the training images have no labels, or not as many classes as the victim's answers; or there are
                no public images.
        """
        spec = find_trunk(victim, name_of(self))
        labels, outliers = require_trainable(victim, train, name_of(self)), self.outliers.load(train, ctx.store)
        trunk = spec.build(pretrained=True)  # not the victim's own: what passes through that is counted as a query
        identity = {
            "defense": "unprobeable",
            "trunk": spec.identity(pretrained=True),
            "data": train.digest,
            "others": outliers.digest,
            "classes": victim.width,
            "batch": BATCH,
            "rate": RATE,
            "decay": DECAY,
            **{name: getattr(self, name) for name in ("weight", "form", "penalty", "hidden", "epochs", "seed")},
        }

        def build(out: Path, scratch: Path) -> None:
            z, x = (features(spec, trunk, seen, np.arange(len(seen)), ctx) for seen in (train, outliers))
            save_file(self.train(z, labels, x, victim.width, ctx).state_dict(), out / "head.safetensors")

        place = ctx.store.get("defenses", f"unprobeable-{spec.model}", identity, build)
        head = HiddenHead(trunk.num_features, self.hidden, victim.width)
        head.load_state_dict(load_file(place / "head.safetensors"))
        return HeadGuard(HeadOnTrunk(trunk, head), ctx)

    def train(self, z: Tensor, labels: Tensor, x: Tensor, classes: int, ctx: Context) -> HiddenHead:
        """The head, trained on features ``z (n, D)`` of training images and ``x (m, D)`` of public ones, on the CPU."""
        order, others = (self._generator(name) for name in ("order", "public"))
        with seed_block("unprobeable", self.seed), torch.enable_grad():
            head = HiddenHead(z.shape[1], self.hidden, classes)
            head.standardise(z)
            own = OwnProbe(head, x, self.penalty, FORMS[self.form])
            optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs * -(-len(z) // BATCH))
            for epoch in range(1, self.epochs + 1):
                figures = []
                for ids in torch.randperm(len(z), generator=order).split(BATCH):
                    shown = torch.randperm(len(x), generator=others)[:BATCH]
                    fit = F.cross_entropy(head(z[ids]), labels[ids])
                    lead = relative_lead(own.scores(z[ids], shown), labels[ids])
                    probed = F.softplus(lead).mean()
                    optimizer.zero_grad()
                    (fit + self.weight * probed).backward()
                    optimizer.step()
                    schedule.step()
                    figures.append(torch.stack([fit.detach(), probed.detach(), (lead > 0).float().mean()]))
                self._tell(torch.stack(figures).mean(0), epoch, ctx)
        return head.eval().requires_grad_(False)

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed("unprobeable", name, self.seed))

    def _tell(self, figures: Tensor, epoch: int, ctx: Context) -> None:
        names = ("cross_entropy", "probe_loss", "probe_right")
        curve = {f"unprobeable/{name}": value for name, value in zip(names, figures.tolist(), strict=True)}
        ctx.tracker.log(curve, ("unprobeable/epoch", float(epoch)))
        ctx.progress.update("train unprobeable", epoch, self.epochs, f"loss {figures[0]:.4f}")


class HiddenHead(nn.Module):
    """Features ``(n, D)`` in, logits ``(n, K)`` out, by one hidden layer."""

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.width = classes
        self.layers = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(()))

    def standardise(self, features: Tensor) -> None:
        """Take features ``(n, D)`` relative to their mean, in units of the root of their mean variance."""
        self.mean = features.mean(0)
        self.scale = (features - self.mean).square().mean().sqrt().clamp(min=1e-12)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch of features."""
        return self.layers((features - self.mean) / self.scale)


class OwnProbe:
    """The ridge probe of a head's own answers to public images, as the head changes."""

    def __init__(self, head: HiddenHead, x: Tensor, penalty: float, form: Callable[[Tensor], Tensor]) -> None:
        """``x (m, D)`` are the public images' features; ``form`` makes probed answers from logits."""
        self._head, self._x, self._form = head, x, form
        self._probe = RidgeProbe(x, penalty)
        with torch.no_grad():
            self._answers = form(head(x))

    def scores(self, z: Tensor, shown: Tensor) -> Tensor:
        """The probe's scores for the features ``z (n, D)``, ``(n, K)``.

        Answers to the public images ``shown (b,)`` are computed anew. Only they have a gradient, m / b times their own,
        so that its mean over choices of ``shown`` is that of all m answers.
        """
        fresh = self._form(self._head(self._x[shown]))
        more = len(self._x) / len(shown) - 1
        rows = fresh + more * (fresh - fresh.detach())
        scores = self._probe.scores(z, self._answers.index_copy(0, shown, rows))
        self._answers[shown] = fresh.detach()
        return scores


class HeadOnTrunk(nn.Module):
    """Raw images in, logits out: the trunk and the head that serve in the victim's place."""

    def __init__(self, trunk: Backbone, head: HiddenHead) -> None:
        super().__init__()
        self.trunk, self.head, self.width = trunk, head, head.width

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        return self.head(self.trunk(images))


class HeadGuard(ReplacingGuard):
    """Answers with the head's softmax rows."""

    def __init__(self, model: HeadOnTrunk, ctx: Context) -> None:
        self.width = model.width
        self._model, self._ctx = model, ctx

    def serve(self, images: Tensor) -> Tensor:
        """The head's rows."""
        return answer_with(self._model, images, self._ctx)


def find_trunk(victim: Victim, name: str) -> BackboneSpec:
    """What a victim's frozen public trunk is.

    Raises:
        ConfigError: the victim has none.
    """
    model = getattr(victim, "model", None)
    if not isinstance(model, Classifier) or model.frozen is None:
        raise ConfigError(
            f"{name} trains another head on the victim's frozen pretrained trunk, but this victim is no such model: "
            "victim=efficientnet_lite0 or another backbone with weights, and victim.adaptation=probe."
        )
    return model.frozen
