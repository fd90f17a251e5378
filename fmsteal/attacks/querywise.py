"""QueryWise (Raj et al., MICCAI 2024, arXiv 2506.19464): the thief learns from the answers and from an anchor.

The *anchor* is a first thief, trained on the answers alone. The thief that is returned starts afresh. On labelled
images it learns from the answers and the anchor; on images that were never asked about, wherever the anchor is
confident, from the anchor and from the moving average of its own weights. For a frozen trunk with a convex recipe the
anchor is the minimum, and the thief takes the recipe's steps. The losses are those of the authors' code, in which the
logit adjustment also shifts the student's logits in the distillation from the anchor. Differences from that code:

- both trainings follow the thief's recipe (the authors': SGD, momentum .9, weight decay 5e-4, batches of 16, 100
  epochs, augmented images; the anchor's lr .005, a tenth at epochs 20, 40, 60 and 80; the student's .02 with cosine);
- a class that is never answered counts as answered once in the adjustment: with the code's log(1e-12), the
  distillation lifts that class's logits above all others, and the thief predicts little else;
- the average predicts with averaged BatchNorm statistics, not those of the batch;
- there are no strongly augmented views: the code runs the student on them, but no loss uses the result;
- labelled images are not repeated among the unlabelled ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.semi_supervised import AveragedModule, SemiSupervised, TransferSet
from fmsteal.base.errors import ConfigError
from fmsteal.training.classifier import Classifier, Loss
from fmsteal.training.learners import Untrained
from fmsteal.training.recipe import Recipe, StealModule


@dataclass(frozen=True, kw_only=True)
class QueryWise(SemiSupervised):
    """Distillation from an anchor and from the thief's own average.

    Attributes:
        loss: takes logits and answers; used for anchor and student.
        adjustment: exponent of the label frequencies, whose logarithm is added to the student's logits of labelled
            images (tro); 0 for none.
        distil: share of the anchor in the labelled part of the loss, at most 1.
        temperature: of the distillation in the labelled part.
        confidence: an unlabelled image is learnt from if the anchor's top probability for it is at least this.
        anchoring: share of the anchor in the unlabelled part, at most 1; the average has the rest.
        unlabelled_temperature: of the distillation in the unlabelled part.
        weight: weight of the unlabelled part.
    """

    loss: Loss
    ratio: int = 7
    validation: float = 0.1
    adjustment: float = 1.0
    distil: float = 0.4
    temperature: float = 1.5
    confidence: float = 0.95
    anchoring: float = 0.5
    unlabelled_temperature: float = 1.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("distil", "confidence", "anchoring"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"attack.{name} must be at least 0 and at most 1, not {getattr(self, name)}.")
        if min(self.temperature, self.unlabelled_temperature) <= 0 or min(self.adjustment, self.weight) < 0:
            raise ConfigError(
                "attack.temperature and attack.unlabelled_temperature must be above 0, attack.adjustment and "
                f"attack.weight not negative: {self.temperature}, {self.unlabelled_temperature}, {self.adjustment}, "
                f"{self.weight}."
            )

    def module(self, start: Untrained, recipe: Recipe, transfer: TransferSet, ctx: AttackContext) -> StealModule:
        """Fit the anchor; the module then trains by `labelled_loss` and `unlabelled_loss`."""
        anchor = ctx.fit_thief(
            transfer.pool, transfer.ids, transfer.answers, self.loss, "thief-anchor", transfer.held_out
        )
        assert isinstance(anchor, Classifier)
        shift = log_frequencies(transfer.answers, self.adjustment)
        return QueryWiseModule(start.net, anchor.trained, shift, self, recipe, start.seed)


class QueryWiseModule(AveragedModule):
    """Batches are ``(inputs (b, ...), answers (b, C), others (m, ...))``; the student sees both in one pass."""

    def __init__(
        self, net: nn.Module, anchor: nn.Module, shift: Tensor, attack: QueryWise, recipe: Recipe, seed: int
    ) -> None:
        super().__init__(net, recipe, seed, attack.ema)
        self.anchor = anchor.requires_grad_(False)
        self.register_buffer("shift", shift)
        self.attack = attack

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, its two terms, and the share of unlabelled images with a confident anchor."""
        attack = self.attack
        labelled, answers, others = batch
        count = len(labelled)
        inputs = torch.cat([self.show(labelled), self.show(others)])
        with torch.no_grad():
            anchor, average = self.anchor(inputs), self.net(inputs[count:])
        student = self.student(inputs)
        adjusted = student[:count] + self.shift
        known = labelled_loss(adjusted, answers, anchor[:count], attack.loss, attack.distil, attack.temperature)
        sure = anchor[count:].softmax(dim=1).amax(dim=1) >= attack.confidence
        other = unlabelled_loss(
            student[count:], average, anchor[count:], sure, attack.anchoring, attack.unlabelled_temperature
        )
        logs = {"labelled": known.detach(), "unlabelled": other.detach(), "confident": sure.float().mean()}
        return known + attack.weight * other, logs


def log_frequencies(answers: Tensor, exponent: float) -> Tensor:
    """``exponent * log f_k``, with f_k the share of class k among the labels of answers ``(n, C)``; float32 ``(C,)``.

    A class that is never answered counts as if it had been answered once.
    """
    counts = answers.argmax(dim=1).bincount(minlength=answers.shape[1])
    return (exponent * (counts.double().clamp_min(1) / len(answers)).log()).float()


def distillation(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))`` for each row of ``(n, C)``: ``(n,)``."""
    ours, theirs = ((z / temperature).log_softmax(dim=1) for z in (logits, teacher))
    return temperature**2 * F.kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=1)


def labelled_loss(
    logits: Tensor, answers: Tensor, anchor: Tensor, loss: Loss, distil: float, temperature: float
) -> Tensor:
    """``(1 - a) loss(z, y) + a mean_i T^2 KL(anchor_i || z_i)``, with a = ``distil`` and z the adjusted logits.

    Args:
        logits, answers, anchor: ``(n, C)``; the anchor's values are logits too.
        loss: takes logits and answers; a mean over rows.
        distil: a, from 0 to 1.
        temperature: T, above 0.
    """
    return (1 - distil) * loss(logits, answers) + distil * distillation(logits, anchor, temperature).mean()


def unlabelled_loss(
    logits: Tensor, average: Tensor, anchor: Tensor, sure: Tensor, anchoring: float, temperature: float
) -> Tensor:
    """``mean_i m_i T^2 ((1 - b) KL(average_i || z_i) + b KL(anchor_i || z_i))``, the mean over all rows.

    Args:
        logits, average, anchor: ``(n, C)``, all logits.
        sure: m, bool ``(n,)``: the rows that count.
        anchoring: b, from 0 to 1.
        temperature: T, above 0.
    """
    own, anchored = (distillation(logits, teacher, temperature) for teacher in (average, anchor))
    return (sure * ((1 - anchoring) * own + anchoring * anchored)).mean()
