"""Rewards of the adaptive policy of Knockoff Nets: certainty, diversity, loss, or all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

Reward = Literal["certainty", "diversity", "loss"]
Floats = npt.NDArray[np.float64]
LEAST_RANGE = 1e-6  # rewards closer together than this count as equal: answers are float32


class Rewards:
    """How far the reward of an answer is above the baseline of recent answers.

    A single reward is compared with its mean over the last steps. Several rewards are each rescaled to [0, 1] by their
    minimum and maximum over the last steps, compared with their rescaled mean, and averaged. The current step counts
    among the last ones, so the first step is compared with itself only; rewards that are all equal give 0, not NaN.
    """

    def __init__(self, kinds: tuple[Reward, ...], window: int) -> None:
        self.kinds = kinds
        self.past: dict[str, deque[float]] = {kind: deque(maxlen=window) for kind in kinds}
        self.answers: deque[Floats] = deque(maxlen=window)

    def advantage(self, answer: npt.NDArray[np.float32], found: Mapping[str, float]) -> float:
        """The advantage of the next answer ``(C,)``; ``found`` has its ``certainty`` and, if that counts, ``loss``."""
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
    """How much the last answer differs from the mean of all, itself included: ``sum_k max(0, y_k - mean_k)``."""
    return float(np.maximum(0, answers[-1] - np.mean(answers, axis=0)).sum())
