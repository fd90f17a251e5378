"""Partial Bayes: undoes a known defense by a table of clean and defended rows (Tang et al., USENIX Security 2024).

It is the adaptive attacker of ModelGuard's paper. Differences from its code:

- there the made-up rows lie around the victim's clean answers to the attacker's own questions, which no attacker has:
  an upper bound. Here they lie around what shadows predict, around the defended answers, or anywhere (`Recovery`). The
  clean answers are not carried: an attack is given none;
- there the defense is the API's own object with its secrets, as MAD's surrogate; here the attacker draws its own;
- there the table has 1,000,000 rows (``rows``), and it is compared row by row in Python;
- there the rows compared are those whose clean row has the answer's top class, if the defense keeps the label, else
  all; here those whose defended row has it. For a defense that keeps the label both are the same;
- every Dirichlet parameter is `FLOOR` larger, as defended answers have zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.posterior import find_posterior_means
from fmsteal.attacks.recovery import Recovery
from fmsteal.attacks.simulation import Simulation
from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Ids, Images


@dataclass(frozen=True, kw_only=True)
class PartialBayes(Recovery):
    """Replaces an answer by the mean of the clean rows whose defended row is near it.

    Attributes:
        tolerance: L1 distance that counts as near; where no row is, the nearest ones count.
    """

    tolerance: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tolerance < float("inf"):
            raise ConfigError(f"attack.tolerance must be 0 or more, and finite, not {self.tolerance}.")

    def recover(self, answers: Tensor, ids: Ids, pool: Images, copy: Simulation, ctx: AttackContext) -> Tensor:
        """The posterior means, float32 ``(n, K)``."""
        clean, defended = self.make_pairs(answers, ids, pool, copy, ctx)
        return find_posterior_means(answers, clean, defended, self.tolerance)
