"""A MixMatch thief (Berthelot et al., NeurIPS 2019), for extraction as by Jagielski et al. (USENIX Security 2020).

The thief guesses answers to images that were never asked about, from several views of each, and trains on mixtures of
all images and their answers. As published, except for

- the answers: they are the API's, either its probabilities or their labels (``labels``);
- views, optimiser and length of the training: they follow the thief's recipe;
- the weight of the guesses: the paper's 75 (CIFAR-10), reached in 16,000 of a million steps, drowns out the answers in
  trainings of a few hundred steps; here it is 10, and rises until the end;
- BatchNorm: it sees a step's mixtures as one batch, and the views used for guessing as another (the published code
  interleaves labelled and unlabelled images for the same purpose, and does not update the statistics while guessing).

With a frozen trunk (probe) features are mixed instead of images: manifold mixup at the trunk's output. There the views
of an image are those of ``thief.recipe.views``; without any, or without an augmentation, all views are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.attacks.semi_supervised import AveragedModule, SemiSupervised, TransferSet
from fmsteal.base.errors import ConfigError
from fmsteal.training.learners import Untrained
from fmsteal.training.recipe import Recipe, StealModule

#: For smaller values torch's draws in single precision are 1/2 where they should be 0 or 1.
LEAST_ALPHA = 0.01


@dataclass(frozen=True, kw_only=True)
class MixMatch(SemiSupervised):
    """Consistency, entropy minimisation and MixUp.

    Attributes:
        labels: ``soft`` trains on the answers, ``hard`` on their argmax.
        views: number of views from which an unlabelled image's answer is guessed (K).
        temperature: temperature that sharpens a guess (T).
        alpha: parameter of the Beta distribution of a mixture's shares.
        weight: weight of the unlabelled part of the loss (lambda_U).
        ramp: share of the training over which the weight rises linearly from 0; 0: full weight from the start.
    """

    labels: Literal["soft", "hard"] = "soft"
    views: int = 2
    temperature: float = 0.5
    alpha: float = 0.75
    weight: float = 10.0
    ramp: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels not in ("soft", "hard"):
            raise ConfigError(f"attack.labels is soft or hard, not {self.labels}.")
        if self.views < 1 or self.temperature <= 0 or self.alpha < LEAST_ALPHA:
            raise ConfigError(
                f"attack.views must be at least 1, attack.temperature above 0 and attack.alpha at least {LEAST_ALPHA}, "
                f"not {self.views}, {self.temperature} and {self.alpha}."
            )
        if self.weight < 0 or not 0 <= self.ramp <= 1:
            raise ConfigError(
                "attack.weight must not be negative, and attack.ramp be at least 0 and at most 1, not "
                f"{self.weight} and {self.ramp}."
            )

    @property
    def each(self) -> int:
        """Views of an unlabelled image in a step."""
        return self.views

    def module(self, start: Untrained, recipe: Recipe, transfer: TransferSet, ctx: AttackContext) -> StealModule:
        """Trains by `mixmatch_loss`."""
        return MixMatchModule(start.net, self, recipe, start.seed)


class MixMatchModule(AveragedModule):
    """Batches are ``(inputs (b, ...), answers (b, C), others (K m, ...))``, the others' views one after the other."""

    def __init__(self, net: nn.Module, attack: MixMatch, recipe: Recipe, seed: int) -> None:
        super().__init__(net, recipe, seed, attack.ema)
        self.attack = attack

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its two terms."""
        attack = self.attack
        labelled, answers, others = batch
        if attack.labels == "hard":
            answers = F.one_hot(answers.argmax(dim=1), answers.shape[1]).to(answers.dtype)
        labelled, others = self.show(labelled), self.show(others)
        with torch.no_grad():
            guesses = guess_answers(self.student(others), attack.views, attack.temperature)
            targets = torch.cat([answers, guesses.repeat(attack.views, 1)])
            inputs, targets = mix_up(torch.cat([labelled, others]), targets, attack.alpha)
        return mixmatch_loss(self.student(inputs), targets, len(labelled), self.weight)

    @property
    def weight(self) -> float:
        """The weight of the unlabelled part in this step."""
        steps = self.attack.ramp * float(self.trainer.estimated_stepping_batches)
        return self.attack.weight * min(1.0, self.trainer.global_step / steps if steps else 1.0)


def guess_answers(logits: Tensor, views: int, temperature: float) -> Tensor:
    """Answers ``(m, C)`` guessed from the logits ``(views * m, C)`` of each image's views: their mean, sharpened (3.2).

    ``q_k = p_k^(1/T) / sum_j p_j^(1/T)`` (eq. 7) of ``p``, the mean of the views' softmax (eq. 6).
    """
    mean = logits.softmax(dim=1).unflatten(0, (views, -1)).mean(dim=0)
    sharp = mean ** (1 / temperature)
    return sharp / sharp.sum(dim=1, keepdim=True)


def mix_up(inputs: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """MixUp of each row with its partner in a random permutation (eq. 8 to 11); the row's own share is the larger one.

    ``l = max(l', 1 - l')`` with ``l' ~ Beta(alpha, alpha)`` drawn for each row.

    Args:
        inputs: ``(n, ...)``, floating-point.
        targets: ``(n, C)``, mixed with the same shares.
        alpha: ``LEAST_ALPHA`` or more.
    """
    count, device = len(inputs), inputs.device
    both = torch.full((count,), alpha, device=device)
    share = torch.distributions.Beta(both, both).sample()
    share = torch.maximum(share, 1 - share)
    partner = torch.randperm(count, device=device)
    wide = share.view(-1, *[1] * (inputs.ndim - 1))
    return torch.lerp(inputs[partner], inputs, wide), torch.lerp(targets[partner], targets, share[:, None])


def mixmatch_loss(logits: Tensor, targets: Tensor, labelled: int, weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    """``L_X + weight * L_U`` (eq. 3 to 5).

    L_X is the mean cross-entropy of the labelled rows, L_U the mean, over the other rows and over classes, of the
    squared difference between softmax and target.

    Args:
        logits: ``(n, C)``.
        targets: ``(n, C)``, constants.
        labelled: number of labelled rows, which come first; at least 1 and less than n.
        weight: lambda_U.

    Returns:
        The loss, and its unweighted, detached terms ``labelled`` and ``unlabelled``.
    """
    known = soft_cross_entropy(logits[:labelled], targets[:labelled])
    other = F.mse_loss(logits[labelled:].softmax(dim=1), targets[labelled:])
    return known + weight * other, {"labelled": known.detach(), "unlabelled": other.detach()}
