"""Published defenses as plain loops and programs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linprog
from scipy.stats import shapiro

from fmsteal.oracle.guard import Ask
from fmsteal.oracle.ledger import Question

Rows = npt.NDArray[np.float64]
EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}  # 1e-7 each is coarser than ours


def by_linprog(p: Rows, cost: Rows, epsilon: float, margin: float) -> Rows | None:
    """The answer to one row: classes and, above each distance from p, a variable. None if there is none."""
    k, one = len(p), np.eye(len(p))
    lead = np.delete(one, p.argmax(), 0)
    lead[:, p.argmax()] = -1
    above = np.vstack(
        [
            np.hstack([one, -one]),
            np.hstack([-one, -one]),
            np.hstack([np.zeros((1, k)), np.ones((1, k))]),
            np.hstack([lead, np.zeros_like(lead)]),
        ]
    )
    limits = np.concatenate([p, -p, [epsilon], np.full(k - 1, -margin)])
    found = linprog(np.r_[cost, np.zeros(k)], above, limits, np.r_[np.ones(k), np.zeros(k)][None], [1.0],
                    bounds=(0, None), options=EXACT)  # fmt: skip
    return None if found.status else found.x[:k]


Pixels = npt.NDArray[np.uint8]


CLASSES = 4


class Agent:
    """The published agent, restated: one image at a time."""

    def __init__(self, delta: float) -> None:
        self.delta, self.alarm, self.processed = delta, False, 0
        self.sets: dict[int, list[Pixels]] = {}
        self.kept: dict[int, list[float]] = {}
        self.threshold: dict[int, float] = {}
        self.asked: dict[int, list[float]] = {}

    def ask(self, image: Pixels, label: int) -> bool:
        if label not in self.sets:
            self.sets[label], self.kept[label], self.threshold[label] = [image], [0.0], 0.0
        else:
            nearest = min(np.linalg.norm((image - other.astype(float)) / 255) for other in self.sets[label])
            self.asked.setdefault(label, []).append(float(nearest))
            if nearest > self.threshold[label]:
                self.sets[label].append(image)
                self.kept[label].append(float(nearest))
                new = np.mean(self.kept[label]) - np.std(self.kept[label])
                self.threshold[label] = max(self.threshold[label], float(new))
        if self.processed % 10 == 0:
            found = np.array([d for asked in self.asked.values() if len(asked) >= 10 for d in asked])
            found = found[np.abs(found - found.mean()) < 3 * found.std()] if len(found) else found
            if len(found) > 100:
                self.alarm = shapiro(found[-5000:]).statistic < self.delta
        self.processed += 1
        return self.alarm


def stream(count: int, seed: int = 0) -> tuple[Pixels, list[int], list[int]]:
    """Images, labels and clients: client 0 asks about smooth noise, client 1 soon about copies with a little noise."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    clients = random.integers(0, 2, count).tolist()
    for row in range(count):
        if clients[row] == 1 and row > count // 3 and row % 3:
            near = images[random.integers(0, row)].astype(int) + random.integers(-20, 21, (3, 32, 32))
            images[row] = near.clip(0, 255).astype(np.uint8)
    return images, random.integers(0, CLASSES, count).tolist(), clients


def ask_of(images: Pixels, labels: list[int], clients: list[int]) -> Ask:
    questions = [Question(c, i.tobytes()[:16], 0) for c, i in zip(clients, images, strict=True)]
    answers = torch.eye(CLASSES)[torch.tensor(labels)]
    return Ask(questions, answers, answers, lambda: torch.from_numpy(images))
