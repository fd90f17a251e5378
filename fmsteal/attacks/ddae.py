"""D-DAE: a small network that undoes a known defense (Chen et al., IEEE S&P 2023), in the form of ModelGuard's code.

The network, the restorer, is trained on made-up clean rows and what the defense makes of them: K inputs, two hidden
layers, K outputs, BatchNorm and a leaky ReLU after each, then a softmax; L1 distance; SGD. Differences from that code:

- there the clean rows are the answers of 20 shadow models, trained on labelled public images, to the attacker's
  questions, filled up to 1,000,000 with rows around the victim's clean answers (D-DAE), or the latter alone (D-DAE+).
  No attacker has those. Here they lie around the predictions of two shadows that are fitted to the labels of the
  answers (``prior: shadow``), or around the defended answers (``prior: answers``), see `Recovery`;
- there BatchNorm stays in train mode when answers are restored, so that one depends on the others; here it does not;
- hidden layers for other numbers of classes than 10, 43, 100, 200 and 256 are those of the next larger one;
- the meta-classifier, by which D-DAE finds out which defense there is, is not carried: the attacker knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.recovery import Recovery
from fmsteal.attacks.simulation import Simulation
from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe

HIDDEN = {10: (128, 64), 43: (512, 256), 100: (1024, 512), 200: (2048, 1024)}  # by the number of classes
SLOPE = 0.2  # of the leaky ReLU


@dataclass(frozen=True, kw_only=True)
class DDAE(Recovery):
    """Replaces an answer by what a restorer makes of it.

    Attributes:
        restorer: how the restorer is trained.
        hidden: widths of its two hidden layers; None takes those of ModelGuard's code.
    """

    restorer: Recipe
    hidden: Sequence[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden is not None and (len(self.hidden) != 2 or min(self.hidden) < 1):
            raise ConfigError(f"attack.hidden must be two widths of at least 1, or null, not {list(self.hidden)}.")
        if min(self.restorer.batch_size, self.rows) < 2:
            raise ConfigError("attack.restorer.batch_size must be at least 2: the restorer has a BatchNorm.")
        for name in ("augment", "views", "label_smoothing", "l2"):
            if getattr(self.restorer, name):
                raise ConfigError(f"attack.restorer.{name} has no effect on the restorer: leave it out.")
        if self.restorer.solver != "steps":
            raise ConfigError("attack.restorer.solver must be steps: the restorer is no linear head.")

    def recover(self, answers: Tensor, ids: Ids, pool: Images, copy: Simulation, ctx: AttackContext) -> Tensor:
        """The restored rows, float32 ``(n, K)``."""
        clean, defended = self.make_pairs(answers, ids, pool, copy, ctx)
        loader = TensorLoader(
            defended, clean, self.restorer.batch_size, derive_seed("restorer order", ctx.seed), whole=True
        )
        with seed_block("restorer", ctx.seed):
            net = Restorer(answers.shape[1], self.hidden)
        recipe, seed = self.restorer.for_steps(len(loader)), derive_seed("restorer epochs", ctx.seed)
        restorer = ctx.train(SupervisedModule(net, measure_l1, recipe, seed), loader, stage="restorer")
        with torch.no_grad():
            return restorer(answers)


class Restorer(nn.Module):
    """Defended rows ``(n, K)`` in, clean rows that sum to 1 out."""

    def __init__(self, classes: int, hidden: Sequence[int] | None = None) -> None:
        super().__init__()
        known = next((count for count in HIDDEN if count >= classes), max(HIDDEN))
        widths = [classes, *(HIDDEN[known] if hidden is None else hidden), classes]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)

    def forward(self, rows: Tensor) -> Tensor:
        """The restored rows."""
        return self.layers(rows).softmax(dim=1)


def measure_l1(rows: Tensor, clean: Tensor) -> Tensor:
    """The mean L1 distance of rows ``(n, K)`` from others."""
    return (rows - clean).abs().sum(dim=1).mean()
