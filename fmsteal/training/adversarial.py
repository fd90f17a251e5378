"""Adversarial training (Madry et al., ICLR 2018): each step fits examples that PGD has just made from its batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fmsteal.data.augment import apply_augment
from fmsteal.training.classifier import Loss, SupervisedModule
from fmsteal.training.perturb import pgd
from fmsteal.training.recipe import Recipe


class AdversarialModule(SupervisedModule):
    """Trains on adversarial examples alone, made in train mode from the augmented images and their labels.

    A single ``step`` of 1.25 eps from a random start is the fast form (Wong et al., ICLR 2020), which costs twice as
    much as plain training.
    """

    def __init__(
        self, net: nn.Module, loss: Loss, recipe: Recipe, seed: int, eps: float, step: float, steps: int
    ) -> None:
        super().__init__(net, loss, recipe, seed)
        self.eps, self.step, self.attack_steps = eps, step, steps

    def loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss between the network's logits for the examples and the labels ``(n,)``."""
        images, labels = apply_augment(self.augment, batch[0]), batch[1]
        start = 2 * torch.rand_like(images) - 1
        made = pgd(self.net, images, labels, self.eps, self.step, self.attack_steps, start)
        return self.loss_function(self.net(made), labels), {}
