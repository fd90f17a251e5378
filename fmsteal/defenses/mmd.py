"""A two-sample test of each client's questions: the maximum mean discrepancy between a window and benign ones.

Gretton et al. (JMLR 2012), eq. 3, as used by extraction detectors. The victim's raw outputs (logits or embeddings) for
a client's last questions are compared with those for training images, by the unbiased estimate of MMD^2 under a
Gaussian kernel whose width is the median distance between benign rows. A window raises an alarm if its figure is above
a quantile of the figures of benign windows, each against the others. Training images are nearer to each other than an
honest client's are to them, so the false-alarm rate must be measured, not read off ``alpha``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.data.images import choose_ids
from fmsteal.defenses.base import foreign_entry, name_of
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim


class MMD:
    """Changes no answer; flags the question that completes a suspicious window of its client (``flags/mmd``)."""

    depends: ClassVar[Depends] = "client"

    def __init__(self, window: int = 64, benign: int = 20, alpha: float = 0.05, seed: int = 0) -> None:
        """Compare ``window`` questions with as many training images, ``benign`` times.

        ``alpha`` is the share of benign windows above the threshold; ``seed`` chooses the training images.
        """
        if window < 2 or benign < 2:
            raise ConfigError(f"defense.window and defense.benign must be at least 2, not {window} and {benign}.")
        if not 0 < alpha < 1:
            raise ConfigError(f"defense.alpha must be above 0 and below 1, not {alpha}.")
        self.window, self.benign, self.alpha, self.seed = window, benign, alpha, seed

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Ask the victim about the benign windows.

        Raises:
            ConfigError: there are too few training images for two windows.
        """
        windows = min(self.benign, len(train) // self.window)
        if windows < 2:
            raise ConfigError(
                f"defense.window={self.window} needs at least {2 * self.window} training images, but there are "
                f"{len(train)}: defense.window={max(2, len(train) // 4)}."
            )
        ids = np.random.default_rng(self.seed).permutation(choose_ids(len(train), windows * self.window, self.seed))
        rows = victim.raw(train, ids, ctx).double()
        return WindowGuard(victim.width, TwoSample(rows, windows, self.alpha), self.window, name_of(self))


class TwoSample:
    """MMD^2 of windows against benign ones, and the threshold derived from the benign windows."""

    def __init__(self, benign: Tensor, windows: int, alpha: float) -> None:
        """``benign``: float64 ``(windows * w, D)``, split into ``windows`` windows."""
        self.dimensions = benign.shape[1]
        distances = torch.pdist(benign)
        self.width = float(distances.median()) or 1.0
        self._windows = benign.chunk(windows)
        self._inner = [mean_within(self.kernel(part, part)) for part in self._windows]
        figures = [self.figure(part, number) for number, part in enumerate(self._windows)]
        self.threshold = float(torch.tensor(figures, dtype=torch.float64).quantile(1 - alpha))

    def figure(self, window: Tensor, without: int | None = None) -> float:
        """The mean MMD^2 of a window, ``(w, D)``, against all benign ones, or all but number ``without``."""
        own = mean_within(self.kernel(window, window))
        others = [number for number in range(len(self._windows)) if number != without]
        found = [own + self._inner[n] - 2 * float(self.kernel(window, self._windows[n]).mean()) for n in others]
        return sum(found) / len(found)

    def kernel(self, one: Tensor, other: Tensor) -> Tensor:
        """The Gaussian kernel between rows, ``(n, m)``."""
        return (-torch.cdist(one, other).square() / (2 * self.width**2)).exp()


def mean_within(kernel: Tensor) -> float:
    """The mean of a kernel over pairs of different rows of one window."""
    n = len(kernel)
    return float((kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1)))


class WindowGuard:
    """Collects each client's window; the log holds the victim's outputs."""

    def __init__(self, width: int, test: TwoSample, window: int, name: str) -> None:
        self.width = width
        self._test, self._window, self._name = test, window, name
        self._clients: dict[int, list[bytes]] = defaultdict(list)

    def reply(self, ask: Ask) -> Reply:
        """The unchanged answers, with a flag for each question that completes a suspicious window."""
        log = [row.tobytes() for row in ask.raw.float().numpy().astype("<f4")]
        windows = {question.client: list(self._clients.get(question.client, ())) for question in ask.questions}
        flags = []
        for question, row in zip(ask.questions, log, strict=True):
            windows[question.client].append(row)
            flags.append(len(windows[question.client]) == self._window and self._is_odd(windows[question.client]))
            if len(windows[question.client]) == self._window:
                windows[question.client] = []
        return Reply(ask.answers, log, flags={"mmd": torch.tensor(flags, dtype=torch.bool)})

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Add rows to the windows; a full window is emptied.

        Raises:
            DefenseError: an entry was not written by this defense for this victim.
        """
        due = 4 * self._test.dimensions
        for question, entry in zip(questions, log, strict=True):
            if len(entry) != due:
                raise foreign_entry(self._name, entry, f"the victim's {due // 4} numbers")
            window = self._clients[question.client]
            window.append(entry)
            if len(window) == self._window:
                window.clear()

    def _is_odd(self, window: Sequence[bytes]) -> bool:
        rows = np.stack([np.frombuffer(row, "<f4") for row in window])
        return self._test.figure(torch.from_numpy(rows.astype(np.float64))) > self._test.threshold
