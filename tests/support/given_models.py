"""Small models that somebody else might give: of torch, of scikit-learn, and functions of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

CLASSES = 3


class Net(nn.Module):
    """Logits that are linear in the mean colours of an image's 16 parts."""

    def __init__(self, classes: int = CLASSES, seed: int = 0) -> None:
        super().__init__()
        self.head = nn.Linear(48, classes)
        nn.init.normal_(self.head.weight, std=4.0, generator=torch.Generator().manual_seed(seed))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(nn.functional.adaptive_avg_pool2d(images, 4).flatten(1))


READY = Net(seed=1)  # a model as it is


def make(classes: int, seed: int = 0) -> Net:
    return Net(classes, seed)


def answer(images: np.ndarray) -> np.ndarray:
    """Probabilities for uint8 images."""
    with torch.no_grad():
        return READY(torch.from_numpy(images).float() / 255).softmax(1).numpy()


def fit(labels: Any = (0, 1, 2)) -> LogisticRegression:
    rows = np.random.default_rng(0).random((30, 3 * 8 * 8))
    return LogisticRegression().fit(rows, np.resize(labels, 30))


def break_off(images: np.ndarray) -> np.ndarray:
    raise RuntimeError("the service is down")


def embed(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), 3, -1).mean(2) - 128.0
