from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fmsteal.base import store as store_module
from fmsteal.base.errors import StoreError
from fmsteal.base.store import Store, checksum, digest, publish, require_readable, seal, write_json
from tests.support.commands import Run
from tests.support.rights import bound_by_rights, locked

SPEC = {"what": "test", "n": 1}


def build(out: Path, scratch: Path) -> None:
    (out / "data.bin").write_bytes(b"abc" * 100)


def forbidden(out: Path, scratch: Path) -> None:
    raise AssertionError("built again")


def test_an_artifact_is_built_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.get("things", "x", SPEC, build)
    assert store.get("things", "x", dict(reversed(SPEC.items())), forbidden) == first
    assert first == tmp_path / "things" / f"x-{digest(SPEC)[:16]}"
    assert json.loads((first / "manifest.json").read_text())["spec"] == SPEC


def test_what_is_shared_can_be_read_by_others(tmp_path: Path) -> None:
    def private(out: Path, scratch: Path) -> None:
        build(out, scratch)
        (out / "data.bin").chmod(0o600)

    before = os.umask(0o027)
    try:
        place = Store(tmp_path).get("things", "x", SPEC, private)
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o777 == 0o750 and (place / "data.bin").stat().st_mode & 0o777 == 0o640


def test_a_failed_build_leaves_nothing_but_its_scratch(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(out: Path, scratch: Path) -> None:
        (out / "half").write_text("half")
        (scratch / "checkpoint").write_text("epoch 3")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.get("things", "x", SPEC, fails)
    assert not (tmp_path / "things").exists() and list((tmp_path / "temporary").iterdir()) == []

    def resumes(out: Path, scratch: Path) -> None:
        assert (scratch / "checkpoint").read_text() == "epoch 3"
        build(out, scratch)

    store.get("things", "x", SPEC, resumes)
    assert not list((tmp_path / "scratch" / "things").iterdir())


def test_what_a_killed_process_left_of_an_artifact_is_removed_and_no_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    mine, other = store.path("things", "x", SPEC), store.path("things", "x", {"n": 9})
    for place in (mine, other):
        (tmp_path / "temporary" / f"things-{place.name}-killed").mkdir(parents=True)
    store.get("things", "x", SPEC, build)
    assert [f.name for f in (tmp_path / "temporary").iterdir()] == [f"things-{other.name}-killed"]


def test_a_build_takes_no_more_steps_among_many_artifacts(tmp_path: Path) -> None:
    """Counted in calls of built-in functions: what a build does is seen in them, and no clock is needed."""

    def calls(root: Path) -> int:
        count = 0

        def note(frame: object, event: str, what: object) -> None:
            nonlocal count
            count += event == "c_call"

        sys.setprofile(note)
        try:
            Store(root).get("things", "x", SPEC, build)
        finally:
            sys.setprofile(None)
        return count

    calls(tmp_path / "warm")
    alone = calls(tmp_path / "empty")
    for number in range(1000):
        Store(tmp_path / "full").path("things", "x", {"other": number}).mkdir(parents=True)
    assert calls(tmp_path / "full") < 1.3 * alone


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "manifest"])
def test_a_damaged_artifact_is_set_aside_and_rebuilt(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    file = store.get("things", "x", SPEC, build) / "data.bin"
    if harm == "flip":
        file.write_bytes(b"X" + file.read_bytes()[1:])
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "remove":
        file.unlink()
    else:
        file.with_name("manifest.json").write_text("{")
    again = store.get("things", "x", SPEC, build)
    assert (again / "data.bin").read_bytes() == b"abc" * 100
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert "set aside" in caplog.text


def test_an_artifact_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.get("things", "x", SPEC, build)
    manifest = json.loads((place / "manifest.json").read_text())
    write_json(place / "manifest.json", {**manifest, "schema": store_module.SCHEMA + 1})
    with pytest.raises(StoreError, match="newer fmsteal"):
        store.get("things", "x", SPEC, build)


def test_the_first_to_publish_wins(tmp_path: Path) -> None:
    mine, theirs, place = tmp_path / "mine", tmp_path / "theirs", tmp_path / "kind" / "place"
    for folder in (mine, theirs):
        folder.mkdir()
        (folder / "who").write_text(folder.name)
        seal(folder, SPEC)
    publish(theirs, place)
    publish(mine, place)
    assert (place / "who").read_text() == "theirs"


def test_a_large_file_is_hashed_in_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "HASHED_WHOLE", 2**20)
    file = tmp_path / "large"
    file.write_bytes(os.urandom(3 * 2**20))
    before = checksum(file)
    assert before.startswith("sampled:") and before == checksum(file)
    with file.open("r+b") as stream:
        stream.seek(2**20 + 5)
        stream.write(b"harm")
    assert checksum(file) != before


