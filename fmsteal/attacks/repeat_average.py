"""An adaptive attacker: asks about the same image several times, to average out a random defense."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fmsteal.attacks.base import AttackContext, mean_answer
from fmsteal.attacks.direct import Direct
from fmsteal.attacks.linear_map import LinearMap
from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.oracle.oracle import Oracle


@dataclass(frozen=True, kw_only=True)
class RepeatAverage(Direct):
    """As `Direct`, on the mean of several answers about each image.

    With independent noise of standard deviation sigma on each answer, the mean of r answers has sigma / sqrt(r). A
    defense that always gives the same answer to the same question is not weakened, and the questions are wasted.

    Attributes:
        repeats: questions about each image; the budget is for that many times fewer images.
    """

    repeats: int = 5

    def __post_init__(self) -> None:
        _require_repeats(self.repeats)

    @property
    def asks(self) -> int:
        """Questions about each image."""
        return self.repeats

    def transfer_set(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> TensorLoader:
        """The images, and the mean of the answers to each."""
        return self.loader(pool, ids, mean_answer(oracle, ids, self.repeats), ctx)


@dataclass(frozen=True, kw_only=True)
class RepeatAverageMap(LinearMap):
    """As `LinearMap`, on the mean of several answers about each image: see `RepeatAverage`.

    Attributes:
        repeats: questions about each image; the budget is for that many times fewer images.
    """

    repeats: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_repeats(self.repeats)

    @property
    def asks(self) -> int:
        """Questions about each image."""
        return self.repeats

    def ask(self, oracle: Oracle, pool: Images, ids: Ids, ctx: AttackContext) -> Tensor:
        """The mean of the answers to each image, ``(n, D)``."""
        return mean_answer(oracle, ids, self.repeats)


def _require_repeats(repeats: int) -> None:
    if repeats < 1:
        raise ConfigError(f"attack.repeats must be at least 1, not {repeats}.")
