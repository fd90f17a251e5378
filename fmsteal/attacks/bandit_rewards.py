"""What the adaptive policy of Knockoff Nets takes an answer to be worth: certainty, diversity, loss, or all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

Reward = Literal["certainty", "diversity", "loss"]
Floats = npt.NDArray[np.float64]
LEAST_RANGE = 1e-6  # of rewards that are told apart: answers are float32


class Rewards:
    """What an answer is worth more than those before it.

    One reward is compared with its mean over the last steps. Several are each rescaled to [0, 1], by the least and the
    greatest of the last steps, compared with their mean there, and averaged. This step is one of the last: the first
    has nothing to be compared with but itself, and rewards that are all alike are worth nothing, not NaN.
    """

    def __init__(self, kinds: tuple[Reward, ...], window: int) -> None:
        self.kinds = kinds
        self.past: dict[str, deque[float]] = {kind: deque(maxlen=window) for kind in kinds}
        self.answers: deque[Floats] = deque(maxlen=window)

    def advantage(self, answer: npt.NDArray[np.float32], found: Mapping[str, float]) -> float:
        """Of the next answer ``(C,)``, with its ``certainty`` and, where that is a reward, its ``loss``."""
        self.answers.append(answer.astype(np.float64))
        worth = {**found, "diversity": diversity(self.answers)}
        for kind in self.kinds:
            self.past[kind].append(worth[kind])
        return float(np.mean([self._above_baseline(self.past[kind]) for kind in self.kinds]))

    def _above_baseline(self, past: deque[float]) -> float:
        above = past[-1] - float(np.mean(past))
        if len(self.kinds) == 1:
            return above
        spread = max(past) - min(past)
        return above / spread if spread > LEAST_RANGE else 0.0


def diversity(answers: deque[Floats]) -> float:
    """How much the last answer adds to those before: ``sum_k max(0, y_k - mean_k)``, itself among them."""
    return float(np.maximum(0, answers[-1] - np.mean(answers, axis=0)).sum())
