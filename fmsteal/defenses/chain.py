"""Several defenses in a row: each sees the output of the one before it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError, DefenseError
from fmsteal.config.answers import Answers
from fmsteal.defenses.base import Defense, name_of, prepare
from fmsteal.defenses.replacing import find_server, is_replacing
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question
from fmsteal.oracle.replies import Said, hear
from fmsteal.oracle.simulated import simulate

if TYPE_CHECKING:
    from fmsteal.data.images import Images
    from fmsteal.training.context import Context
    from fmsteal.victims.base import Victim

_ORDER: tuple[Depends, ...] = ("row", "client", "all", "batch")
_LENGTH = struct.Struct("<i")


class Chain:
    """A defense of defenses, applied in the order of their names, whatever order they are given in.

    Charges and delays add up. A question that one defense refuses is refused, and later ones do not see it. A flag
    keeps its name; if two defenses use the same one, it is prefixed with the defense's name. All see the clock as it
    was when the question was asked.
    """

    def __init__(self, of: Mapping[str, Defense]) -> None:
        if not of:
            raise ConfigError(
                "defense.of must name at least one defense: defense=chain +defense@defense.of.a=top_k "
                "+defense@defense.of.b=rounding."
            )
        kinds = {name: kind for name, link in of.items() if (kind := getattr(link, "answers", None)) is not None}
        if len(set(kinds.values())) > 1:
            said = ", ".join(f"{name} ({name_of(of[name])}) for {kind}" for name, kind in kinds.items())
            raise ConfigError(f"defense.of chains defenses of different answers: {said}.")
        depends: dict[str, Depends] = {name: getattr(link, "depends", "row") for name, link in of.items()}
        if "batch" in depends.values() and {"client", "all"} & set(depends.values()):
            said = ", ".join(f"{name} on {what}" for name, what in depends.items())
            raise ConfigError(
                f"defense.of chains one that depends on a batch with one that remembers ({said}): a batch is shown to "
                "its defense again when it fills up, and the other would count its questions twice."
            )
        first, *later = sorted(of)
        if late := [name for name in later if is_replacing(of[name])]:
            raise ConfigError(
                f"defense.of.{late[0]} ({name_of(of[late[0]])}) answers by networks of its own, whatever comes before "
                f"it: it comes first, before {first}, in the order of the names."
            )
        self.of = dict(sorted(of.items()))
        self.answers: Answers | None = next(iter(kinds.values()), None)
        self.replaces = is_replacing(of[first])
        self.depends: Depends = max(depends.values(), key=_ORDER.index)

    def prepare(self, victim: Victim, train: Images, ctx: Context) -> Guard:
        """Prepare each defense; each takes the width of the one before it as the victim's."""
        links: list[Link] = []
        for name, defense in self.of.items():
            seen = cast("Victim", _Narrowed(victim, links[-1].guard.width)) if links else victim
            guard = prepare(defense, seen, train, ctx)
            links.append(Link(name, name_of(defense), guard, salt=name if links else ""))
        batches = {link.name: link.guard.batch for link in links if hasattr(link.guard, "batch")}
        if len(set(batches.values())) > 1:
            raise ConfigError(f"defense.of chains defenses of different batches: {batches}.")
        return ChainGuard(links, next(iter(batches.values()), None))

    def simulate(self, width: int, seed: int) -> Guard:
        """The chain without a victim, where each of its defenses can be simulated (`fmsteal.oracle.simulated`)."""
        links: list[Link] = []
        for name, defense in self.of.items():
            guard = simulate(defense, links[-1].guard.width if links else width, seed)
            links.append(Link(name, name_of(defense), guard, salt=name if links else ""))
        return ChainGuard(links, None)


@dataclass(frozen=True)
class Link:
    """One guard of a chain.

    Attributes:
        name: its name in the chain.
        defense: the name of its defense, for error messages.
        guard: the guard.
        salt: separates its random numbers from those of the other guards; the first one draws as if it were alone.
    """

    name: str
    defense: str
    guard: Guard
    salt: str


