"""The pool-based strategies of scikit-activeml (Kottke et al. 2021, skactiveml.pool), as strategies for ActiveThief.

They see the pool through the thief: an image is its features (the input of the thief's last layer), its label is the
answer's argmax, and the classifier is the thief's own last layer, already fitted.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fmsteal.attacks.strategies import Round
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids
from fmsteal.training.classifier import Classifier

GIVEN = {"self", "X", "y", "candidates", "batch_size", "clf", "fit_clf"}  # what we pass to a strategy
OWN_KINDS = {  # strategies that need something a thief's last layer cannot provide
    "ProbabilisticAL": "counts of neighbours' labels",
    "EpistemicUncertaintySampling": "a Parzen window or a logistic regression",
    "FourDs": "a mixture model",
    "Quire": "the classes, and a kernel over all images at once",
    "CostEmbeddingAL": "the classes, and a regressor",
    "DropQuery": "the thief's features under dropout",
}


@dataclass(frozen=True)
class ActiveML:
    """One of scikit-activeml's strategies, chosen by name.

    Attributes:
        name: the strategy's class in ``skactiveml.pool``.
        options: arguments of its constructor.
        candidates: number of random unasked images to choose from in a round; None for all.
    """

    answers: ClassVar[Answers] = "probabilities"

    name: str = "UncertaintySampling"
    options: Mapping[str, Any] = field(default_factory=dict)
    candidates: int | None = 10_000

    def __post_init__(self) -> None:
        strategy = _strategies().get(self.name)
        if strategy is None:
            raise ConfigError(
                f"attack.strategy.name={self.name} is no strategy of scikit-activeml that a thief can be given to. "
                f"There are: {', '.join(_strategies())}."
            )
        taken = inspect.signature(strategy).parameters
        if unknown := [name for name in self.options if name not in taken or name == "random_state"]:
            raise ConfigError(
                f"attack.strategy.options.{unknown[0]}: {self.name} has no such option here. It takes: "
                f"{', '.join(name for name in taken if name != 'random_state')}."
            )

    def __call__(self, round: Round, count: int) -> Ids:
        """``count`` distinct ids of unasked images."""
        ids, thief = round.candidates(self.candidates, count), round.thief
        if round.answers is None or not isinstance(thief, Classifier):
            raise AttackError("scikit-activeml's strategies look at the answers and at a classifier's last layer.")
        shown = np.concatenate([round.asked, ids])
        x = round.ctx.features(thief, round.pool, shown).numpy().astype(np.float64)
        labels = np.full(len(shown), np.nan)
        labels[: len(round.asked)] = round.answers.argmax(dim=1).numpy()
        strategy = _strategies()[self.name](random_state=int(round.random.integers(2**31)), **self.options)
        given: dict[str, Any] = {"candidates": np.arange(len(round.asked), len(shown)), "batch_size": count}
        if "clf" in inspect.signature(strategy.query).parameters:
            given |= {"clf": _classifier(thief.head, round.answers.shape[1], x, labels), "fit_clf": False}
        return shown[np.asarray(strategy.query(X=x, y=labels, **given), dtype=np.int64)]


@functools.cache
def _strategies() -> dict[str, Any]:
    """The scikit-activeml strategies, by name, that need no more than a fitted classifier.

    Raises:
        ConfigError: scikit-activeml is not installed.
    """
    try:
        from skactiveml import pool
        from skactiveml.base import SingleAnnotatorPoolQueryStrategy as Strategy
    except ImportError as absent:
        raise ConfigError(
            "attack/strategy=activeml needs scikit-activeml, which is not installed: pip install 'fmsteal[activeml]'."
        ) from absent
    classes = {name: getattr(pool, name) for name in pool.__all__ if inspect.isclass(getattr(pool, name))}
    found = {name: made for name, made in classes.items() if issubclass(made, Strategy) and name not in OWN_KINDS}
    return {name: made for name, made in sorted(found.items()) if _fits(made)}


def _fits(strategy: Any) -> bool:
    """Whether a strategy needs no other arguments and does not refit a classifier for each candidate."""
    takes = inspect.signature(strategy.query).parameters
    needed = {name for name, each in takes.items() if each.default is each.empty} - GIVEN
    made_of = [name for name, each in inspect.signature(strategy).parameters.items() if each.default is each.empty]
    return not needed and not made_of and "ignore_partial_fit" not in takes


def _classifier(head: nn.Module, classes: int, x: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Any:
    """A thief's last layer, wrapped as a scikit-activeml classifier."""
    from skactiveml.base import SkactivemlClassifier

    class Head(SkactivemlClassifier):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Head:
            self._validate_data(X, y)
            return self

        @torch.no_grad()
        def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
            rows = torch.as_tensor(np.asarray(X), dtype=torch.float32)
            return head.cpu().eval()(rows).double().softmax(dim=1).numpy()

    return Head(classes=list(range(classes)), random_state=0).fit(x, labels)
