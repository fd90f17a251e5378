"""B4B: the more of the embedding space a client has covered, the noisier its answers (Dubinski et al., NeurIPS 2023).

The space is cut into buckets by locality-sensitive hashing: the signs of 12 Gaussian projections select one of 4,096
buckets, and this is done 20 times. A client's coverage is the percentage of buckets that contain any of its answers,
averaged over the 20; the standard deviation of the noise grows exponentially with it (section 3.2). In addition, each
client gets its own transform, against accounts that pool their answers (`fmsteal.defenses.client_transforms`).

In the published code the coverage is computed beforehand for the whole query set in batches of 256, each batch has one
deviation, and only the attacker's second and further accounts are transformed. Here everything is live and per client:
a question's deviation follows from the coverage including its own bucket, and every client is transformed. As there,
noise is added before the transform, and embeddings are not normalised: ``alpha`` is in units of an embedding's entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import foreign_entry, name_of
from fmsteal.defenses.client_transforms import Transform, TransformName, draw_transform, transformed_width
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

Codes = npt.NDArray[np.uint16]
Floats = npt.NDArray[np.float64]
MOST_BITS = 16
KEPT_TRANSFORMS = 4  # transforms kept in memory: at 2,048 numbers a matrix takes 34 MB. Others are drawn again
_LARGEST = math.log(1e30)  # log of a deviation that float32 holds with room to spare


class B4B:
    """Returns ``transform(v + N(0, sigma(o)))``, ``sigma(o) = max(0, lam (exp(ln(alpha / lam) o / beta) - 1))``.

    v is the embedding and o the client's coverage in per cent. The defaults are those of the published code, whose
    configs also use alpha 1 and lam 1e-7.
    """

    answers: ClassVar[Answers] = "embeddings"
    depends: ClassVar[Depends] = "client"

    def __init__(
        self,
        alpha: float = 0.8,
        beta: float = 80,
        lam: float = 1e-6,
        transform: TransformName = "affine",
        projections: int = 20,
        bits: int = 12,
        seed: int = 0,
    ) -> None:
        """At a coverage of ``beta`` per cent the noise has standard deviation ``alpha - lam``.

        The space is cut into ``2 ** bits`` buckets ``projections`` times, by hyperplanes drawn from ``seed``.
        """
        if not 0 < lam < alpha < float("inf") or not 0 < beta < float("inf"):
            raise ConfigError(
                f"defense.lam must be above 0 and below defense.alpha, and defense.beta above 0, not {lam}, {alpha} "
                f"and {beta}."
            )
        if math.log(lam) + math.log(alpha / lam) * 100 / beta > _LARGEST:
            raise ConfigError(
                f"defense.beta={beta} lets the noise of a client that has seen everything grow without bound: choose "
                "a larger one. It is the coverage, in per cent, at which the deviation is defense.alpha."
            )
        if transform not in get_args(TransformName):
            raise ConfigError(f"defense.transform is one of {', '.join(get_args(TransformName))}, not {transform}.")
        if projections < 1 or not 1 <= bits <= MOST_BITS:
            raise ConfigError(
                f"defense.projections must be at least 1 and defense.bits from 1 to {MOST_BITS}, not {projections} "
                f"and {bits}."
            )
        self.alpha, self.beta, self.lam, self.transform = alpha, beta, lam, transform
        self.projections, self.bits, self.seed = projections, bits, seed

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Draw the hyperplanes; no client has asked anything yet."""
        return CoverageGuard(self, victim.width, name_of(self))

    def deviation(self, coverage: Floats) -> Floats:
        """The noise's standard deviation at each coverage (in per cent), ``(n,)``."""
        grown = self.lam * (np.exp(math.log(self.alpha / self.lam) * coverage / self.beta) - 1)
        return np.asarray(np.maximum(grown, 0))


