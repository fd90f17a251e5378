"""The records of a service, in SQLite: who asked what, what was answered, what it costs, what the defense remembers.

A request is reserved in one transaction, answered by the model, and settled in another, which is on the disk before an
answer leaves. Requests that are computed together share both. What was reserved by a process that is gone was never
handed out: it is released, and nothing is charged. Questions and answers are append-only; an answer has its question's
number.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fmsteal.base.errors import StoreError
from fmsteal.oracle.ledger import Question
from fmsteal.serve.clients import ServiceClient
from fmsteal.serve.faults import Fault

log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds to wait for another worker's transaction
_CHUNK = 1000
_TABLES = """
create table if not exists meta (name text primary key, value text) without rowid;
create table if not exists clients (
  id integer primary key, name text unique not null, queries integer not null default 0,
  reserved integer not null default 0, usd real not null default 0, free real not null default 0);
create table if not exists requests (
  id integer primary key, client integer not null, key text, body blob not null, first integer not null,
  count integer not null, owner integer not null, settled integer not null default 0, at real not null);
create unique index if not exists by_key on requests (client, key) where key is not null;
create index if not exists reserved on requests (owner) where settled = 0;
create table if not exists questions (
  id integer primary key, client integer not null, image blob not null, nth integer not null);
create index if not exists by_image on questions (client, image);
create table if not exists answers (
  id integer primary key, now real not null, usd real not null, seconds real not null, refused integer not null,
  flags text, log blob, answer blob);
create index if not exists logged on answers (id) where log is not null;
"""


@dataclass(frozen=True)
class Wanted:
    """What a request asks for.

    Attributes:
        client: who sent it.
        key: its Idempotency-Key, if it has one.
        body: a digest of address and body.
        images: the 16-byte digest of each image's pixels.
    """

    client: ServiceClient
    key: str | None
    body: bytes
    images: Sequence[bytes]


@dataclass(frozen=True)
class Reserved:
    """A request that may be answered: its number, its client's, and its questions, numbered from ``first``."""

    request: int
    client: int
    first: int
    price: float
    questions: Sequence[Question]


class AnswerRow(NamedTuple):
    """The answer to one question.

    Attributes:
        answer: float32 ``(width,)``; None if the defense refused the question.
        now: the clock on the wall, in seconds.
        usd: US dollars charged.
        seconds: by how much the defense delays the answer.
        flags: the defense's flags by name.
        log: what the defense is to remember; None if nothing.
    """

    answer: npt.NDArray[np.float32] | None
    now: float
    usd: float
    seconds: float
    flags: Mapping[str, float]
    log: bytes | None


class Usage(NamedTuple):
    """What a client has had so far: answers, and US dollars."""

    queries: int
    usd: float


