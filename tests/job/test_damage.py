"""A full disk, and flipped bits in a theft's files: a clear error or a warning, and nothing is asked twice."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from fmsteal.base.errors import StoreError
from fmsteal.oracle.ledger import Ledger
from fmsteal.records.folders import TheftFolder
from tests.job.jobs import QUERIES, answers, job, measured, read, run_job, theft
from tests.support import foreign_victims

WRITTEN = (
    "begun.json", "ledger.bin", "thief.safetensors", "curves.tmp", "theft.json", "measurement.json", "result.json",
)  # fmt: skip


class Full:
    """A disk without room for one file: it cannot be opened to be written, or its content does not get there."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name, self.met = name, 0
        sync, opened = os.fsync, Path.open

        def fsync(handle: int) -> None:
            self.check(Path(f"/proc/self/fd/{handle}").readlink())
            sync(handle)

        def open_file(path: Path, mode: str = "r", *args: object, **options: object) -> object:
            if "r" not in mode and self.name != "ledger.bin":
                self.check(path)
            return opened(path, mode, *args, **options)  # type: ignore[call-overload]

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "open", open_file)

    def check(self, path: Path) -> None:
        if self.name in path.name:
            self.met += 1
            raise OSError(errno.ENOSPC, "No space left on device", str(path))


@pytest.fixture(scope="module")
def due(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an undisturbed job has run."""
    root = tmp_path_factory.mktemp("due")
    run_job(root, f"cache={cache}")
    return root


@pytest.mark.parametrize(
    "name",
    [name if name in ("ledger.bin", "theft.json") else pytest.param(name, marks=pytest.mark.slow) for name in WRITTEN],
)
def test_a_full_disk_is_said_and_the_same_command_goes_on(
    name: str, due: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full = Full(name, patch)
        with pytest.raises(StoreError, match=r"No space left while writing under .*run the same command again"):
            run_job(tmp_path, f"cache={cache}")
        assert full.met
    folder = theft(tmp_path)
    assert not job(tmp_path).result.exists()
    assert folder.seal.exists() == (name in ("measurement.json", "result.json"))
    if folder.ledger.exists():
        assert answers(folder) in (0, QUERIES)
    before = folder.ledger.read_bytes() if folder.ledger.exists() else b""
    result = run_job(tmp_path, f"cache={cache}")
    assert result["metrics"] == read(job(due).result)["metrics"] and result["cost"]["cost/queries"] == QUERIES
    assert folder.ledger.read_bytes().startswith(before)
    same(folder, theft(due))


def same(folder: TheftFolder, due: TheftFolder) -> None:
    for name in ("ledger.bin", "thief.safetensors", "curves.csv"):
        assert (folder.path / name).read_bytes() == (due.path / name).read_bytes(), name


FLIPPED = ("begun.json", "theft.json", "ledger.bin", "curves.csv", "thief.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["knockoff", "activethief"])
def test_a_flipped_bit_costs_no_query_and_changes_nothing(
    attack: str, cache: Path, tmp_path: Path, done: object, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = ["attack.rounds=2"] if attack == "activethief" else []
    words, chance = (f"attack={attack}", *rounds, f"cache={cache}"), random.Random(7)
    first = run_job(tmp_path, *words)
    folder, k = theft(tmp_path), 1
    whole = {name: (folder.path / name).read_bytes() for name in FLIPPED}
    figures = job(tmp_path).curves.read_bytes()
    for name in FLIPPED:
        for place in (0.0, chance.random(), 1.0):
            at = round(place * ((folder.path / name).stat().st_size - 1))
            flip(folder.path / name, at, chance.randrange(8))
            foreign_victims.Model.seen, k = 0, k % 9 + 1
            caplog.clear()
            done.clear()  # type: ignore[attr-defined]
            result = run_job(tmp_path, *words, f"evaluation.k={k}")
            assert done["queries"] == 0 and foreign_victims.Model.seen == 0, (name, at)  # type: ignore[index]
            assert name in caplog.text
            for other in ("begun.json", "ledger.bin", "curves.csv", "thief.safetensors"):
                assert (folder.path / other).read_bytes() == whole[other], (name, at, other)
            assert result["metrics"]["test/agreement"] == first["metrics"]["test/agreement"]
            assert result["cost"]["cost/queries"] == QUERIES
            if name != "theft.json":
                assert result["cost"]["cost/usd_billed"] == first["cost"]["cost/usd_billed"]
            assert read(folder.seal)["ledger"]["rows"] == QUERIES == answers(folder)
            assert job(tmp_path).curves.read_bytes() == figures
    assert len(Ledger(folder.ledger, read(folder.seal)["key"][-16:] + f" against {first['victim']}")) == QUERIES
    assert not list(folder.path.glob("*.damaged-*"))


def flip(file: Path, at: int, bit: int) -> None:
    """Flip one bit in place, as a disk does."""
    with file.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1 << bit]))


def test_damage_is_not_billed_to_the_job_that_finds_it(cache: Path, tmp_path: Path) -> None:
    first = run_job(tmp_path, f"cache={cache}")
    flip(theft(tmp_path).thief, 100, 0)
    second = run_job(tmp_path, f"cache={cache}", name="second")
    assert second["cost"]["cost/usd_billed"] == 0 < first["cost"]["cost/usd_billed"]
    assert second["cost"]["cost/victim_forwards"] == first["cost"]["cost/victim_forwards"]
    assert measured(theft(tmp_path)).keys() == {"classify"}