class Buckets:
    """The hyperplanes that cut the space of embeddings ``(D,)`` into buckets, in several ways."""

    def __init__(self, width: int, projections: int, bits: int, seed: int) -> None:
        self.projections, self.bits = projections, bits
        self._planes = np.random.default_rng(seed).standard_normal((width, projections * bits))
        self._powers = 2 ** np.arange(bits)

    def find(self, rows: npt.NDArray[np.float32]) -> Codes:
        """The bucket of each row ``(n, D)`` in each cut, ``(n, projections)``, by a single matrix product."""
        signs = rows.astype(np.float64) @ self._planes > 0
        return (signs.reshape(len(rows), self.projections, self.bits) @ self._powers).astype(np.uint16)


class Occupied:
    """The buckets that hold one of a client's answers: a table of booleans ``(projections, 2 ** bits)``."""

    def __init__(self, projections: int, bits: int) -> None:
        self._table = np.zeros((projections, 2**bits), bool)
        self._cuts = np.arange(projections)

    def add(self, codes: Codes) -> None:
        """Mark the rows' buckets ``(n, projections)`` as occupied."""
        self._table[self._cuts, codes] = True

    def coverage(self, codes: Codes) -> Floats:
        """The coverage in per cent after each row ``(n, projections)``, in order; the table is not changed."""
        keys = (codes + self._cuts * self._table.shape[1]).ravel()
        first = np.unique(keys, return_index=True)[1]  # where each bucket first occurs; it is new if not yet occupied
        new = np.zeros(len(keys), np.int64)
        new[first] = ~self._table.ravel()[keys[first]]
        counts = np.count_nonzero(self._table) + new.reshape(codes.shape).sum(1).cumsum()
        return np.asarray(100 * counts / self._table.size)


class CoverageGuard:
    """Tracks the buckets that each client occupies; the log holds the buckets of each question."""

    def __init__(self, defense: B4B, width: int, name: str) -> None:
        self.width = transformed_width(defense.transform, width)
        self._defense, self._name, self._given = defense, name, width
        self._buckets = Buckets(width, defense.projections, defense.bits, defense.seed)
        self._clients: dict[int, Occupied] = {}
        self._transforms: dict[tuple[int, int, str], Transform] = {}

    def reply(self, ask: Ask) -> Reply:
        """The embeddings plus noise according to each client's coverage, transformed."""
        codes = self._buckets.find(ask.answers.numpy())
        answers = torch.zeros(len(codes), self.width)
        rows_of: dict[int, list[int]] = {}
        for row, question in enumerate(ask.questions):
            rows_of.setdefault(question.client, []).append(row)
        for client, rows in rows_of.items():
            coverage = self._clients.get(client, self._empty()).coverage(codes[rows])
            noisy = ask.answers[rows] + self._noise(ask, rows, self._defense.deviation(coverage))
            answers[rows] = self._transform(ask, rows[0])(noisy)
        return Reply(answers, [row.astype("<u2").tobytes() for row in codes])

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Mark the buckets of the answers as occupied.

        Raises:
            DefenseError: an entry was not written by this defense.
        """
        for question, entry in zip(questions, log, strict=True):
            codes = np.frombuffer(entry, "<u2") if len(entry) == 2 * self._defense.projections else None
            if codes is None or int(codes.max()) >> self._defense.bits:
                due = f"{self._defense.projections} buckets of {2**self._defense.bits}"
                raise foreign_entry(self._name, entry, due)
            if question.client not in self._clients:
                self._clients[question.client] = self._empty()
            self._clients[question.client].add(codes.astype(np.uint16))

    def _noise(self, ask: Ask, rows: Sequence[int], deviations: Floats) -> Tensor:
        drawn = [torch.randn(self._given, generator=ask.generator(row)) for row in rows]
        return (torch.from_numpy(deviations)[:, None] * torch.stack(drawn).double()).float()

    def _transform(self, ask: Ask, row: int) -> Transform:
        """The transform of the row's client; the last few that were drawn are kept."""
        key = ask.questions[row].client, ask.seed, ask.salt
        if key not in self._transforms:
            if len(self._transforms) == KEPT_TRANSFORMS:
                del self._transforms[next(iter(self._transforms))]
            random = ask.generator(row, per="client")
            self._transforms[key] = draw_transform(self._defense.transform, self._given, random)
        return self._transforms[key]

    def _empty(self) -> Occupied:
        return Occupied(self._defense.projections, self._defense.bits)