class Books:
    """One connection to the records; each thread opens its own."""

    def __init__(self, file: Path, clients: Sequence[ServiceClient], identity: Mapping[str, str]) -> None:
        """Open the records, or begin them.

        Args:
            file: the database.
            clients: all who may ask; each gets a number, the first of new records 0.
            identity: what the records belong to: victim, defense, seed, width.

        Raises:
            StoreError: the file cannot be opened, is none of ours, or belongs to another service.
        """
        self._file = file
        try:
            self._db = sqlite3.connect(file, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode = wal")
            with self._transaction():
                for statement in _TABLES.split(";\n"):
                    self._db.execute(statement)
                self._require(identity)
                self._numbers = {client.name: self._number(client.name) for client in clients}
        except sqlite3.Error as error:
            raise StoreError(
                f"The records of the service, {file}, cannot be opened ({error}). Put back a copy, free some space, or "
                "begin new ones: --state FOLDER."
            ) from error

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def usage(self, client: ServiceClient) -> Usage:
        """What a client has had, without what is being answered."""
        return Usage(
            *self._db.execute("select queries, usd from clients where id = ?", (self._numbers[client.name],)).fetchone()
        )

    def release_dead(self) -> int:
        """Release what was reserved by processes that are gone, and by this one; return the number of requests."""
        with self._transaction():
            found = self._db.execute(
                "select id, client, first, count, owner from requests where settled = 0"
            ).fetchall()
            gone = [row for row in found if row[4] == os.getpid() or not _is_alive(row[4])]
            for request, client, first, count, _ in gone:
                self._release(request, client, first, count)
        return len(gone)

    def reserve(self, wanted: Sequence[Wanted], now: float) -> list[Reserved | list[AnswerRow] | Fault]:
        """Reserve requests in their order, in one transaction.

        Returns:
            For each request: its reservation; its entries if it was answered before; or why it is refused.

        Raises:
            sqlite3.Error: nothing was reserved.
        """
        self._db.execute("pragma synchronous = normal")  # a reservation that a power cut loses is none
        with self._transaction():
            return [self._admit(each, now) for each in wanted]

    def settle(self, answered: Sequence[tuple[Reserved, Sequence[AnswerRow]]]) -> None:
        """Record the answers to reserved requests in one transaction; return once they are on the disk.

        Raises:
            sqlite3.Error: nothing was recorded; the reservations are as they were.
        """
        rows = [
            (reserved.first + place, *_packed(entry))
            for reserved, entries in answered
            for place, entry in enumerate(entries)
        ]
        self._db.execute("pragma synchronous = full")
        with self._transaction():
            self._db.executemany("insert into answers values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.executemany(
                "update requests set settled = 1 where id = ?", [(reserved.request,) for reserved, _ in answered]
            )
            for reserved, entries in answered:
                queries = sum(entry.answer is not None for entry in entries)
                self._db.execute(
                    "update clients set reserved = reserved - ?, queries = queries + ?, usd = usd + ? where id = ?",
                    (len(entries), queries, sum(entry.usd for entry in entries), reserved.client),
                )

    def release(self, reserved: Sequence[Reserved]) -> None:
        """Forget reservations that could not be answered.

        Raises:
            sqlite3.Error: they are still there; the next start of the service releases them.
        """
        if not reserved:
            return
        with self._transaction():
            for each in reserved:
                self._release(each.request, each.client, each.first, len(each.questions))

    def read_log(self) -> Iterator[tuple[list[Question], list[bytes]]]:
        """What the defense logged, from the beginning, in parts."""
        last = -1
        while True:
            rows = self._db.execute(
                "select id, client, image, nth, log from answers join questions using (id) where log is not null and "
                "id > ? order by id limit ?", (last, _CHUNK),
            ).fetchall()  # fmt: skip
            if not rows:
                return
            last = rows[-1][0]
            yield [Question(client, image, nth) for _, client, image, nth, _ in rows], [row[4] for row in rows]

    def find_last_moment(self) -> float:
        """The time on the clock of the last answer; 0 if there is none."""
        last = self._db.execute("select now from answers order by id desc limit 1").fetchone()
        return float(last[0]) if last else 0.0

    def _admit(self, wanted: Wanted, now: float) -> Reserved | list[AnswerRow] | Fault:
        client, count = self._numbers[wanted.client.name], len(wanted.images)
        if wanted.key is not None:
            known = self._db.execute(
                "select body, first, count, settled from requests where client = ? and key = ?", (client, wanted.key)
            ).fetchone()
            if known is not None:
                return self._again(wanted, *known)
        queries, reserved, free = self._db.execute(
            "select queries, reserved, free from clients where id = ?", (client,)
        ).fetchone()
        if fault := _refuse(wanted.client, count, queries + reserved, free, now):
            return fault
        rate = wanted.client.per_second
        free = max(free, now) + count / rate if rate else free
        self._db.execute("update clients set reserved = reserved + ?, free = ? where id = ?", (count, free, client))
        questions, first = [], 0
        for place, image in enumerate(wanted.images):
            number, nth = self._db.execute(
                "insert into questions (client, image, nth) values (?1, ?2, (select count(*) from questions where "
                "client = ?1 and image = ?2)) returning id, nth", (client, image),
            ).fetchone()  # fmt: skip
            questions.append(Question(client, image, nth))
            first = first if place else number
        request = self._db.execute(
            "insert into requests (client, key, body, first, count, owner, at) values (?, ?, ?, ?, ?, ?, ?)",
            (client, wanted.key, wanted.body, first, count, os.getpid(), now),
        ).lastrowid
        assert request is not None
        return Reserved(request, client, first, wanted.client.price_per_1000 / 1000, questions)

    def _again(self, wanted: Wanted, body: bytes, first: int, count: int, settled: int) -> list[AnswerRow] | Fault:
        if body != wanted.body:
            return Fault(
                "key_reused",
                f"Idempotency-Key {wanted.key} belongs to another request. Give each request a key of its own.",
            )
        if not settled:
            return Fault("in_progress", "This request is being answered: ask again in a second.", 1.0)
        rows = self._db.execute(
            "select now, usd, seconds, refused, flags, log, answer from answers where id >= ? and id < ? order by id",
            (first, first + count),
        )
        return [_unpacked(*row) for row in rows]

    def _release(self, request: int, client: int, first: int, count: int) -> None:
        self._db.execute("delete from questions where id >= ? and id < ?", (first, first + count))
        self._db.execute("delete from requests where id = ?", (request,))
        self._db.execute("update clients set reserved = reserved - ? where id = ?", (count, client))

    def _number(self, name: str) -> int:
        known = self._db.execute("select id from clients where name = ?", (name,)).fetchone()
        if known is None:
            new = "insert into clients (id, name) values ((select count(*) from clients), ?) returning id"
            known = self._db.execute(new, (name,)).fetchone()
        return int(known[0])

    def _require(self, identity: Mapping[str, str]) -> None:
        self._db.executemany("insert or ignore into meta values (?, ?)", identity.items())
        known = dict(self._db.execute("select name, value from meta").fetchall())
        for name, value in identity.items():
            if known[name] != value:
                raise StoreError(
                    f"{self._file} holds the records of a service with another {name} ({known[name]}, now {value}). "
                    "Give this one a folder of its own: --state FOLDER."
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise


def _refuse(client: ServiceClient, count: int, used: int, free: float, now: float) -> Fault | None:
    """Why a client may not ask ``count`` images now; None if it may. Its rate is free again at ``free``."""
    if client.budget is not None and count > (left := client.budget - used):
        asked = f"{count} image{'s' if count > 1 else ''}"
        return Fault(
            "budget_exhausted",
            f"{asked} asked about with {max(0, left)} of {client.budget} queries left. None was answered or charged.",
        )
    if client.per_second is not None:
        wait = free - max(0.0, 1 - 1 / client.per_second) - now
        if wait > 0:
            return Fault(
                "rate_limited", f"More than {client.per_second:g} images a second. Try again in {wait:.3f} s.", wait
            )
    return None


def _packed(entry: AnswerRow) -> tuple[float, float, float, bool, str | None, bytes | None, bytes | None]:
    flags = json.dumps(dict(entry.flags)) if entry.flags else None
    answer = None if entry.answer is None else entry.answer.tobytes()
    return entry.now, entry.usd, entry.seconds, answer is None, flags, entry.log, answer


def _unpacked(
    now: float, usd: float, seconds: float, refused: int, flags: str | None, log: bytes | None, answer: bytes | None
) -> AnswerRow:
    row = None if refused or answer is None else np.frombuffer(answer, np.float32)
    return AnswerRow(row, now, usd, seconds, json.loads(flags) if flags else {}, log)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