class ChainGuard:
    """A guard of guards."""

    def __init__(self, links: Sequence[Link], batch: int | None) -> None:
        self.width = links[-1].guard.width
        self._links = links
        if batch is not None:
            self.batch = batch
        if (serve := find_server(links[0].guard)) is not None:
            self.serve = serve

    def reply(self, ask: Ask) -> Reply:
        """Let each guard reply to the output of the one before it."""
        count = len(ask.questions)
        heard: list[tuple[Sequence[int], Said]] = []
        rows: list[int] = list(range(count))
        answers = ask.answers
        for link in self._links:
            part = ask if len(rows) == count else ask.part(rows)
            said = hear(link.guard, replace(part, answers=answers, salt=link.salt), link.defense)
            heard.append((rows, said))
            kept = [at for at, no in enumerate(said.refused) if not no]
            answers = said.answers if len(kept) == len(rows) else said.answers[torch.tensor(kept, dtype=torch.long)]
            rows = [rows[at] for at in kept]
        if all(said.rows is None for _, said in heard):
            return Reply(answers)
        return self._joined(count, rows, answers, heard)

    def _joined(
        self, count: int, rows: Sequence[int], answers: Tensor, heard: Sequence[tuple[Sequence[int], Said]]
    ) -> Reply:
        refused = torch.ones(count, dtype=torch.bool)
        whole = torch.zeros(count, self.width)
        if rows:
            refused[list(rows)], whole[list(rows)] = False, answers
        usd, seconds = torch.zeros(2, count, dtype=torch.float64)
        flags: dict[str, Tensor] = {}
        logs: list[list[bytes | None]] = [[None] * len(self._links) for _ in range(count)]
        names = self._flag_names(heard)
        for number, (asked, said) in enumerate(heard):
            for row, wrote in zip(asked, said.rows or (), strict=False):
                usd[row] += wrote.usd
                seconds[row] += wrote.seconds
                logs[row][number] = wrote.log
                for flag, value in wrote.flags.items():
                    flags.setdefault(names[number, flag], torch.zeros(count, dtype=torch.float64))[row] = value
        remembers = any(log is not None for row in logs for log in row)
        return Reply(whole, [_packed(row) for row in logs] if remembers else None, usd, seconds, flags, refused)

    def _flag_names(self, heard: Sequence[tuple[Sequence[int], Said]]) -> dict[tuple[int, str], str]:
        used = [{flag for row in said.rows or () for flag in row.flags} for _, said in heard]
        every = [flag for flags in used for flag in flags]
        return {
            (number, flag): flag if every.count(flag) == 1 else f"{self._links[number].name}/{flag}"
            for number, flags in enumerate(used)
            for flag in flags
        }

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        """Give each guard its own part of the log."""
        parts = [_unpacked(packed, len(self._links)) for packed in log]
        for number, link in enumerate(self._links):
            own = [(q, part[number]) for q, part in zip(questions, parts, strict=True) if part[number] is not None]
            if own:
                link.guard.fold([question for question, _ in own], [entry for _, entry in own if entry is not None])


class _Narrowed:
    """A victim as the next defense of a chain sees it: its width is that of the previous defense's answers."""

    def __init__(self, victim: Victim, width: int) -> None:
        self._victim, self.width = victim, width

    def __getattr__(self, name: str) -> Any:
        return getattr(self._victim, name)


def _packed(parts: Sequence[bytes | None]) -> bytes:
    return b"".join(_LENGTH.pack(-1) if part is None else _LENGTH.pack(len(part)) + part for part in parts)


def _unpacked(packed: bytes, count: int) -> list[bytes | None]:
    parts: list[bytes | None] = []
    at = 0
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        parts.append(None if length < 0 else packed[at : at + length])
        at += max(0, length)
    if at != len(packed):
        raise DefenseError(f"The log is of another chain than this one of {count} defenses.")
    return parts
