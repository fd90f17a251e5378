"""Reads what a guard returned and checks it against the contract; errors name the defense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fmsteal.base.errors import DefenseError, FmstealError
from fmsteal.oracle.defense_log import LogRow
from fmsteal.oracle.guard import Ask, Guard, Reply


@dataclass(frozen=True)
class Said:
    """A checked `Reply` to n questions.

    Attributes:
        answers: float32 ``(n, width)``.
        refused: ``(n,)``, true for each question that is refused.
        rows: the rows to record; None if the guard returned nothing but answers.
    """

    answers: Tensor
    refused: Sequence[bool]
    rows: Sequence[LogRow] | None


def hear(guard: Guard, ask: Ask, name: str) -> Said:
    """Let a guard reply, and check its reply.

    Raises:
        DefenseError: the guard failed or broke its contract; the message begins with ``name``.
    """
    try:
        reply = guard.reply(ask)
    except FmstealError:
        raise
    except Exception as error:  # defenses of other packages may raise anything
        raise DefenseError(f"{name} failed to answer ({type(error).__name__}: {error}); nothing is counted.") from error
    if not isinstance(reply, Reply):
        raise DefenseError(f"{name} returned {type(reply).__name__}, where a Reply was due.")
    count = len(ask.questions)
    refused = [no != 0 for no in _column(name, "refused", reply.refused, count)]
    answers = _answers(name, reply.answers, (count, guard.width), refused)
    log = _log(name, reply.log, count)
    if log is reply.usd is reply.seconds is reply.refused is None and not reply.flags:
        return Said(answers, refused, None)
    usd = _column(name, "usd", reply.usd, count)
    seconds = _column(name, "seconds", reply.seconds, count)
    flags = {flag: _column(name, f"flag {flag}", value, count) for flag, value in reply.flags.items()}
    if min((*usd, *seconds), default=0.0) < 0:
        raise DefenseError(f"{name} returned negative usd or seconds.")
    usd = [0.0 if no else price for price, no in zip(usd, refused, strict=True)]
    rows, now = [], ask.now
    for row, question in enumerate(ask.questions):
        here = {flag: values[row] for flag, values in flags.items()}
        kept = None if log is None else log[row]
        rows.append(LogRow(question, now, usd[row], seconds[row], refused[row], here, kept))
        now += seconds[row]
    return Said(answers, refused, rows)


def _answers(name: str, answers: object, due: tuple[int, int], refused: Sequence[bool]) -> Tensor:
    if not isinstance(answers, Tensor) or tuple(answers.shape) != due or not answers.is_floating_point():
        what = f"{answers.dtype} {tuple(answers.shape)}" if isinstance(answers, Tensor) else type(answers).__name__
        what = what.removeprefix("torch.float32 ")
        raise DefenseError(f"{name} returned {what} where {due} was due: float answers, a row for each question.")
    answers = answers.detach().float().cpu()
    finite = answers.isfinite()
    if not finite.all():
        bad = int((~finite.all(dim=1) & ~torch.tensor(refused)).sum())
        if bad:
            raise DefenseError(f"{name} answered {bad} of {due[0]} questions with NaN or infinity; none is counted.")
    return answers


def _log(name: str, log: Sequence[bytes] | None, count: int) -> Sequence[bytes] | None:
    """The log entry of each question, if there are any."""
    if log is not None and (len(log) != count or not all(isinstance(part, bytes) for part in log)):
        raise DefenseError(f"{name} logged {len(log)} entries, where bytes for {count} questions were due.")
    return log


def _column(name: str, what: str, values: Tensor | None, count: int) -> list[float]:
    """One finite number for each question; zeros if ``values`` is None."""
    if values is None:
        return [0.0] * count
    numbers = torch.as_tensor(values).detach().double().cpu()
    if tuple(numbers.shape) != (count,) or not numbers.isfinite().all():
        raise DefenseError(f"{name}: {what} has shape {tuple(numbers.shape)}; {count} finite numbers are expected.")
    return numbers.tolist()
