"""What a theft costs as it grows, and a store as it fills: memory, CPU time, each against a bound.

    pytest tests/bench/test_growth.py -n 0 --benchmark-enable --benchmark-only -s

A ledger of a million answers of width 10: at most 100 bytes each in memory, and read again in less than a second of CPU
time. A build in a store of 20,000 artifacts: at most 1.3 times the CPU time of one in an empty store, in turn.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from fmsteal.base.store import Store
from fmsteal.oracle.ledger import Ledger, Question
from tests.bench.table import Row, note

ANSWERS, WIDTH, BLOCK = 1_000_000, 10, 512
BYTES, SECONDS = 100, 1.0
ARTIFACTS, BUILDS, RATIO = 20_000, 60, 1.3


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk takes is not what is measured."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def written(file: Path) -> Ledger:
    rng, ledger = np.random.default_rng(0), Ledger(file, "job", WIDTH)
    for start in range(0, ANSWERS, BLOCK):
        digests = rng.bytes(16 * min(BLOCK, ANSWERS - start))
        questions = [Question(0, digests[at : at + 16], 0) for at in range(0, len(digests), 16)]
        ledger.append(questions, rng.random((len(questions), WIDTH), np.float32))
    return ledger


def test_a_ledger_of_a_million_answers(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    file, seconds = tmp_path / "ledger.bin", []
    tracemalloc.start()
    held = {"written": (written(file), tracemalloc.get_traced_memory()[0])[1] / ANSWERS}
    tracemalloc.stop()
    for _ in range(5):
        began = time.process_time()
        assert len(Ledger(file, "job", WIDTH)) == ANSWERS
        seconds.append(time.process_time() - began)
    tracemalloc.start()
    ledger = Ledger(file, "job", WIDTH)
    held["read"], most = (n / ANSWERS for n in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    took = statistics.median(seconds)
    benchmark.extra_info |= {"bytes": held, "most": most, "seconds": seconds}
    benchmark.pedantic(lambda: None)
    note(Row("a ledger of a million answers, an answer in memory", "limit", BYTES, max(held.values()), "bytes"))
    note(Row("the same, read again", "limit", SECONDS, took, "s of CPU"))
    assert len(ledger) == ANSWERS and max(held.values()) <= BYTES and took < SECONDS


def test_a_build_in_a_full_store(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    empty, full = Store(tmp_path / "empty"), Store(tmp_path / "full")
    for number in range(ARTIFACTS):
        full.path("things", "x", {"other": number}).mkdir(parents=True)

    def seconds(store: Store, number: int) -> float:
        began = time.process_time()
        store.get("things", "x", {"n": number}, lambda out, scratch: (out / "file").write_bytes(b"x" * 1000))  # type: ignore[arg-type, return-value]
        return time.process_time() - began

    turns = [(seconds(empty, number), seconds(full, number)) for number in range(BUILDS)]
    mine, theirs = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio = statistics.median(after / before for before, after in turns)
    benchmark.extra_info |= {"empty": mine, "full": theirs, "ratio": ratio}
    benchmark.pedantic(lambda: None)
    note(Row(f"a build in a store of {ARTIFACTS:,} artifacts", "in an empty one", mine, theirs, "s of CPU"))
    assert ratio <= RATIO
