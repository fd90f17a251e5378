"""JBDA towards random targets (lineage of Juuti et al., EuroS&P 2019), as ModelGuard's code computes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.attacks.jbda import Augmentation, input_gradient, move_in_chunks
from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Pixels


@dataclass(frozen=True, kw_only=True)
class JBDATargeted(Augmentation):
    """Takes several walks from each image, towards random classes.

    Attributes:
        eps: maximum change of a pixel, in units of [0, 1].
        steps: steps of each walk, of length ``1.85 eps / steps``; each goes towards a newly drawn random class.
        each: number of walks from each image; the end of each walk is asked about.
    """

    eps: float = 0.1
    steps: int = 8
    each: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.eps <= 1 or self.steps < 1 or self.each < 1:
            raise ConfigError(
                "attack.eps must be in (0, 1], attack.steps and attack.each at least 1: "
                f"{self.eps}, {self.steps}, {self.each}."
            )

    @property
    def variants(self) -> int:
        """Images made from each image in a round."""
        return self.each

    def make_images(
        self, thief: nn.Module, pixels: Pixels, answers: Tensor, random: np.random.Generator, number: int
    ) -> Pixels:
        """Make ``each`` new images from every image; those from one image are adjacent."""
        starts = np.repeat(pixels, self.each, axis=0)
        targets = torch.from_numpy(random.integers(answers.shape[1], size=(self.steps, len(starts))))
        return move_in_chunks(lambda x, part: self.walk(thief, x, targets[:, part].to(x.device)), thief, starts)

    def walk(self, thief: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Step down the gradient of the cross-entropy to ``targets (steps, n)``, staying within eps of the start.

        As in the code, each step is clipped to the eps-ball and to [0, 1]; unclipped, eight steps could reach 1.85 eps.
        """
        length = 1.85 * self.eps / self.steps
        x = images
        for towards in targets:

            def objective(logits: Tensor, towards: Tensor = towards) -> Tensor:
                return F.cross_entropy(logits, towards, reduction="sum")

            moved = (x - length * input_gradient(thief, x, objective).sign()) - images
            x = (images + moved.clamp(-self.eps, self.eps)).clamp(0, 1)
        return x
