"""Where questions get their answers: from the victim, through the guard, onto the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fmsteal.base.errors import DefenseError, FmstealError, VictimError
from fmsteal.oracle.blocks import Block
from fmsteal.oracle.defense_log import DefenseLog, LogRow
from fmsteal.oracle.guard import Ask, Guard
from fmsteal.oracle.ledger import Ledger, Question
from fmsteal.oracle.replies import hear
from fmsteal.oracle.tally import Tally


class Desk:
    """Answers blocks of questions.

    First the defense's log is written, then the ledger, then the guard's state is updated. A resumed run reads the log
    into a new guard, by the same code. A guard that returns nothing but answers has no log.
    """

    def __init__(
        self,
        guard: Guard,
        name: str,
        to_answers: Callable[[Tensor], Tensor],
        ledger: Ledger,
        log: DefenseLog,
        seed: int,
    ) -> None:
        """Bring the guard to the state in which the last run of the theft left it.

        Raises:
            LedgerError: the log is damaged, or belongs to another theft or defense.
            DefenseError: the guard cannot read its log.
        """
        self._guard, self.name, self._to_answers = guard, name, to_answers
        self._ledger, self._log, self._seed = ledger, log, seed
        self._refused: set[Question] = set()
        self.tally = Tally()
        self._settle(log.replay(ledger))

    def refused(self, questions: Sequence[Question]) -> npt.NDArray[np.bool_]:
        """Which of these questions were refused, bool ``(n,)``."""
        if not self._refused:
            return np.zeros(len(questions), bool)
        return np.array([question in self._refused for question in questions], bool)

    def serve(self, block: Block) -> int:
        """Answer the new questions of a block; return how many answers were added to the ledger.

        Raises:
            VictimError: the victim's answers are NaN or infinite. Nothing of the block is recorded.
            DefenseError: the guard failed or broke its contract. Nothing of the block is recorded.
        """
        raw = block.raw().detach().cpu()
        answers = self._to_answers(raw)
        if not answers.isfinite().all():
            bad = int((~answers.isfinite().flatten(1).all(1)).sum())
            raise VictimError(
                f"The victim answered {bad} of {len(answers)} questions with NaN or infinity; none of them is counted. "
                "Look at the victim's weights (victim=...)."
            )
        ask = Ask(block.questions, answers, raw, block.images, self.tally.now, self._seed)
        said = hear(self._guard, ask, self.name)
        answered = [row for row in block.new if not said.refused[row]]
        if said.rows is not None:
            self._log.append(rows := [said.rows[row] for row in block.new])
        if answered:
            whole = len(answered) == len(said.answers)
            self._ledger.append(
                block.questions if whole else [block.questions[row] for row in answered],
                (said.answers if whole else said.answers[torch.tensor(answered)]).numpy(),
            )
        if said.rows is not None:
            self._settle(rows)
        return len(answered)

    def _settle(self, rows: Sequence[LogRow]) -> None:
        """Update the state with rows that are on the disk."""
        for row in rows:
            self.tally.add(row)
        self._refused.update(row.question for row in rows if row.refused)
        fold_rows(self._guard, self.name, rows, f" The answers and {self._log.path} are kept.")


def fold_rows(guard: Guard, name: str, rows: Sequence[LogRow], kept: str = "") -> None:
    """Update a guard's state with what it logged about questions.

    Raises:
        DefenseError: the guard failed; the message begins with ``name`` and ends with ``kept``.
    """
    logged = [(row.question, row.log) for row in rows if row.log is not None]
    if not logged:
        return
    try:
        guard.fold([question for question, _ in logged], [log for _, log in logged])
    except FmstealError:
        raise
    except Exception as error:  # defenses of other packages may raise anything
        raise DefenseError(
            f"{name} failed to remember what it logged ({type(error).__name__}: {error}).{kept}"
        ) from error
