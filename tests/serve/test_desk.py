"""Victim, defense and records together: batches, failures, restarts, and what a full disk does."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fmsteal.oracle.guard import Ask, Guard, Reply
from fmsteal.serve.books import Books, Wanted
from fmsteal.serve.clients import ServiceClient, digest_key
from fmsteal.serve.desk import Answered, Counsel, Order, ServiceDesk
from fmsteal.serve.faults import Fault
from tests.support.guards import Charges, Counts, Delays, Refuses, Stateless

WIDTH = 3
ANN = ServiceClient("ann", digest_key("ann"), budget=100, price_per_1000=1000.0)
BEN = ServiceClient("ben", digest_key("ben"))
POISON, NAN = 250, 251  # values of pixels that the victim cannot stand


class Plain(Stateless):
    """The answers as they are."""

    def reply(self, ask: Ask) -> Reply:
        return Reply(ask.answers)


class Fours(Stateless):
    """A guard of batches of four: adds the sum of the batch's first column."""

    batch = 4

    def reply(self, ask: Ask) -> Reply:
        return Reply(ask.answers + 0 * ask.answers + ask.images().float().sum() / 1000)


def raw(images: Tensor) -> Tensor:
    if (images == POISON).any():
        raise RuntimeError("poison")
    rows = images.float().flatten(1)[:, :WIDTH] / 100
    return torch.where((images == NAN).flatten(1).any(1)[:, None], torch.nan, rows)


