"""The API under attack: budget, defense and ledger around a victim. An attacker sees nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fmsteal.base.errors import BudgetExceeded, ConfigError, DataError, Refused
from fmsteal.oracle.blocks import Blocks, Shown
from fmsteal.oracle.defense_log import DefenseLog
from fmsteal.oracle.desk import Desk
from fmsteal.oracle.guard import Guard
from fmsteal.oracle.index import Counts, keys_of
from fmsteal.oracle.ledger import Ledger, Question
from fmsteal.records.folders import DEFENSE_LOG

if TYPE_CHECKING:
    from fmsteal.data.images import Ids, Images


@dataclass(frozen=True)
class Budget:
    """How many questions the attacker may ask, and what they cost.

    Attributes:
        queries: total number of answers the attacker may receive; asking about one image twice takes two. 0 is for
            attacks that ask nothing, as baselines.
        usd_per_1000: price of a thousand answers, in US dollars.
    """

    machine: ClassVar[frozenset[str]] = frozenset({"usd_per_1000"})

    queries: int
    usd_per_1000: float = 0.0

    def __post_init__(self) -> None:
        if self.queries < 0:
            raise ConfigError(f"budget.queries must be at least 0, not {self.queries}.")

    def usd(self, queries: int) -> float:
        """What ``queries`` answers cost, in US dollars."""
        return queries * self.usd_per_1000 / 1000


class Oracle:
    """Answers questions about images until the budget is spent.

    Asking about the same image twice is two queries. Every answer is in the ledger before it is returned. When a killed
    job runs again, the questions it had paid for are answered from the ledger and are not counted twice.
    """

    def __init__(
        self,
        *,
        answer_pool: Callable[[Ids], Tensor],
        answer_images: Callable[[Tensor], Tensor],
        pool: Images,
        guard: Guard,
        budget: Budget,
        ledger: Ledger,
        seed: int,
        to_answers: Callable[[Tensor], Tensor] = lambda raw: raw,
        defense: str | None = None,
        defense_log: Path | None = None,
        on_answer: Callable[[int, int], None] = lambda used, budget: None,
        before_block: Callable[[], None] = lambda: None,
        account: Callable[[int], None] = lambda answered: None,
        announce: Callable[[Sequence[Question]], None] = lambda questions: None,
    ) -> None:
        """Wrap a victim.

        Args:
            answer_pool: returns the victim's raw outputs ``(n, W)``, logits or embeddings, for pool ids ``(n,)``.
            answer_images: returns the same for float images ``(n, 3, H, W)`` in [0, 1].
            pool: the images that `ask` refers to.
            guard: the defense that makes the final answers; its width is theirs.
            budget: the only cap.
            ledger: the theft's ledger.
            seed: seed of random defenses.
            to_answers: turns raw outputs into answers ``(n, w)``: softmax for logits, identity for embeddings.
            defense: the defense's name, for its log and its errors; by default the guard's class.
            defense_log: file for what the defense must remember; by default ``defense.log`` beside the ledger.
            on_answer: called with the queries used and allowed after each block of answers.
            before_block: called before the victim is asked for a block; what it raises stops the ask.
            account: called with the number of new answers, once a block is on the disk or has failed.
            announce: called with the questions that the victim is asked next, just before ``answer_pool`` or
                ``answer_images`` is called with their images in the same order.

        Raises:
            LedgerError: the defense's log is damaged, or belongs to another theft or defense.
        """
        self.width = guard.width
        self.pool = pool
        self._ledger = ledger
        self._asked = Counts()
        self._answered = 0
        self._one_at_a_time = RLock()  # an attack may ask from several threads
        name = defense or f"{type(guard).__module__}.{type(guard).__qualname__}"
        log = DefenseLog(defense_log or ledger.path.with_name(DEFENSE_LOG), ledger.job, name)
        desk = Desk(guard, name, to_answers, ledger, log, seed)
        blocks = Blocks(getattr(guard, "batch", None))

        def pool_images(ids: Ids, questions: Sequence[Question] = ()) -> Shown:
            def raw(rows: Sequence[int]) -> Tensor:
                announce([questions[row] for row in rows if questions])
                return answer_pool(ids[rows])

            return Shown("pool", raw, lambda rows: torch.from_numpy(np.array(pool.pixels[ids[rows]])))

        def own_images(images: Tensor, questions: Sequence[Question] = ()) -> Shown:
            def raw(rows: Sequence[int]) -> Tensor:
                announce([questions[row] for row in rows if questions])
                return answer_images(images[rows])

            return Shown(images.shape[1:], raw, lambda rows: images[rows])

        def serve(questions: list[Question], new: list[int], shown: Shown) -> None:
            for block in blocks.cut(questions, new, shown):
                before_block()
                answered = 0
                try:
                    answered = desk.serve(block)
                finally:  # also for a block that failed
                    account(answered)
                on_answer(self.used, budget.queries)
            blocks.close()

        # Closures, not attributes: an attack that holds the oracle does not hold the victim.
        self._pool_images, self._own_images, self._serve = pool_images, own_images, serve
        self._refused = lambda questions: desk.refused(questions)
        self._defense = lambda: name
        self._costs = lambda: desk.tally.read()
        self._allowance = lambda: budget

    @property
    def budget(self) -> Budget:
        """The whole budget; it cannot be set."""
        return self._allowance()

    @property
    def used(self) -> int:
        """Queries paid for so far, including those of interrupted earlier runs of this theft."""
        return len(self._ledger)

    @property
    def answered(self) -> int:
        """Answers returned in this run, including those from the ledger: the progress of a resumed run."""
        return self._answered

    @property
    def left(self) -> int:
        """Queries that can still be asked."""
        return self.budget.queries - self.used

    def costs(self) -> dict[str, float]:
        """What the defense charged (``cost/defense_usd``, on top of the budget's price), delayed, refused and flagged.

        Features that the defense did not use are left out; the sums cover all runs of this theft.
        """
        return self._costs()

    def ask(self, ids: Ids, client: int = 0) -> Tensor:
        """Ask about pool images by id; return float32 ``(n, C)`` answers.

        Raises:
            BudgetExceeded: the questions exceed the rest of the budget; none was answered.
            Refused: the defense refused some questions; the error holds the answers to the others.
        """
        ids, client = _ids(ids, len(self.pool)), _client(client)
        with self._one_at_a_time:
            questions = self._questions(client, self.pool.image_digests(ids))
            return self._answer(questions, self._pool_images(ids, questions))

    def ask_images(self, images: Tensor, client: int = 0) -> Tensor:
        """Ask about synthesised images, float ``(n, 3, H, W)`` in [0, 1]; return float32 ``(n, C)`` answers.

        Raises:
            BudgetExceeded, Refused: as for `ask`.
        """
        images, client = _images(images), _client(client)
        digests = [hashlib.blake2b(i.numpy().tobytes(), digest_size=16).digest() for i in images]
        with self._one_at_a_time:
            questions = self._questions(client, digests)
            return self._answer(questions, self._own_images(images, questions))

    def _questions(self, client: int, digests: list[bytes]) -> list[Question]:
        """Number the questions by how often this client asked about the image before; they count once answered."""
        before = self._asked.of(keys_of([(client, image, 0) for image in digests])).tolist()
        again: dict[bytes, int] = {}
        questions = []
        for image, number in zip(digests, before, strict=True):
            questions.append(Question(client, image, number + again.get(image, 0)))
            again[image] = again.get(image, 0) + 1
        return questions

    def _answer(self, questions: list[Question], shown: Shown) -> Tensor:
        new = np.flatnonzero((self._ledger.find(questions) < 0) & ~self._refused(questions)).tolist()
        if len(new) > self.left:
            raise BudgetExceeded(
                f"{len(new)} questions asked with {self.left} of {self.budget.queries} queries left; none was "
                "answered. Choose a larger budget (budget=..., or budget.queries=N), or an attack that asks less."
            )
        self._serve(questions, new, shown)
        self._asked.add(keys_of([(q.client, q.image, 0) for q in questions]))
        refused = self._refused(questions)
        self._answered += int((~refused).sum())
        if refused.any():
            rest = [question for question, no in zip(questions, refused, strict=True) if not no]
            raise Refused(
                f"{self._defense()} refused {int(refused.sum())} of {len(questions)} questions. The others are "
                "answered and paid for. Choose an attack that goes on (it catches Refused), or another defense.",
                ~refused,
                torch.from_numpy(self._ledger.read(rest)) if rest else torch.zeros(0, self.width),
            )
        return torch.from_numpy(self._ledger.read(questions)) if questions else torch.zeros(0, self.width)


def _ids(ids: Any, count: int) -> Ids:
    """The ids of an ask, int64 ``(n,)``.

    Raises:
        DataError: `ids` is not a list of integers, or names images that the pool does not hold.
    """
    try:
        found = np.asarray(ids)
    except Exception as error:  # for a ragged list, or a tensor that is sparse or on another device
        what = f"{type(ids).__name__} ({error})"
        raise DataError(f"Pool images are asked for by a list of integer ids, not {what}.") from error
    if found.ndim != 1 or not (np.issubdtype(found.dtype, np.integer) or found.size == 0):
        raise DataError(f"Pool images are asked for by a list of integer ids, not {found.dtype} {found.shape}.")
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < count:
        raise DataError(f"Pool ids run from 0 to {count - 1}; asked: {found.min()} to {found.max()}.")
    return found.astype(np.int64)


def _images(images: Any) -> Tensor:
    """The images of an ask, float32 ``(n, 3, H, W)`` on the CPU.

    Raises:
        DataError: `images` are not dense, real images with values in [0, 1].
    """
    due = "Images are asked for as a float tensor (n, 3, H, W)"
    if not isinstance(images, Tensor):
        raise DataError(f"{due}, not {type(images).__name__}.")
    if images.layout != torch.strided or images.is_meta:
        raise DataError(f"{due}, not a {'meta' if images.is_meta else images.layout} tensor: images.to_dense().")
    if not images.is_floating_point():
        raise DataError(f"{due} with values in [0, 1], not {images.dtype}.")
    if images.ndim != 4 or images.shape[1] != 3:
        raise DataError(f"{due}, not {tuple(images.shape)}.")
    if images.numel() == 0 and len(images):
        raise DataError(f"{due} with pixels, not {tuple(images.shape)}.")
    found = images.detach().float().cpu()
    if found.numel() and not (float(found.min()) >= 0 and float(found.max()) <= 1):
        raise DataError("Images are asked for with values in [0, 1]; NaN or values outside were given.")
    return found


def _client(client: Any) -> int:
    """The number of a client, which the ledger stores in 32 bits.

    Raises:
        DataError: `client` is not an integer in the range.
    """
    whole = isinstance(client, int | np.integer) and not isinstance(client, bool)
    if not whole or not 0 <= int(client) < 2**31:
        raise DataError(f"A client is an integer from 0 to {2**31 - 1}, not {client!r}.")
    return int(client)
