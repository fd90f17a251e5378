"""A client independent of the attack: it asks through its own guard, without budget or ledger, and nothing is kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmsteal.oracle.blocks import Block, Blocks, Shown
from fmsteal.oracle.defense_log import LogRow
from fmsteal.oracle.desk import fold_rows
from fmsteal.oracle.guard import Ask, Guard
from fmsteal.oracle.ledger import Question
from fmsteal.oracle.replies import Said, hear
from fmsteal.oracle.tally import Tally

VISITOR = 2**31 - 1  # the client's number; no client of an attack has it, so random draws are never shared


@dataclass(frozen=True)
class Given:
    """What a visitor got for n questions.

    Attributes:
        answers: float32 ``(n, width)``.
        refused: bool ``(n,)``.
        rows: what the defense noted about each question; None if it gives nothing but answers.
        busy: seconds of computing time that the guard took.
    """

    answers: Tensor
    refused: Tensor
    rows: Sequence[LogRow] | None
    busy: float


class Visit:
    """All questions of one client to a fresh guard, answered in blocks or batches like an attack's questions."""

    def __init__(self, guard: Guard, name: str, to_answers: Callable[[Tensor], Tensor], seed: int) -> None:
        """``guard`` must not have answered anybody yet; ``name`` is the defense's name, for error messages."""
        self._guard, self._name, self._to_answers, self._seed = guard, name, to_answers, seed
        self._blocks, self._tally = Blocks(getattr(guard, "batch", None)), Tally()
        self._asked: Counter[bytes] = Counter()

    def ask(self, digests: Sequence[bytes], shown: Shown) -> Given:
        """Ask about images, given the digests of their content.

        Raises:
            DefenseError: the guard failed or broke its contract.
        """
        questions = []
        for image in digests:
            questions.append(Question(VISITOR, image, self._asked[image]))
            self._asked[image] += 1
        answers, refused = torch.zeros(len(questions), self._guard.width), list[bool]()
        rows: list[LogRow] = []
        busy = 0.0
        for block in self._blocks.cut(questions, range(len(questions)), shown):
            raw = block.raw().detach().cpu()
            began = time.perf_counter()
            said, noted = self._serve(block, raw)
            busy += time.perf_counter() - began
            new = list(block.new)
            answers[len(refused) : len(refused) + len(new)] = said.answers[torch.tensor(new, dtype=torch.long)]
            refused += [said.refused[row] for row in new]
            rows += noted
        self._blocks.close()
        whole = rows if len(rows) == len(questions) else None
        return Given(answers, torch.tensor(refused, dtype=torch.bool), whole, busy)

    def _serve(self, block: Block, raw: Tensor) -> tuple[Said, list[LogRow]]:
        ask = Ask(block.questions, self._to_answers(raw), raw, block.images, self._tally.now, self._seed)
        said = hear(self._guard, ask, self._name)
        noted = [] if said.rows is None else [said.rows[row] for row in block.new]
        for row in noted:
            self._tally.add(row)
        fold_rows(self._guard, self._name, noted)
        return said, noted
