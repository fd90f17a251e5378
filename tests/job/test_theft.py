"""A theft on disk: found by its hash, begun, sealed, refused, damaged, held by one process at a time."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmsteal.base.errors import DataError, LeaseBusy, LeaseLost, StoreError, TheftError
from fmsteal.identity import keys
from fmsteal.job import theft as thefts
from fmsteal.job.theft import Theft, choose, find_damage, hold, is_sealed, list_numbered, read_sealed
from fmsteal.oracle.ledger import Ledger, Question
from fmsteal.records.folders import TheftFolder

IDENTITY = {"seed": 0, "budget": {"queries": 3}, "attack": {"name": "knockoff"}}
CONTENT = {"query set": "aa", "victim": "bb"}
HASH = "0123456789abcdef"
KEY = f"digits-knockoff-s0-{HASH}"


def steal(root: Path, key: str = KEY, anew: bool = False, own: Path | None = None, seal: bool = True) -> TheftFolder:
    """A theft with three answers and a thief, as a job leaves it."""
    with hold(root, key, IDENTITY, own, anew) as theft:
        theft.begin(CONTENT)
        fill(theft)
        if seal:
            theft.seal({"budget": 3}, [theft.folder.thief])
    return theft.folder


def fill(theft: Theft) -> None:
    ledger = Ledger(theft.folder.ledger, f"{theft.account} against bb")
    new = [q for n in range(3) if (q := Question(0, n.to_bytes(16, "big"), 0)) not in ledger]
    if new:
        ledger.append(new, np.ones((len(new), 4), np.float32))
    theft.folder.curves.write_text("curves")
    theft.folder.thief.write_bytes(b"weights")
    theft.folder.work.mkdir(exist_ok=True)


def test_a_theft_is_found_by_its_hash_whatever_its_slug(tmp_path: Path) -> None:
    folder = steal(tmp_path)
    for slug in ("another-name", "x", "digits-knockoff-s0"):
        assert choose(tmp_path, f"{slug}-{HASH}", IDENTITY).path == folder.path
    assert choose(tmp_path, f"x-{'f' * 16}", IDENTITY).path == tmp_path / f"x-{'f' * 16}"
    (tmp_path / ".paid").mkdir()
    (tmp_path / "notes").mkdir()
    assert list_numbered(tmp_path) == {HASH: {1: KEY}}
    assert list_numbered(tmp_path / "nowhere") == {}


def test_further_thefts_are_numbered_and_the_latest_sealed_one_is_taken(tmp_path: Path) -> None:
    first = steal(tmp_path)
    second = steal(tmp_path, f"another-slug-{HASH}", anew=True)
    assert second.path.name == f"{KEY}.2"
    third = steal(tmp_path, anew=True, seal=False)
    assert third.path.name == f"{KEY}.3"
    assert choose(tmp_path, KEY, IDENTITY).path == second.path  # the third holds answers, but no thief yet
    assert choose(tmp_path, KEY, IDENTITY, own=third.path).path == third.path  # its own job goes on with it
    assert choose(tmp_path, KEY, IDENTITY, own=first.path, anew=True).path == first.path
    assert choose(tmp_path, KEY, IDENTITY, own=tmp_path / f"x-{'f' * 16}").path == second.path
    assert choose(tmp_path, KEY, IDENTITY, anew=True).path.name == f"{KEY}.4"
    steal(tmp_path, own=third.path)
    assert choose(tmp_path, KEY, IDENTITY).path == third.path


def test_a_sealed_theft_vouches_for_its_files(tmp_path: Path) -> None:
    assert not is_sealed(tmp_path, KEY)
    with hold(tmp_path, KEY, IDENTITY) as theft:
        theft.begin(CONTENT)
        fill(theft)
        assert theft.sealed() is None and not is_sealed(tmp_path, KEY)
        record = theft.seal({"budget": 3}, [theft.folder.thief])
        assert theft.sealed() == record and is_sealed(tmp_path, f"x-{HASH}")
    assert sorted(record["files"]) == ["begun.json", "curves.csv", "ledger.bin", "thief.safetensors"]
    assert record["identity"] == IDENTITY and record["inputs"] == CONTENT and record["key"] == KEY
    assert not theft.folder.work.exists() and not theft.folder.refused.exists()


@pytest.mark.parametrize("name", ["begun.json", "curves.csv", "ledger.bin", "thief.safetensors", "theft.json"])
@pytest.mark.parametrize("how", ["flipped", "shortened", "missing"])
def test_damage_of_each_file_is_noticed_and_the_theft_sealed_again(
    name: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = steal(tmp_path)
    whole = {file.name: file.read_bytes() for file in folder.path.iterdir() if file.is_file()}
    spoil(folder.path / name, how)
    with hold(tmp_path, KEY, IDENTITY) as theft, caplog.at_level(logging.WARNING):
        assert theft.sealed() is None
        if name != "theft.json":
            assert find_damage(folder.path, read_sealed(folder.seal) or {}) and name in caplog.text
        elif how != "missing":
            assert "theft.json is damaged" in caplog.text
        theft.begin(CONTENT)
        fill(theft)
        theft.seal({"budget": 3}, [folder.thief])
        assert theft.sealed() is not None
    for file, content in whole.items():
        if file not in ("theft.json", "ledger.bin"):
            assert (folder.path / file).read_bytes() == content


def spoil(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
    elif how == "shortened":
        file.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 4
        file.write_bytes(data)


def test_other_content_under_the_same_names_is_refused_by_name(tmp_path: Path) -> None:
    folder = steal(tmp_path)
    with hold(tmp_path, KEY, IDENTITY) as theft:
        for spoiled in (False, True):  # what was begun is damaged: the seal says it too
            if spoiled:
                spoil(folder.begun, "flipped")
            for check in (theft.begin, theft.require_content):
                with pytest.raises(DataError, match=r"other content .*\(query set\).* It is kept.* edition=2"):
                    check({**CONTENT, "query set": "cc"})
        theft.begin(CONTENT)
        theft.require_content({"victim": "bb"})
    assert (read_sealed(folder.begun) or {})["inputs"] == CONTENT


def test_a_theft_of_another_identity_is_refused(tmp_path: Path) -> None:
    steal(tmp_path)
    other = {**IDENTITY, "seed": 1}
    with pytest.raises(TheftError, match=r"another identity \(seed differ\).*output="), hold(tmp_path, KEY, other):
        pass


def test_a_theft_of_a_newer_fmsteal_is_refused(tmp_path: Path) -> None:
    folder = steal(tmp_path)
    record = read_sealed(folder.seal) or {}
    thefts.write_sealed(folder.seal, {**record, "schema": thefts.SCHEMA + 1})
    with hold(tmp_path, KEY, IDENTITY) as theft, pytest.raises(TheftError, match=r"newer fmsteal.*Upgrade"):
        theft.sealed()


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "open"])
def test_another_way_of_making_keys_finds_the_theft_by_its_identity(
    sealed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = steal(tmp_path, seal=sealed)
    steal(tmp_path, f"x-{'a' * 16}", seal=False)  # another one, of this identity too: not to be taken for a rekeyed one
    ledger = before.ledger.read_bytes()
    monkeypatch.setattr(thefts, "KEY_VERSION", keys.KEY_VERSION + 1)
    key = f"digits-knockoff-s0-{'b' * 16}"
    assert choose(tmp_path, key, {**IDENTITY, "seed": 1}).path == tmp_path / key and before.path.is_dir()
    with hold(tmp_path, key, IDENTITY) as theft:
        assert theft.folder.path == tmp_path / key and theft.folder.path.is_dir()
        assert (theft.sealed() is not None) == sealed
        assert theft.account in (HASH, "a" * 16)  # its ledger names the key that it was begun under
        theft.begin(CONTENT)
        fill(theft)
        assert theft.folder.ledger.read_bytes() == ledger.replace(HASH.encode(), theft.account.encode())
        theft.seal({"budget": 3}, [theft.folder.thief])
    assert theft.folder.path == choose(tmp_path, key, IDENTITY).path


def test_a_refused_theft_says_why_and_keeps_its_answers(tmp_path: Path) -> None:
    with hold(tmp_path, KEY, IDENTITY) as theft:
        theft.begin(CONTENT)
        fill(theft)
        error = theft.refuse("theirs.Cheat looked past the oracle.", unaccounted=2)
        assert isinstance(error, TheftError) and "theirs.Cheat" in str(error) and "force=true" in str(error)
        said = json.loads(theft.folder.refused.read_text())
        assert said["why"].startswith("theirs.Cheat") and theft.unaccounted == 2
        assert theft.sealed() is None and theft.folder.ledger.exists()
        theft.seal({"budget": 3}, [theft.folder.thief])
        assert not theft.folder.refused.exists() and theft.unaccounted == 0


HOLDER = """
import sys, time
from pathlib import Path
from fmsteal.job.theft import hold
root, name = Path(sys.argv[1]), sys.argv[2]
with hold(root, "KEY", {}) as theft, (root / "turns").open("a", buffering=1) as turns:
    turns.write(f"{name} in\\n")
    while not (root / "go").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    turns.write(f"{name} out\\n")
