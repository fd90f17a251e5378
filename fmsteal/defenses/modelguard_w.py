"""ModelGuard-W: the answer that reveals least of p within an L1 ball (Tang et al., USENIX Security 2024).

The published code passes each row to a linear program solver; `fmsteal.defenses.cheapest` solves all at once.
"""

from __future__ import annotations

from torch import Tensor

from fmsteal.defenses.cheapest import find_cheapest, require_room
from fmsteal.defenses.probabilities import ProbabilityDefense
from fmsteal.oracle.guard import Ask


class ModelGuardW(ProbabilityDefense):
    """Returns ``argmin_y sum_j log(p_j + 1e-6) y_j`` with ``|y - p|_1 <= epsilon``, on the simplex.

    The top class keeps a lead of ``margin`` over every other, which survives float32, and rounding to d decimals if it
    is at least 1e-d. Where even that is impossible within epsilon (near ties with a tiny epsilon), p is returned.
    """

    def __init__(self, epsilon: float = 1.0, margin: float = 1e-4) -> None:
        """``epsilon`` is the largest L1 distance of an answer from p."""
        require_room(epsilon, margin)
        self.epsilon = epsilon
        self.margin = margin

    def perturb(self, p: Tensor, ask: Ask) -> Tensor:
        """Return the solutions, ``(n, K)``."""
        return find_cheapest(p, (p + 1e-6).log(), self.epsilon, self.margin)
