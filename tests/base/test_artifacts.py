"""What lies in a store is listed as it is, and removed only if nobody makes or uses it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.artifacts import HALF, Artifact, list_artifacts, remove, require_store
from fmsteal.base.errors import StoreError
from fmsteal.base.lease import lease
from fmsteal.base.rows import RowCache
from fmsteal.base.store import Store
from fmsteal.base.users import forget, list_users, register

SPEC = {"what": "test"}
ROWS = {"victim": "v", "images": "i"}


def build(out: Path, scratch: Path) -> None:
    (out / "data.bin").write_bytes(b"abc" * 100)


def fail(out: Path, scratch: Path) -> None:
    (scratch / "checkpoint").write_bytes(b"half")
    raise KeyboardInterrupt


def only(root: Path, checksums: bool = False) -> Artifact:
    (found,) = list_artifacts(root, checksums)
    return found


def age(place: Path, days: float = 40) -> None:
    then = time.time() - days * 86400
    for path in (place, *place.rglob("*")):
        os.utime(path, (then, then))


def test_an_artifact_is_listed_with_its_size_spec_and_last_use(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.get("things", "x", SPEC, build)
    age(place)
    found = only(tmp_path)
    assert (found.kind, found.path, found.spec, found.fault) == ("things", place, SPEC, "")
    assert found.size == sum(file.stat().st_size for file in place.iterdir()) and found.published
    assert time.time() - found.used > 39 * 86400
    (place / "data.bin").read_bytes()
    assert only(tmp_path).used == found.used, "who reads the file past the store does not use it"
    store.get("things", "x", SPEC, fail)
    assert time.time() - only(tmp_path).used < 60


def test_rows_are_listed_with_what_they_are_of_and_used_when_they_are_read(tmp_path: Path) -> None:
    RowCache(Store(tmp_path), "answers", "v", ROWS).get(np.arange(3), lambda ids: np.ones((len(ids), 2), np.float32))
    found = only(tmp_path, checksums=True)
    assert (found.kind, found.spec, found.fault) == ("answers", ROWS, "")
    age(found.path)
    again = RowCache(Store(tmp_path), "answers", "v", ROWS)
    again.get(np.arange(2), lambda ids: pytest.fail("computed again"))
    assert time.time() - only(tmp_path).used < 60


def test_what_is_half_written_or_damaged_is_listed_as_such(tmp_path: Path) -> None:
    store = Store(tmp_path)
    short, flipped = (store.get("things", name, {"of": name}, build) for name in ("short", "flipped"))
    (short / "data.bin").write_bytes(b"abc")
    (flipped / "data.bin").write_bytes(b"abd" * 100)
    (tmp_path / "things" / "bare").mkdir()
    rows = RowCache(store, "features", "net", ROWS)
    rows.get(np.arange(3), lambda ids: np.ones((len(ids), 2), np.float32))
    (rows.folder / "0.npy").write_bytes(b"no index")
    with pytest.raises(KeyboardInterrupt):
        store.get("victims", "cut", SPEC, fail)
    (tmp_path / "temporary" / "victims-other-0000-abcd1234").mkdir()
    states = {(a.kind, a.name.partition("-")[0]): a.fault for a in list_artifacts(tmp_path)}
    assert states["things", "short"] == "damaged: data.bin has 3 bytes, not 300"
    assert states["things", "flipped"] == "", "its content was not read"
    assert states["things", "bare"] == "damaged: no readable manifest.json"
    assert states["features", "net"] == "half-written: 1 chunks"
    assert states["victims", "cut"] == "half-written: checkpoints" and states["victims", "victims"] == HALF
    checked = {a.name.partition("-")[0]: a.fault for a in list_artifacts(tmp_path, checksums=True)}
    assert checked["flipped"] == "damaged: data.bin does not match its checksum"
    store.get("things", "short", {"of": "short"}, build)
    assert sum(a.fault == "damaged, and set aside" for a in list_artifacts(tmp_path)) == 1


def test_what_is_removed_is_made_again(tmp_path: Path) -> None:
    store, made = Store(tmp_path), []

    def note(out: Path, scratch: Path) -> None:
        made.append(out)
        build(out, scratch)

    for _ in range(2):
        place = store.get("things", "x", SPEC, note)
        assert remove(tmp_path, only(tmp_path)) == "" and not place.exists() and not list_artifacts(tmp_path)
    assert len(made) == 2 and not list((tmp_path / "temporary").iterdir())


def test_what_is_leased_or_was_used_meanwhile_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.get("things", "x", SPEC, build)
    age(place)
    found = only(tmp_path)
    with lease(tmp_path / "leases" / f"things-{place.name}", "it"):
        assert only(tmp_path).is_being_made and remove(tmp_path, found) == "a running process holds its lease"
    store.get("things", "x", SPEC, fail)
    assert remove(tmp_path, found) == "it was used a moment ago" and (place / "data.bin").is_file()
    fresh = tmp_path / "temporary" / "answers-chunk-abcd1234"
    fresh.mkdir()
    half = next(a for a in list_artifacts(tmp_path) if not a.published)
    assert remove(tmp_path, half) == "a process may be writing it" and fresh.is_dir()


def test_a_folder_that_is_no_cache_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no cache"):
        require_store(tmp_path / "absent")
    with pytest.raises(StoreError, match=r"is no cache: it has no cache\.json"):
        require_store(tmp_path)
    Store(tmp_path).get("things", "x", SPEC, build)
    require_store(tmp_path)


def test_a_store_knows_the_outputs_whose_jobs_use_it(tmp_path: Path) -> None:
    cache = tmp_path / "shared" / "cache"
    assert list_users(cache) == [tmp_path / "shared"]
    for _ in range(2):
        register(cache, tmp_path / "mine")
    assert list_users(cache) == [tmp_path / "mine", tmp_path / "shared"]
    assert forget(cache, tmp_path / "mine") and not forget(cache, tmp_path / "mine")
    assert list_users(cache) == [tmp_path / "shared"]