def test_a_read_only_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    locked(tmp_path / "locked", 0o555)
    with bound_by_rights(), pytest.raises(StoreError, match=r"Cannot write under .*locked.*cache="):
        Store(tmp_path / "locked" / "cache").get("things", "x", SPEC, build)


def test_a_full_disk_is_a_clear_error_and_the_store_stays_sound(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def large(out: Path, scratch: Path) -> None:
        (out / "large.bin").write_bytes(bytes(2**20))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        with pytest.raises(StoreError, match=r"No space left.*run the same command again"):
            store.get("things", "x", SPEC, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "things").exists() and list((tmp_path / "temporary").iterdir()) == []
    assert (store.get("things", "x", SPEC, large) / "large.bin").stat().st_size == 2**20


BUILDER = """
import sys, time, pathlib
from fmsteal.base.store import Store
def build(out, scratch):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[3]))
    (out / "x").write_text("done")
Store(sys.argv[1]).get("things", "x", {"n": 2}, build)
assert "torch" not in sys.modules, "the store imports torch"
"""


def builder(root: Path, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BUILDER, str(root), str(log), str(seconds)])


def test_processes_that_want_the_same_artifact_build_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    workers = [builder(tmp_path / "store", log, 0.5) for _ in range(6)]
    assert [w.wait(60) for w in workers] == [0] * 6
    assert log.read_text() == "built\n"


def test_a_killed_builder_is_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    victim = builder(tmp_path / "store", log, 60)
    while not log.exists():
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    assert builder(tmp_path / "store", log, 0).wait(60) == 0
    assert log.read_text() == "built\n" * 2


def test_json_of_many_writers_is_always_whole(tmp_path: Path) -> None:
    """Also where two hosts have a process of the same number."""
    file = tmp_path / "x.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_json(file, {"n": [n] * 1000}), range(64)))
    assert len(set(json.loads(file.read_text())["n"])) == 1 and [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_cache_is_stamped_and_one_of_a_newer_fmsteal_refused(tmp_path: Path) -> None:
    require_readable(tmp_path)  # none yet
    Store(tmp_path).get("things", "x", SPEC, build)
    stamp = json.loads((tmp_path / "cache.json").read_text())
    require_readable(tmp_path)
    write_json(tmp_path / "cache.json", {**stamp, "schema": store_module.SCHEMA + 1})
    for refused in (lambda: require_readable(tmp_path), lambda: Store(tmp_path).get("things", "x", SPEC, build)):
        with pytest.raises(StoreError, match=r"newer fmsteal.*cache=/path"):
            refused()


def test_a_cache_that_cannot_be_used_stops_the_command_before_any_job(fmsteal: Run, tmp_path: Path) -> None:
    (tmp_path / "newer").mkdir()
    write_json(tmp_path / "newer" / "cache.json", {"schema": store_module.SCHEMA + 1})
    for cache, says in (("newer", "was written by a newer fmsteal"), ("/proc/fmsteal", "Cannot write under /proc")):
        for sweep in ((), ("-m",)):
            done = fmsteal(*sweep, "experiment=smoke", f"cache={cache}", ok=False)
            assert says in done.stderr and not (tmp_path / "outputs").exists()
