"""Classifiers on frozen embeddings: an encoder is as good downstream as one of these is on top of it.

All of them see L2-normalised embeddings, so two encoders that differ only by a scale count as the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed, seed_block

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Head:
    """Fits to labelled embeddings and predicts the labels of others."""

    def identity(self) -> dict[str, Any]:
        """All that decides the predictions, apart from embeddings, labels and seed."""
        return {"class": type(self).__qualname__, **asdict(self)}

    def fit_predict(
        self, train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int, tell: Tell = lambda done, of: None
    ) -> Tensor:
        """Labels of ``test`` ``(m, D)``, int64 ``(m,)`` on the CPU, by a head fitted to ``train`` ``(n, D)``.

        Args:
            train: embeddings; the head is trained on their device.
            labels: labels of ``train``, int64 ``(n,)``.
            test: embeddings on the same device.
            classes: number of classes; a label can be missing in ``labels``.
            seed: seed of everything random.
            tell: called with the training's progress (done, of how many).
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LinearHead(Head):
    """Multinomial logistic regression, by scikit-learn's L-BFGS.

    Attributes:
        c: inverse strength of the L2 penalty: the loss is ``c * sum_i CE_i + ||W||^2 / 2``. The rows have length 1, and
            little of that separates classes, so c is far larger than for standardised features.
        iterations: maximum number of iterations of the solver.
        tolerance: the largest gradient (of the mean loss) at which it stops.
    """

    c: float = 10.0
    iterations: int = 1000
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.c <= 0 or self.iterations < 1 or self.tolerance <= 0:
            raise ConfigError(
                "A linear head needs c > 0, iterations >= 1 and tolerance > 0; given: "
                f"{self.c}, {self.iterations}, {self.tolerance}."
            )

    def fit_predict(
        self, train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int, tell: Tell = lambda done, of: None
    ) -> Tensor:
        """See `Head`; the minimum is unique, so the seed has no effect."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.c, max_iter=self.iterations, tol=self.tolerance)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ConvergenceWarning)  # `iterations` may end it early
            model.fit(_unit(train).cpu().numpy(), labels.cpu().numpy())
        tell(1, 1)
        return torch.from_numpy(np.asarray(model.predict(_unit(test).cpu().numpy()), np.int64))


@dataclass(frozen=True)
class MLPHead(Head):
    """StolenEncoder's head (Liu et al., CCS 2022): D-512-256-C, ReLU, dropout after the first layer, Adam.

    Attributes:
        hidden: widths of the two hidden layers.
        dropout: share of the first layer's outputs that a step drops.
        epochs: passes over the training embeddings.
        batch_size: embeddings per step; the last batch of an epoch may be smaller.
        lr: Adam's learning rate.
    """

    hidden: Sequence[int] = (512, 256)
    dropout: float = 0.5
    epochs: int = 500
    batch_size: int = 256
    lr: float = 1e-4

    def __post_init__(self) -> None:
        least = min(*self.hidden, self.epochs, self.batch_size)
        if len(self.hidden) != 2 or least < 1 or self.lr <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "An MLP head needs two hidden widths, epochs and batch_size of at least 1, lr > 0 and 0 <= dropout < 1;"
                f" given: {self.hidden}, {self.epochs}, {self.batch_size}, {self.lr}, {self.dropout}."
            )

    def fit_predict(
        self, train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int, tell: Tell = lambda done, of: None
    ) -> Tensor:
        """See `Head`; initialisation, order and dropout depend on the seed alone."""
        x, y = _unit(train), labels.to(train.device)
        order = np.random.default_rng(derive_seed("head order", seed))
        with seed_block("head", seed), torch.enable_grad():
            net = self._network(x.shape[1], classes).to(x.device)
            optimizer = torch.optim.Adam(net.parameters(), self.lr, fused=True)
            for epoch in range(self.epochs):
                shuffled = torch.from_numpy(order.permutation(len(x))).to(x.device)
                for ids in shuffled.split(self.batch_size):
                    optimizer.zero_grad()
                    F.cross_entropy(net(x[ids]), y[ids]).backward()
                    optimizer.step()
                tell(epoch + 1, self.epochs)
        with torch.no_grad():
            return net.eval()(_unit(test)).argmax(1).cpu()

    def _network(self, width: int, classes: int) -> nn.Sequential:
        first, second = self.hidden
        return nn.Sequential(
            nn.Linear(width, first), nn.ReLU(), nn.Dropout(self.dropout),
            nn.Linear(first, second), nn.ReLU(), nn.Linear(second, classes),
        )  # fmt: skip


@dataclass(frozen=True)
class KNNHead(Head):
    """Vote of the nearest training embeddings by cosine, each with weight ``exp(cosine / temperature)``.

    Wu et al. (CVPR 2018). It is a monitor: the papers on stealing encoders judge by a trained head.

    Attributes:
        k: number of embeddings that vote; all if there are fewer.
        temperature: the smaller, the more the very nearest count.
        batch_size: test embeddings compared at a time.
    """

    k: int = 200
    temperature: float = 0.5
    batch_size: int = 1024

    def __post_init__(self) -> None:
        if min(self.k, self.batch_size) < 1 or self.temperature <= 0:
            raise ConfigError(
                "A kNN head needs k and batch_size of at least 1 and temperature > 0; given: "
                f"{self.k}, {self.batch_size}, {self.temperature}."
            )

    def identity(self) -> dict[str, Any]:
        """The settings without the batch size, which only decides the memory needed."""
        return {k: v for k, v in super().identity().items() if k != "batch_size"}

    @torch.no_grad()
    def fit_predict(
        self, train: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int, tell: Tell = lambda done, of: None
    ) -> Tensor:
        """See `Head`; nothing is random."""
        known, asked, y = _unit(train), _unit(test), labels.to(train.device)
        parts = []
        for batch in asked.split(self.batch_size):
            cosines, nearest = (batch @ known.T).topk(min(self.k, len(known)), dim=1)
            votes = torch.zeros(len(batch), classes, device=batch.device)
            votes.scatter_add_(1, y[nearest], ((cosines - 1) / self.temperature).exp())  # the same vote, no overflow
            parts.append(votes.argmax(1).cpu())
            tell(sum(map(len, parts)), len(asked))
        return torch.cat(parts)


def _unit(embeddings: Tensor) -> Tensor:
    """Embeddings scaled to length 1; a zero embedding stays zero."""
    return F.normalize(embeddings, dim=1)