class Desk:
    """A desk with its records, that can be opened again."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.books = Books(folder / "service.db", [ANN, BEN], {"victim": "v"})
        self.books.release_dead()
        self.guard = guard
        self.desk = ServiceDesk(Counsel("theirs", "all", guard, raw, lambda rows: rows.softmax(1), 0), self.books)

    def ask(
        self, *requests: tuple[ServiceClient, Sequence[int]], keys: Sequence[str | None] = ()
    ) -> list[Answered | Fault]:
        """Send requests at once; an image is named by the value of its pixels."""
        orders = []
        for (client, values), key in itertools.zip_longest(requests, keys):
            pixels = torch.tensor(list(values), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous()
            images = [bytes([value]) * 16 for value in values]
            orders.append(Order(Wanted(client, key, bytes(values), images), pixels))
        return self.desk.answer(orders)


def rows(found: Answered | Fault) -> np.ndarray:
    assert isinstance(found, Answered), found
    return np.stack([entry.answer for entry in found.entries if entry.answer is not None])


def code(found: Answered | Fault) -> str:
    assert isinstance(found, Fault), found
    return found.code


def test_requests_of_several_clients_are_answered_together_and_charged_apart(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Plain())
    ann, ben = desk.ask((ANN, [1, 2]), (BEN, [3]))
    due = raw(torch.arange(1, 4, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)).softmax(1).numpy()
    assert np.array_equal(rows(ann), due[:2]) and np.array_equal(rows(ben), due[2:])
    assert desk.books.usage(ANN) == (2, 2.0) and desk.books.usage(BEN) == (1, 0.0)


def test_a_budget_that_ends_in_the_middle_of_a_batch_is_not_begun(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Plain())
    first, second, third = desk.ask((ANN, range(99)), (ANN, [1, 2]), (BEN, [1]))
    assert (len(rows(first)), code(second), len(rows(third))) == (99, "budget_exhausted", 1)
    assert desk.books.usage(ANN) == (99, 99.0)


@pytest.mark.parametrize("value", [POISON, NAN])
def test_an_image_that_the_model_fails_on_harms_its_own_request_alone(value: int, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Counts("all"))
    found = desk.ask((ANN, [1]), (BEN, [2, value]), (BEN, [3]))
    assert [type(each) for each in found] == [Answered, Fault, Answered] and code(found[1]) == "failed"
    assert desk.books.usage(BEN).queries == 1
    (tmp_path / "alone").mkdir()
    alone = Desk(tmp_path / "alone", Counts("all"))
    due = [alone.ask((ANN, [1]))[0], alone.ask((BEN, [3]))[0]]
    assert np.array_equal(rows(found[0]), rows(due[0])) and np.array_equal(rows(found[2]), rows(due[1]))


def test_what_a_defense_charges_delays_and_refuses_is_recorded(tmp_path: Path) -> None:
    for name, guard in (("a", Charges()), ("b", Delays()), ("c", Refuses())):
        (tmp_path / name).mkdir()
        desk = Desk(tmp_path / name, guard)
        (found,) = desk.ask((ANN, [1, 1, 2]))
        assert isinstance(found, Answered)
        if name == "a":
            assert [entry.usd for entry in found.entries] == [1.5] * 3 and desk.books.usage(ANN) == (3, 4.5)
        if name == "b":
            assert [entry.seconds for entry in found.entries] == [2.0] * 3
        if name == "c":
            assert [entry.answer is None for entry in found.entries] == [False, True, False]
            assert desk.books.usage(ANN) == (2, 4.0)


@pytest.mark.parametrize("depends", ["client", "all"])
def test_a_restart_or_another_cut_of_the_same_order_changes_no_answer(depends: str, tmp_path: Path) -> None:
    stream = [(BEN if n % 3 else ANN, [n % 17]) for n in range(40)]

    def play(name: str, size: int, restart: bool) -> list[bytes | None]:
        (tmp_path / name).mkdir()
        desk, told = Desk(tmp_path / name, Counts(depends)), []  # type: ignore[arg-type]
        for at in range(0, len(stream), size):
            for found in desk.ask(*stream[at : at + size]):
                assert isinstance(found, Answered)
                told += [None if entry.answer is None else entry.answer.tobytes() for entry in found.entries]
            if restart:
                state = desk.guard.state  # type: ignore[attr-defined]
                desk.books.close()
                desk = Desk(tmp_path / name, Counts(depends))  # type: ignore[arg-type]
                assert desk.guard.state == state  # type: ignore[attr-defined]
        return told

    whole = play("whole", 40, False)
    assert None in whole and whole == play("single", 1, False) == play("again", 7, True)


def test_a_batch_is_filled_by_several_requests(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Fours())
    first, second = (desk.ask((ANN, values))[0] for values in ([1, 2, 3], [4, 5]))
    base = raw(torch.arange(1, 6, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)).softmax(1).numpy()
    assert np.allclose(rows(first) - base[:3], 48 * 6 / 1000, atol=1e-6)
    assert np.allclose(rows(second) - base[3:], np.array([[48 * 10 / 1000], [48 * 5 / 1000]]), atol=1e-6)


def test_a_full_disk_answers_and_charges_nothing_and_the_service_goes_on_after_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Counts("all"))
    desk.ask((ANN, [1]))
    state, db = desk.guard.state, desk.books._db  # type: ignore[attr-defined]
    db.execute(f"pragma max_page_count = {db.execute('pragma page_count').fetchone()[0]}")
    codes = {code(found) for _ in range(3) for found in desk.ask((BEN, range(100)), (BEN, range(100)))}
    assert codes == {"storage"}
    assert desk.guard.state == state and desk.books.usage(BEN) == (0, 0)  # type: ignore[attr-defined]
    db.execute("pragma max_page_count = 100000")
    assert len(rows(desk.ask((ANN, [2]))[0])) == 1 and desk.books.usage(ANN).queries == 2


@contextmanager
def room_for(size: int, file: Path) -> Iterator[None]:
    """No file of this process may grow past the size of ``file`` and so many bytes more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_reservation_that_a_full_disk_has_left_is_released_once_there_is_room(tmp_path: Path) -> None:
    """Room for nothing, then for the reservation alone, and at last for the answers too."""
    desk, codes, left = Desk(tmp_path, Plain()), list[str](), list[int]()
    db, log = desk.books._db, tmp_path / "service.db-wal"
    db.execute("pragma wal_autocheckpoint = 0")  # so that the log grows with each page
    for room in range(0, 70_000, 4_120):  # a page of the log and its head
        with room_for(room, log):
            (found,) = desk.ask((BEN, range(10)), keys=[f"k{room}"])
        codes += [found.code] if isinstance(found, Fault) else []
        left.append(db.execute("select count(*) from requests where settled = 0").fetchone()[0])
        (again,) = desk.ask((BEN, range(10)), keys=[f"k{room}"])
        assert isinstance(again, Answered) and again.replayed == isinstance(found, Answered), (room, again)
        assert db.execute("select sum(reserved) from clients").fetchone() == (0,)
    assert set(codes) == {"storage"} and desk.books.usage(BEN).queries == 170
    assert 1 in left, "no reservation was left"


def test_the_same_key_is_replayed_and_the_defense_does_not_see_it_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Counts("all"))
    first = desk.ask((ANN, [1]), keys=["k"])[0]
    state = desk.guard.state  # type: ignore[attr-defined]
    again, other = desk.ask((ANN, [1]), (ANN, [2]), keys=["k", "k"])
    assert isinstance(again, Answered) and again.replayed and np.array_equal(rows(again), rows(first))
    assert code(other) == "key_reused" and desk.guard.state == state  # type: ignore[attr-defined]


def test_a_defense_that_loses_its_state_stops_the_service(tmp_path: Path) -> None:
    class Forgets(Counts):
        def fold(self, questions: object, log: object) -> None:
            raise OSError("gone")

    desk = Desk(tmp_path, Forgets("all"))
    assert len(rows(desk.ask((ANN, [1]))[0])) == 1  # it is recorded, and leaves
    assert code(desk.ask((ANN, [2]))[0]) == "failed" and desk.books.usage(ANN).queries == 1
