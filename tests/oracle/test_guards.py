"""Guards that charge, delay, flag, refuse, widen and remember, in front of a real oracle."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.base.errors import BudgetExceeded, DefenseError, LedgerError, VictimError
from fmsteal.defenses.base import NoDefense, RowDefense, RowGuard, name_of, prepare
from fmsteal.oracle import blocks
from fmsteal.oracle.defense_log import DefenseLog
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Ledger, Question
from tests.support.guards import (
    LOGITS,
    POOL,
    WIDTH,
    Charges,
    Counts,
    Delays,
    Flags,
    Refuses,
    Stateless,
    Widens,
    api,
    files,
    patient,
)

FIRST = np.arange(10)
Asks = list[tuple[list[int], int]]  # pool ids, and who asks


def test_a_charge_comes_on_top_and_is_known_after_a_restart(tmp_path: Path) -> None:
    oracle = api(tmp_path, Charges())
    oracle.ask(FIRST[:4])
    oracle.ask(FIRST[:2], client=1)
    assert oracle.costs() == {"cost/defense_usd": 2.5} and oracle.used == 6
    again = api(tmp_path, Charges())
    assert again.costs() == oracle.costs()
    again.ask(FIRST[:4])
    assert again.costs() == oracle.costs(), "charged twice"


def test_a_delay_moves_the_clock_and_nobody_sleeps(tmp_path: Path) -> None:
    oracle = api(tmp_path, Delays())
    first = torch.cat([oracle.ask(FIRST[:3]), oracle.ask(FIRST[3:5])])
    assert first[:, 0].tolist() == [0, 2, 4, 6, 8] and oracle.costs() == {"cost/delay_seconds": 10.0}
    again = api(tmp_path, Delays())
    assert again.ask(FIRST[:5])[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert again.ask(FIRST[5:6])[:, 0].tolist() == [10] and again.costs() == {"cost/delay_seconds": 12.0}


def test_flags_are_summed_by_name(tmp_path: Path) -> None:
    oracle = api(tmp_path, Flags())
    oracle.ask(FIRST)
    assert oracle.costs() == {"cost/flags/again": 0.0}
    oracle.ask(FIRST[:3])
    assert oracle.costs() == {"cost/flags/again": 3.0} == api(tmp_path, Flags()).costs()


def test_what_is_refused_is_neither_answered_nor_charged_and_stays_refused(tmp_path: Path) -> None:
    oracle = api(tmp_path, Refuses(), budget=6)
    answers, answered = patient(lambda: oracle.ask(np.array([0, 1, 0, 2])))
    assert answered.tolist() == [True, True, False, True]
    torch.testing.assert_close(answers, LOGITS[[0, 1, 2]].softmax(1))
    assert oracle.used == 3 and oracle.costs() == {"cost/defense_usd": 3.0, "cost/refused": 1}
    again = api(tmp_path, Charges(), budget=6, defense="tests.support.guards.Refuses")  # one that refuses nothing
    replayed, answered = patient(lambda: again.ask(np.array([0, 1, 0, 2])))
    torch.testing.assert_close(replayed, answers, rtol=0, atol=0)
    assert answered.tolist() == [True, True, False, True] and again.costs() == oracle.costs()
    assert patient(lambda: oracle.ask(np.array([0, 1])))[0].shape == (0, WIDTH)
    with pytest.raises(BudgetExceeded):
        oracle.ask(np.array([3, 4, 5, 6]))
    assert oracle.ask(np.array([3, 4, 5])).shape == (3, WIDTH)


def test_a_refusal_names_the_defense_and_counts(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"some\.Defense refused 2 of 3 questions"):
        api(tmp_path, Refuses(), defense="some.Defense").ask(np.array([0, 0, 0]))


def test_a_wider_answer_is_what_the_ledger_holds(tmp_path: Path) -> None:
    oracle = api(tmp_path, Widens())
    assert oracle.width == 6 and oracle.ask(FIRST[:0]).shape == (0, 6)
    torch.testing.assert_close(oracle.ask(FIRST), torch.cat([LOGITS[:10].softmax(1), LOGITS[:10]], dim=1))
    assert Ledger(tmp_path / "ledger.bin", "job").answers.shape == (10, 6)
    with pytest.raises(LedgerError, match="width from 6 to 3"):
        api(tmp_path, RowGuard(NoDefense(), WIDTH))


def test_a_guard_that_says_nothing_but_answers_has_no_log(tmp_path: Path) -> None:
    oracle = api(tmp_path, RowGuard(NoDefense(), WIDTH))
    oracle.ask(FIRST)
    assert sorted(files(tmp_path)) == ["ledger.bin", "ledger.head"] and oracle.costs() == {}


def test_pixels_are_read_only_by_a_defense_that_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Looks(RowDefense):
        def protect(self, answers: Tensor, ask: Ask) -> Tensor:
            assert ask.images().shape == (len(answers), 3, 4, 4) and ask.images().dtype == torch.uint8
            return answers

    api(tmp_path, RowGuard(Looks(), WIDTH)).ask(FIRST)
    monkeypatch.setattr(
        torch, "from_numpy", lambda array: pytest.fail("copied") if array.ndim == 4 else torch.tensor(array)
    )
    api(tmp_path / "other", RowGuard(NoDefense(), WIDTH)).ask(FIRST)


class Wrong(Stateless):
    """Returns whatever it is given."""

    def __init__(self, said: Any) -> None:
        super().__init__()
        self._said = said

    def reply(self, ask: Ask) -> Reply:
        return self._said(ask)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (lambda ask: Reply(ask.answers[:, :2]), r"Wrong returned \(10, 2\) where \(10, 3\) was due"),
        (lambda ask: Reply(ask.answers[:9]), r"returned \(9, 3\) where \(10, 3\)"),
        (lambda ask: Reply(ask.answers.argmax(1)), r"returned torch.int64 \(10,\)"),
        (lambda ask: Reply(ask.answers.numpy()), "returned ndarray"),
        (lambda ask: ask.answers, "returned Tensor, where a Reply"),
        (lambda ask: Reply(ask.answers / 0), "10 of 10 questions with NaN"),
        (lambda ask: Reply(ask.answers, log=[b""]), "logged 1 entries"),
        (lambda ask: Reply(ask.answers, usd=torch.ones(3)), r"usd has shape \(3,\)"),
        (lambda ask: Reply(ask.answers, usd=-torch.ones(10)), "negative"),
        (lambda ask: Reply(ask.answers, flags={"odd": torch.ones(10, 2)}), "flag odd has shape"),
        (lambda ask: {}["nothing"], "failed to answer .KeyError"),
    ],
)
def test_what_a_defense_does_wrong_is_its_own_fault_at_the_first_answer(
    tmp_path: Path, said: object, match: str
) -> None:
    oracle = api(tmp_path, Wrong(said))
    with pytest.raises(DefenseError, match=match) as error:
        oracle.ask(FIRST)
    assert str(error.value).startswith(f"{Wrong.__module__}.Wrong")
    assert oracle.used == 0 and not list(tmp_path.iterdir())


def test_doubles_leave_as_floats(tmp_path: Path) -> None:
    assert api(tmp_path, Wrong(lambda ask: Reply(ask.answers.double()))).ask(FIRST).dtype == torch.float32


def test_a_victim_that_answers_no_numbers_is_not_the_defenses_fault(tmp_path: Path) -> None:
    oracle = api(tmp_path, RowGuard(NoDefense(), WIDTH))
    oracle._pool_images = lambda ids, questions: blocks.Shown(
        "pool", lambda rows: LOGITS[: len(rows)] / 0, lambda rows: LOGITS
    )
    with pytest.raises(VictimError, match="10 of 10"):
        oracle.ask(FIRST)


def test_what_cannot_be_prepared_is_named() -> None:
    class Fails(RowDefense):
        def prepare(self, *args: Any) -> Guard:
            return {}["nothing"]

    class Nothing(RowDefense):
        def prepare(self, *args: Any) -> Guard:
            return None  # type: ignore[return-value]

    with pytest.raises(DefenseError, match=r"Fails could not be prepared .KeyError"):
        prepare(Fails(), None, None, None)  # type: ignore[arg-type]
    with pytest.raises(DefenseError, match=r"Nothing prepared a NoneType.*lacks reply, fold, width"):
        prepare(Nothing(), None, None, None)  # type: ignore[arg-type]
    with pytest.raises(DefenseError, match=r"builtins\.object has no prepare"):
        prepare(object(), None, None, None)  # type: ignore[arg-type]
    assert name_of(NoDefense()) == "fmsteal.defenses.base.NoDefense"


def test_the_pipeline_is_asked_before_a_block_and_told_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "ANSWERED_AT_ONCE", 4)
    told: list[Any] = []

    def before() -> None:
        told.append("before")
        if told.count("before") > 3:
            raise LedgerError("lost")

    oracle = api(tmp_path, Refuses(), before_block=before, account=told.append)
    patient(lambda: oracle.ask(np.array([0, 1, 0, 2, 3])))
    assert told == ["before", 3, "before", 1]
    oracle.ask(np.array([4]))
    with pytest.raises(LedgerError, match="lost"):
        oracle.ask(np.array([5]))
    assert oracle.used == 5 and told[-2:] == [1, "before"]


# State


def run(folder: Path, asks: Asks, depends: Depends, guard: Counts | None = None) -> tuple[list[Any], Counts]:
    """What each question got, and the guard after it."""
    guard = guard or Counts(depends)
    oracle = api(folder, guard)
    received: list[Any] = []
    for ids, client in asks:
        answers, answered = patient(lambda i=ids, c=client: oracle.ask(np.array(i, dtype=int), c))  # type: ignore[misc]
        rows = iter(answers.tolist())
        received += [next(rows) if yes else None for yes in answered]
    return [*received, oracle.costs()], guard


def split(asks: Asks, cuts: Sequence[int]) -> Asks:
    """The same questions in the same order, each ask cut into pieces."""
    return [(ids[a:b], client) for ids, client in asks for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]


ANY_ASKS = st.lists(st.tuples(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 2)), max_size=5)


@given(ANY_ASKS, st.lists(st.integers(0, 12), max_size=4).map(sorted), st.sampled_from(["client", "all"]))
@settings(max_examples=60)
def test_any_partition_of_one_order_is_answered_alike(
    tmp_path_factory: pytest.TempPathFactory, asks: Asks, cuts: list[int], depends: Depends
) -> None:
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    whole, guard = run(one, asks, depends)
    parts, again = run(other, split(asks, cuts), depends)
    assert parts == whole and again.state == guard.state and files(one) == files(other)


@given(ANY_ASKS, st.data(), st.sampled_from(["client", "all"]))
@settings(max_examples=60)
def test_files_cut_anywhere_lead_to_the_same_state(
    tmp_path_factory: pytest.TempPathFactory, asks: Asks, data: st.DataObject, depends: Depends
) -> None:
    """A kill leaves a beginning of the log, and of the ledger a beginning that is not ahead of it."""
    folder = tmp_path_factory.mktemp("run")
    whole, guard = run(folder, asks, depends)
    left = files(folder)
    if "ledger.bin" in left and data.draw(st.booleans(), "the log is torn"):
        (folder / "defense.log").write_bytes(left["defense.log"][: data.draw(st.integers(0, len(left["defense.log"])))])
        rows, _ = DefenseLog(folder / "defense.log", "job", "tests.support.guards.Counts")._read()
        answered, header = sum(not row.refused for row in rows), left["ledger.bin"].index(b"\n") + 1
        (folder / "ledger.bin").write_bytes(left["ledger.bin"][: header + answered * (28 + 4 * WIDTH)])
    elif "ledger.bin" in left:
        (folder / "ledger.bin").write_bytes(left["ledger.bin"][: data.draw(st.integers(0, len(left["ledger.bin"])))])
    received, again = run(folder, asks, depends)
    assert received == whole and again.state == guard.state and files(folder) == left


def test_blocks_of_any_size_are_answered_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noise(RowDefense):
        def protect(self, answers: Tensor, ask: Ask) -> Tensor:
            draws = [torch.randn(WIDTH, generator=ask.generator(row)) for row in range(len(answers))]
            return answers + torch.stack(draws)

    ids = np.arange(len(POOL)).repeat(2)
    seen = []
    for size in (1, 7, 512):
        monkeypatch.setattr(blocks, "ANSWERED_AT_ONCE", size)
        rows = api(tmp_path / f"row{size}", RowGuard(Noise(), WIDTH)).ask(ids)
        seen.append((rows.tolist(), run(tmp_path / f"all{size}", [(ids.tolist(), 0)], "all")[0]))
    assert seen[0] == seen[1] == seen[2]


def test_noise_may_be_the_images_or_the_clients_own() -> None:
    def draw(client: int, image: int, nth: int, per: str) -> float:
        ask = Ask([Question(client, bytes([image]) * 16, nth)], LOGITS[:1], LOGITS[:1], lambda: LOGITS)
        return float(torch.randn(1, generator=ask.generator(0, per=per)))  # type: ignore[arg-type]

    assert draw(0, 1, 0, "image") == draw(2, 1, 3, "image") != draw(0, 2, 0, "image")
    assert draw(2, 1, 0, "client") == draw(2, 5, 3, "client") != draw(0, 1, 0, "client")
    assert len({draw(0, 1, 0, per) for per in ("ask", "image", "client")}) == 3


def test_the_noise_of_an_ask_is_what_it_always_was() -> None:
    ask = Ask([Question(3, bytes(range(16)), 2)], LOGITS[:1], LOGITS[:1], lambda: LOGITS, seed=7)
    name = b"7/3/000102030405060708090a0b0c0d0e0f/2"
    seed = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest()) >> 1
    assert ask.generator(0).initial_seed() == seed


# The log


def test_a_damaged_log_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    run(tmp_path, [([0, 1, 2], 0)], "client")
    content = (tmp_path / "defense.log").read_bytes()
    for byte in range(len(content)):
        damaged = content[:byte] + bytes([content[byte] ^ 1]) + content[byte + 1 :]
        (tmp_path / "defense.log").write_bytes(damaged)
        with pytest.raises(LedgerError, match=r"defense\.log"):
            api(tmp_path, Counts())
        assert (tmp_path / "defense.log").read_bytes() == damaged


def test_another_defenses_log_is_refused(tmp_path: Path) -> None:
    run(tmp_path, [([0, 1, 2], 0)], "client")
    with pytest.raises(LedgerError, match=r"log of tests\.support\.guards\.Counts in job job, not of another\.Defense"):
        api(tmp_path, Counts(), defense="another.Defense")


def test_a_row_whose_answer_was_lost_is_skipped_and_counted_once_when_asked_again(tmp_path: Path) -> None:
    run(tmp_path, [([0, 1, 2], 0)], "client")
    content = bytearray((tmp_path / "ledger.bin").read_bytes())
    record = 28 + 4 * WIDTH
    content[-record - 5] ^= 3  # the answer to the second question
    (tmp_path / "ledger.bin").write_bytes(content)
    guard = Counts()
    oracle = api(tmp_path, guard)
    assert guard.seen == {0: 2}
    oracle.ask(np.array([0, 1, 2]))
    assert guard.seen == {0: 3}
    again = Counts()
    api(tmp_path, again)
    assert again.state == guard.state


# Batches


class Means:
    """Answers the mean of the batch: every row depends on all of its batch."""

    width, batch = WIDTH, 4

    def __init__(self) -> None:
        self.batches: list[int] = []

    def reply(self, ask: Ask) -> Reply:
        self.batches.append(len(ask.questions))
        assert len(ask.images()) == len(ask.raw) == len(ask.questions)
        return Reply(ask.answers.cumsum(0) / torch.arange(1, 1 + len(ask.answers))[:, None])

    def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
        raise AssertionError("it logs nothing")


def test_a_batch_is_cut_by_the_place_in_the_order(tmp_path: Path) -> None:
    guard = Means()
    oracle = api(tmp_path, guard)
    answers = [oracle.ask(np.array(ids)) for ids in ([0, 1, 2, 3, 4, 5], [6], [7, 8])]
    assert guard.batches == [4, 2, 3, 4, 1]
    p = LOGITS.softmax(1)
    torch.testing.assert_close(answers[0][5], p[[4, 5]].mean(0))
    torch.testing.assert_close(answers[1][0], p[[4, 5, 6]].mean(0))
    torch.testing.assert_close(answers[2], torch.stack([p[[4, 5, 6, 7]].mean(0), p[8]]))


@given(ANY_ASKS, st.data())
@settings(max_examples=40)
def test_a_batch_is_the_same_after_a_restart(
    tmp_path_factory: pytest.TempPathFactory, asks: Asks, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")

    def everything() -> list[list[list[float]]]:
        oracle = api(folder, Means())
        return [oracle.ask(np.array(ids), client).tolist() for ids, client in asks]

    whole = everything()
    left = files(folder)
    if left:
        (folder / "ledger.bin").write_bytes(left["ledger.bin"][: data.draw(st.integers(0, len(left["ledger.bin"])))])
    assert everything() == whole and files(folder) == left


def test_images_of_another_size_begin_a_batch(tmp_path: Path) -> None:
    guard = Means()
    oracle = api(tmp_path, guard)
    oracle.ask(np.array([0, 1]))
    oracle.ask_images(torch.rand(2, 3, 8, 8))
    oracle.ask_images(torch.rand(3, 3, 8, 8))
    assert guard.batches == [2, 2, 4, 1]