"""


def test_processes_hold_one_theft_in_turn(tmp_path: Path) -> None:
    code = HOLDER.replace("KEY", KEY)
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(3)]
    while not (tmp_path / "turns").exists():
        time.sleep(0.01)
    with pytest.raises(LeaseBusy, match=f"working on theft {KEY}"), hold(tmp_path, KEY, {}, patience=0):
        pass
    (tmp_path / "go").touch()
    assert [process.wait(60) for process in running] == [0, 0, 0]
    turns = [line.split() for line in (tmp_path / "turns").read_text().splitlines()]
    assert [how for _, how in turns] == ["in", "out"] * 3
    assert all(begin[0] == end[0] for begin, end in zip(turns[::2], turns[1::2], strict=True))


def test_one_that_lost_its_lease_neither_asks_nor_seals(tmp_path: Path) -> None:
    with hold(tmp_path, KEY, IDENTITY) as theft:
        theft.begin(CONTENT)
        fill(theft)
        theft.lease.require()
        marker = Path(f"{theft.folder.lease}.lease")
        other = marker.with_name("other")
        other.write_text(marker.read_text())
        other.replace(marker)  # as another host that takes it over does
        for act in (theft.lease.require, lambda: theft.seal({}, [])):
            with pytest.raises(LeaseLost, match=f"taken over theft {KEY}.*nothing was lost"):
                act()
    assert not theft.folder.seal.exists()


@pytest.mark.parametrize(("number", "says"), [(13, r"Cannot write under .*output=/path"), (28, "No space left")])
def test_what_the_file_system_refuses_is_said(
    number: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path, *args: Any) -> None:
        raise OSError(number, "refused", str(file))

    with hold(tmp_path, KEY, IDENTITY) as theft:
        for act in (lambda: theft.begin(CONTENT), lambda: theft.seal({}, []), lambda: theft.refuse("it lies")):
            monkeypatch.setattr(thefts, "write_json", refuse)
            with pytest.raises(StoreError, match=says):
                act()
        monkeypatch.undo()
        theft.begin(CONTENT)
        fill(theft)
        assert theft.seal({}, [theft.folder.thief]) == theft.sealed()
