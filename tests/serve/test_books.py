"""A service's records: what is reserved is settled or released, whoever dies, and no budget is passed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import StoreError
from fmsteal.oracle.ledger import Question
from fmsteal.serve.books import AnswerRow, Books, Reserved, Usage, Wanted
from fmsteal.serve.clients import ServiceClient, digest_key
from fmsteal.serve.faults import Fault

IDENTITY = {"victim": "v", "defense": "d", "seed": "0", "width": "3"}
ANN = ServiceClient("ann", digest_key("ann"), budget=10, price_per_1000=1000.0)
BEN = ServiceClient("ben", digest_key("ben"), per_second=2.0)
SPAWN = multiprocessing.get_context("spawn")


def books(folder: Path, *clients: ServiceClient, **identity: str) -> Books:
    return Books(folder / "service.db", clients or (ANN, BEN), {**IDENTITY, **identity})


def wanted(client: ServiceClient, *images: int, key: str | None = None, body: bytes = b"body") -> Wanted:
    return Wanted(client, key, body, [bytes([image]) * 16 for image in images])


def entries(count: int, log: bytes | None = None, usd: float = 1.0) -> list[AnswerRow]:
    return [AnswerRow(np.full(3, n, np.float32), 5.0, usd, 0.0, {}, log) for n in range(count)]


def reserve_one(of: Books, what: Wanted, now: float = 0.0) -> Reserved:
    (found,) = of.reserve([what], now)
    assert isinstance(found, Reserved), found
    return found


def refuse_one(of: Books, what: Wanted, now: float = 0.0) -> Fault:
    (found,) = of.reserve([what], now)
    assert isinstance(found, Fault), found
    return found


def test_an_answer_is_charged_when_it_is_settled(tmp_path: Path) -> None:
    of = books(tmp_path)
    reserved = reserve_one(of, wanted(ANN, 1, 2, 1))
    assert of.usage(ANN) == (0, 0)
    assert [q.nth for q in reserved.questions] == [0, 0, 1] and {q.client for q in reserved.questions} == {0}
    of.settle([(reserved, [*entries(2), AnswerRow(None, 5.0, 0.0, 0.0, {"odd": 1.0}, b"x")])])
    assert of.usage(ANN) == (2, 2.0) and of.usage(BEN) == (0, 0)
    assert [q.nth for q in reserve_one(of, wanted(ANN, 1)).questions] == [2]
    assert [q.nth for q in reserve_one(of, wanted(BEN, 1)).questions] == [0]


def test_what_is_reserved_counts_for_the_budget_until_it_is_released(tmp_path: Path) -> None:
    of = books(tmp_path)
    first = reserve_one(of, wanted(ANN, *range(6)))
    fault = refuse_one(of, wanted(ANN, *range(5)))
    assert fault.code == "budget_exhausted" and "5 images asked about with 4 of 10 queries left" in fault.message
    of.release([first])
    of.settle([(reserve_one(of, wanted(ANN, *range(10))), entries(10))])
    assert of.usage(ANN) == (10, 10.0)
    assert refuse_one(of, wanted(ANN, 1)).code == "budget_exhausted"


def test_of_requests_reserved_together_one_may_be_refused(tmp_path: Path) -> None:
    found = books(tmp_path).reserve(
        [wanted(ANN, *range(8)), wanted(ANN, 1, 2, 3), wanted(ANN, 1, 2), wanted(BEN, 1)], 0.0
    )
    assert [type(each) for each in found] == [Reserved, Fault, Reserved, Reserved]


def test_a_key_is_answered_once_and_stays_what_it_was(tmp_path: Path) -> None:
    of = books(tmp_path)
    reserved = reserve_one(of, wanted(ANN, 1, 2, key="k"))
    assert refuse_one(of, wanted(ANN, 1, 2, key="k")).code == "in_progress"
    told = [*entries(1), AnswerRow(None, 5.0, 0.0, 3.0, {"odd": 1.0}, b"x")]
    of.settle([(reserved, told)])
    (again,) = of.reserve([wanted(ANN, 1, 2, key="k")], 9.0)
    assert isinstance(again, list)
    assert [e._replace(answer=None) for e in again] == [e._replace(answer=None) for e in told]
    assert np.array_equal(again[0].answer, told[0].answer) and again[1].answer is None  # type: ignore[arg-type]
    assert refuse_one(of, wanted(ANN, 1, 2, key="k", body=b"other")).code == "key_reused"
    assert of.usage(ANN).queries == 1
    assert isinstance(of.reserve([wanted(BEN, 1, key="k")], 0.0)[0], Reserved)  # another client's key


def test_an_exhausted_client_still_gets_what_it_has_paid_for(tmp_path: Path) -> None:
    of = books(tmp_path)
    of.settle([(reserve_one(of, wanted(ANN, *range(10), key="all")), entries(10))])
    assert isinstance(of.reserve([wanted(ANN, *range(10), key="all")], 0.0)[0], list)


def test_a_client_may_ask_as_fast_as_its_rate_and_is_told_when_again(tmp_path: Path) -> None:
    of = books(tmp_path)
    assert [type(of.reserve([wanted(BEN, 1)], 100.0)[0]) for _ in range(3)] == [Reserved, Reserved, Fault]
    fault = refuse_one(of, wanted(BEN, 1), 100.25)
    assert fault.code == "rate_limited" and fault.retry_after == pytest.approx(0.25)
    reserve_one(of, wanted(BEN, 1), 100.5)
    reserve_one(of, wanted(BEN, *range(20)), 102.0)  # a batch is let through, and waited for afterwards
    assert refuse_one(of, wanted(BEN, 1), 103.0).retry_after == pytest.approx(8.5)
    for rate, waits in ((0.5, 2.0), (1.0, 1.0)):
        slow = ServiceClient(f"slow{rate}", digest_key(f"slow{rate}"), per_second=rate)
        other = Books(tmp_path / f"{rate}.db", [slow], IDENTITY)
        reserve_one(other, wanted(slow, 1), 7.0)
        assert refuse_one(other, wanted(slow, 1), 7.0).retry_after == pytest.approx(waits)


def test_nothing_is_left_of_a_settlement_that_does_not_fit_on_the_disk(tmp_path: Path) -> None:
    of = books(tmp_path)
    reserved = reserve_one(of, wanted(ANN, 1))
    db = of._db
    db.execute(f"pragma max_page_count = {db.execute('pragma page_count').fetchone()[0]}")
    with pytest.raises(sqlite3.Error, match="full"):
        of.settle([(reserved, entries(1, log=bytes(10**5)))])
    assert of.usage(ANN) == (0, 0)
    db.execute("pragma max_page_count = 100000")
    of.settle([(reserved, entries(1))])
    assert of.usage(ANN) == (1, 1.0)


def test_the_log_comes_back_in_order_and_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmsteal.serve.books._CHUNK", 2)
    of = books(tmp_path)
    for at in range(3):
        of.settle([(reserve_one(of, wanted(BEN, at, at), 100.0 * at), entries(2, log=bytes([at])))])
    parts = list(of.read_log())
    assert [logged for _, logged in parts] == [[b"\0", b"\0"], [b"\1", b"\1"], [b"\2", b"\2"]]
    assert parts[2][0] == [Question(1, bytes([2]) * 16, 0), Question(1, bytes([2]) * 16, 1)]
    assert of.find_last_moment() == 5.0 and books(tmp_path).find_last_moment() == 5.0


def test_records_of_another_service_are_refused_by_what_differs(tmp_path: Path) -> None:
    books(tmp_path).close()
    with pytest.raises(StoreError, match=r"another defense \(d, now e\).*--state FOLDER"):
        books(tmp_path, defense="e")
    (tmp_path / "service.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match=r"cannot be opened .*--state FOLDER"):
        books(tmp_path)


def test_clients_keep_their_numbers_when_others_come_and_go(tmp_path: Path) -> None:
    of = books(tmp_path, ANN)
    of.settle([(reserve_one(of, wanted(ANN, 1)), entries(1))])
    of.close()
    of = books(tmp_path, BEN, ANN)
    assert of.usage(ANN) == Usage(1, 1.0)
    assert [reserve_one(of, wanted(client, 1)).client for client in (ANN, BEN)] == [0, 1]


def _ask_until_refused(folder: str, told: multiprocessing.Queue[tuple[int, str]]) -> None:
    of, granted = Books(Path(folder) / "service.db", [BIG], IDENTITY), 0
    while True:
        (found,) = of.reserve([wanted(BIG, 1, 2, 3)], 0.0)
        if isinstance(found, Fault):
            return told.put((granted, found.code))
        assert isinstance(found, Reserved)
        of.settle([(found, entries(3))])
        granted += 3


BIG = ServiceClient("big", digest_key("big"), budget=200)


def test_processes_that_share_a_budget_do_not_pass_it(tmp_path: Path) -> None:
    Books(tmp_path / "service.db", [BIG], IDENTITY).close()
    told: multiprocessing.Queue[tuple[int, str]] = SPAWN.Queue()
    processes = [SPAWN.Process(target=_ask_until_refused, args=(str(tmp_path), told)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [told.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sum(granted for granted, _ in found) == 198 and {code for _, code in found} == {"budget_exhausted"}
    assert Books(tmp_path / "service.db", [BIG], IDENTITY).usage(BIG) == (198, 198.0)


def _reserve_and_die(folder: str, images: Sequence[int]) -> None:
    reserve_one(books(Path(folder)), wanted(ANN, *images, key="k"))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_had_reserved_is_released_and_may_be_asked_again(tmp_path: Path) -> None:
    process = SPAWN.Process(target=_reserve_and_die, args=(str(tmp_path), range(10)))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    of = books(tmp_path)
    assert refuse_one(of, wanted(ANN, 1)).code == "budget_exhausted"
    assert (of.release_dead(), of.release_dead()) == (1, 0)
    again = reserve_one(of, wanted(ANN, *range(10), key="k"))
    assert [q.nth for q in again.questions] == [0] * 10
    of.settle([(again, entries(10))])
    assert of.usage(ANN) == (10, 10.0)
