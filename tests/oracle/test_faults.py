"""Processes killed with SIGKILL at random points, hundreds of times: no torn artifact, no lost answer, none paid twice.

Run as a script this file is a small server without torch, which forks the processes that are to be killed: by
themselves at a random call of a built-in function (an open, a write, a rename, an fsync), or from outside after a
random time. It prints how many it killed.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmsteal.base import rows
from fmsteal.base.rows import RowCache
from fmsteal.base.store import Store, find_fault, read_json, write_json
from fmsteal.oracle.ledger import Ledger, Question

LEASE = 0.5  # seconds

Work = Callable[[], None]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory if there is such a file system: what SIGKILL leaves is the same there, and fsync does not wait."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("scenario", "kills"),
    [
        pytest.param("artifacts", 150, marks=pytest.mark.slow),
        pytest.param("chunks", 120, marks=pytest.mark.slow),
        ("answers", 250),
    ],
)
def test_killed_anywhere_nothing_is_torn_or_lost(scenario: str, kills: int, folder: Path) -> None:
    said = serve(scenario, folder, str(kills))
    assert said == f"{kills} killed\n"


@pytest.mark.parametrize("scenario", ["sixteen", "expiry", "superseded", "writers", "without_flock"])
def test_processes_that_share_a_folder(scenario: str, folder: Path) -> None:
    assert serve(scenario, folder) == "as it should be\n"


def serve(scenario: str, folder: Path, *more: str) -> str:
    done = subprocess.run(
        [sys.executable, __file__, scenario, str(folder), *more],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- the server: forked processes, and their ends ---


def fork(work: Work) -> int:
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def doomed(work: Work, calls: int) -> Work:
    """``work`` that kills itself at the ``calls``-th call of a built-in function."""

    def dying() -> None:
        left = calls

        def count(frame: Any, event: str, what: Any) -> None:
            nonlocal left
            if event in ("c_call", "c_return"):
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        work()
        sys.setprofile(None)

    return dying


def cost_of(work: Work) -> tuple[int, float]:
    """Calls of built-in functions (and returns) in ``work``, and seconds that it takes undisturbed."""
    calls = 0

    def count(frame: Any, event: str, what: Any) -> None:
        nonlocal calls
        calls += event in ("c_call", "c_return")

    sys.setprofile(count)
    work()
    sys.setprofile(None)
    began = time.monotonic()
    work()
    return calls, time.monotonic() - began


def was_killed(child: int) -> bool:
    """Whether the child was killed; it must not have failed."""
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert os.WEXITSTATUS(status) == 0, "a process failed"
    return False


def start_doomed(work: Work, cost: tuple[int, float]) -> tuple[int, float]:
    """Start it; returns its id and when it is to be killed from outside."""
    calls, seconds = cost
    if random.random() < 0.5:
        return fork(doomed(work, random.randint(1, calls))), float("inf")
    return fork(work), time.monotonic() + random.uniform(0, seconds)


def kill_in_time(children: list[tuple[int, float]]) -> int:
    """Kill each when its time has come; returns how many died by a kill."""
    for child, when in sorted(children, key=lambda c: c[1]):
        if when < float("inf"):
            time.sleep(max(0.0, when - time.monotonic()))
            os.kill(child, signal.SIGKILL)
    return sum(was_killed(child) for child, _ in children)


# --- what is done to what ---


def content(number: int, name: str) -> bytes:
    return random.Random(f"{number} {name}").randbytes(random.Random(f"{name} {number}").randint(0, 30_000))


NAMES = ("weights.bin", "inner/one.npy", "inner/two.npy")


def use(store: Store, number: int) -> None:
    """Get an artifact, building it if need be, and look at every byte of it."""

    def build(out: Path, scratch: Path) -> None:
        seen = read_json(scratch / "checkpoint")
        assert seen == {"step": number} or not (scratch / "checkpoint").exists(), "a torn checkpoint"
        write_json(scratch / "checkpoint", {"step": number})
        (out / "inner").mkdir()
        for name in NAMES:
            (out / name).write_bytes(content(number, name))

    place = store.get("things", str(number), {"n": number}, build)
    for name in NAMES:
        assert (place / name).read_bytes() == content(number, name), f"{place / name} is torn"


def artifacts(folder: Path, kills: int) -> None:
    """Three processes want the same artifact; two of them are killed."""
    store = Store(folder, lease_seconds=LEASE)
    numbers = iter(range(10**6))
    cost = cost_of(lambda: use(store, next(numbers)))
    killed = 0
    while killed < kills:
        number = next(numbers)
        children = [start_doomed(lambda n=number: use(store, n), cost) for _ in range(min(2, kills - killed))]
        survivor = fork(lambda n=number: use(store, n))
        killed += kill_in_time(children)
        assert not was_killed(survivor)
    for number in range(next(numbers)):
        place = store.path("things", str(number), {"n": number})
        assert find_fault(place) is None and not list(folder.glob("damaged/*"))


def chunks(folder: Path, kills: int) -> None:
    """Processes want rows of overlapping sets of images; they publish those that are missing."""
    rows.CHUNK = 16
    store = Store(folder, lease_seconds=LEASE)

    def compute(ids: np.ndarray) -> np.ndarray:
        return (ids[:, None] * np.arange(1, 40) % 1009).astype(np.float32)

    def want(cache: int, count: int) -> None:
        ids = random.Random(os.getpid()).sample(range(200), count)
        got = RowCache(store, "answers", "x", {"cache": cache}).get(np.array(ids), compute)
        np.testing.assert_array_equal(got, compute(np.array(ids)))

    caches = iter(range(10**6))
    cost = cost_of(lambda: want(next(caches), 100))
    killed = 0
    while killed < kills:
        cache = next(caches)
        for _ in range(4):
            some = range(min(2, kills - killed))
            killed += kill_in_time([start_doomed(lambda c=cache: want(c, 100), cost) for _ in some])
        want(cache, 200)
        whole = RowCache(store, "answers", "x", {"cache": cache})
        whole.get(np.arange(200), lambda ids: pytest.fail(f"{ids} were published, and are lost"))
    assert not list(folder.rglob("*.damaged")), "a torn chunk was published"


def answers(folder: Path, kills: int) -> None:
    """One job, killed and started again and again: asks, pays, writes down, goes on with the answer."""
    width, questions = 300, 120

    def job(name: str) -> None:
        home = folder / name
        home.mkdir(exist_ok=True)
        ledger = Ledger(home / "ledger.bin", name)
        shown = handed_out(home, width)
        for number, answer in shown.items():
            np.testing.assert_array_equal(ledger.read([question(number)])[0], answer, err_msg="an answer is lost")
        assert read_json(home / "state.json") is not None or not (home / "state.json").exists(), "torn JSON"
        start = 0
        while start < questions:
            numbers = range(start, min(questions, start + random.Random(start).randint(1, 30)))
            new = [question(n) for n in numbers if question(n) not in ledger]
            fresh = np.frombuffer(os.urandom(4 * width * len(new)), np.int32).reshape(len(new), width)
            ledger.append(new, fresh.astype(np.float32))  # as an API that never answers the same twice
            hand_out(home, numbers, ledger.read([question(n) for n in numbers]))
            write_json(home / "state.json", {"asked": start})
            start = numbers[-1] + 1
        assert len(ledger) == questions, "something was paid for twice"

    names = (f"job{n}" for n in range(10**6))
    cost = cost_of(lambda: job(next(names)))
    killed, name = 0, next(names)
    while killed < kills:
        dead = kill_in_time([start_doomed(lambda n=name: job(n), cost)])
        killed += dead
        if not dead:
            job(name)
            name = next(names)
    job(name)


def question(number: int) -> Question:
    return Question(0, number.to_bytes(16, "big"), 0)


def hand_out(home: Path, numbers: range, given: np.ndarray) -> None:
    """What the attack has seen, written down by the test; a record that a kill cut short in its write was not seen."""
    record = 4 + given.shape[1] * given.itemsize
    data = b"".join(n.to_bytes(4, "big") + a.tobytes() for n, a in zip(numbers, given, strict=True))
    handle = os.open(home / "seen", os.O_WRONLY | os.O_CREAT)
    whole = os.fstat(handle).st_size // record * record
    os.ftruncate(handle, whole)
    os.pwrite(handle, data, whole)
    os.close(handle)


def handed_out(home: Path, width: int) -> dict[int, np.ndarray]:
    file, size = home / "seen", 4 + 4 * width
    data = file.read_bytes() if file.exists() else b""
    found: dict[int, np.ndarray] = {}
    for at in range(0, len(data) // size * size, size):
        number, answer = int.from_bytes(data[at : at + 4], "big"), np.frombuffer(data[at + 4 : at + size], np.float32)
        np.testing.assert_array_equal(found.setdefault(number, answer), answer, err_msg="one question, two answers")
    return found


def slow(folder: Path, seconds: float) -> Callable[[Path, Path], None]:
    def build(out: Path, scratch: Path) -> None:
        with (folder / "built").open("a") as log:
            log.write("built\n")
        (out / "first").write_text("first")
        time.sleep(seconds)
        (out / "second").write_text("second")

    return build


def built(folder: Path) -> int:
    return (folder / "built").read_text().count("\n") if (folder / "built").exists() else 0


def wait_for(what: Callable[[], bool]) -> None:
    while not what():
        time.sleep(0.005)


def whole(folder: Path, seconds: float, host: str = "", lease_seconds: float = LEASE) -> None:
    """Get the one artifact, on a host of that name; it must be whole."""
    if host:
        socket.gethostname = lambda: host
    store = Store(folder / "store", lease_seconds=lease_seconds)
    place = store.get("things", "x", {"n": 1}, slow(folder, seconds))
    assert {p.name for p in place.iterdir()} == {"first", "second", "manifest.json"}


def sixteen(folder: Path) -> None:
    """Sixteen processes on four hosts want the same artifact: it is built once."""
    children = [fork(lambda n=n: whole(folder, 0.3, f"host{n % 4}", 30.0)) for n in range(16)]
    assert not any(was_killed(child) for child in children)
    assert built(folder) == 1, built(folder)


def expiry(folder: Path) -> None:
    """A holder on another host is killed: it is replaced when its lease has run out, not before."""
    holder = fork(lambda: whole(folder, 60.0, "elsewhere"))
    wait_for(lambda: built(folder) == 1)
    os.kill(holder, signal.SIGKILL)
    assert was_killed(holder)
    began = time.monotonic()
    assert not was_killed(fork(lambda: whole(folder, 0.0)))
    assert time.monotonic() - began >= 0.9 * LEASE and built(folder) == 2


def superseded(folder: Path) -> None:
    """A holder stands still for longer than its lease and is replaced; when it goes on, it uses what the other made."""
    holder = fork(lambda: whole(folder, 0.1, "elsewhere"))
    wait_for(lambda: built(folder) == 1)
    os.kill(holder, signal.SIGSTOP)
    other = fork(lambda: whole(folder, 1.0))
    wait_for(lambda: built(folder) == 2)
    os.kill(holder, signal.SIGCONT)
    assert not was_killed(holder) and not was_killed(other)
    assert built(folder) == 2


def writers(folder: Path) -> None:
    """Two processes write to one ledger at once, which a lease prevents: what either went on with stays recorded."""
    from fmsteal.base.errors import LedgerError

    def write(home: Path) -> None:
        try:
            ledger = Ledger(home / "ledger.bin", "job")
            for number in range(50):
                if question(number) not in ledger:
                    ledger.append([question(number)], np.full((1, 8), os.getpid() + number / 128, np.float32))
                hand_out(home, range(number, number + 1), ledger.read([question(number)]))
        except LedgerError as error:
            assert "Another process is writing" in str(error)

    for number in range(40):
        home = folder / str(number)
        home.mkdir()
        children = [fork(lambda h=home: write(h)) for _ in range(2)]
        assert not any(was_killed(child) for child in children)
        ledger = Ledger(home / "ledger.bin", "job")
        for n, answer in handed_out(home, 8).items():
            np.testing.assert_array_equal(ledger.read([question(n)])[0], answer)


def without_flock(folder: Path) -> None:
    """On a file system that knows no flock the lease works all the same."""
    import fcntl

    def refuse(*args: object) -> None:
        raise OSError(38, "Function not implemented")

    fcntl.flock = fcntl.lockf = refuse
    sixteen(folder)


def main() -> None:
    name, folder, *kills = sys.argv[1:]
    random.seed(os.urandom(8))
    if kills:
        {"artifacts": artifacts, "chunks": chunks, "answers": answers}[name](Path(folder), int(kills[0]))
        print(f"{kills[0]} killed")
    else:
        several = (sixteen, expiry, superseded, writers, without_flock)
        {f.__name__: f for f in several}[name](Path(folder))
        print("as it should be")
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
