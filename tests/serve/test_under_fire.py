"""Under fire: the real client, the real server, and a proxy between them that lets calls go wrong; both are killed.

The server's own books are compared with what the client has: each answer is paid for once, and belongs to its image.
"""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from fmsteal import load
from fmsteal.data.images import Images
from fmsteal.victims import patience
from tests.support.commands import environment
from tests.support.fault_proxy import FAULTS, between
from tests.support.http_victims import (
    ASKING,
    CLASSIFIER,
    HEADERS,
    PLAIN,
    TEN,
    ask_all,
    context,
    make,
    require_same_theft,
    steal,
)
from tests.support.server_books import read_books
from tests.support.serving import Service, draw, write_clients
from tests.support.warm import Command

POOL = Images(draw(60, seed=3, side=4).repeat(8, 2).repeat(8, 3), "under fire")
MODEL = """
import numpy as np

WEIGHTS = np.random.default_rng(3).normal(size=(48, 10))

def answer(images):
    n, side = len(images), images.shape[-1] // 4
    rows = images.reshape(n, 3, 4, side, 4, side).mean((3, 5)).reshape(n, -1) / 255
    scores = np.exp((rows - 0.5) @ WEIGHTS)
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)
"""
SERVED = "victim.model=fired:answer"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMSTEAL_KEY", "ann")


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    """Starts services of `MODEL`, for ann; they are killed at the end, however the test ends."""
    started = list[Service]()

    def begin(folder: Path, *words: str) -> Service:
        folder.mkdir(exist_ok=True)
        (folder / "fired.py").write_text(MODEL)
        clients = write_clients(folder / "clients.json", ann={"price_per_1000": 1000.0})
        started.append(Service(folder, *PLAIN, "victim=custom", SERVED, *words, *clients))
        return started[-1]

    yield begin
    for service in started:
        service.stop(signal.SIGKILL)


@contextmanager
def full_disk(process: int, file: Path) -> Iterator[None]:
    """No file of a process may grow past the size of ``file``, for the length of a block."""
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (file.stat().st_size, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # it has ended for want of room
            resource.prlimit(process, resource.RLIMIT_FSIZE, before)


def test_a_dozen_faults_and_a_kill_cost_nothing_and_mix_nothing_up(
    start: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.05)
    service = start(tmp_path / "service", "defense=rounding")
    answers = list[torch.Tensor]()
    with between(service.port, 0.4) as proxy:
        ctx = context(tmp_path)
        victim = make(proxy.url, HEADERS, "images_per_request=2", "retries=20").prepare(TEN, ctx)
        asking = Thread(target=lambda: answers.append(ask_all(victim, ctx, POOL)))
        asking.start()
        assert proxy.wait_for(8, asking.is_alive)
        service.stop(signal.SIGKILL)
        service = start(tmp_path / "service", "defense=rounding")
        proxy.target = service.port
        asking.join(60)
        assert proxy.faults.total() - proxy.faults["down"] >= 10, proxy.faults
    names: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    exec(MODEL, names)
    np.testing.assert_allclose(answers[0], names["answer"](POOL.pixels).round(1), rtol=0, atol=1e-6)
    assert (answers[0].sum(1) - 1).abs().max() > 0.01, "rounded, they are used as they came"
    books = read_books(service.state)
    assert books.images and set(books.paid.values()) == {1} and books.queries == len(POOL) and not books.reserved
    for image, row in zip(POOL.image_digests(np.arange(len(POOL))), answers[0], strict=True):
        np.testing.assert_allclose(books.find(image)[0], row, rtol=0, atol=1e-6)


QUERIES, TEST = 300, 200
STOLEN = (*CLASSIFIER, f"budget.queries={QUERIES}", "query.count=600", f"data.test={TEST}")


@pytest.mark.slow
def test_two_hundred_faults_kills_and_full_disks_change_neither_the_theft_nor_what_it_costs(
    start: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A whole job, one image a call: each side is killed twice, and each side's disk is full once."""
    service = start(tmp_path / "service")
    monkeypatch.syspath_prepend(tmp_path / "service")
    here = steal(tmp_path / "here", monkeypatch, *STOLEN, "victim=custom", SERVED)
    there, starts = tmp_path / "there", 0
    with between(service.port, 0.3) as proxy:
        words = (
            *STOLEN, "victim=http", *ASKING, f"victim.url={proxy.url}", "victim.images_per_request=1",
            "victim.body=raw", "victim.retries=20",
        )  # fmt: skip

        def begin() -> Command:
            nonlocal starts
            starts += 1
            there.mkdir(exist_ok=True)
            begun = Command(words, there, environment(), joined=True)
            request.addfinalizer(lambda: begun.send_signal(signal.SIGKILL) if begun.poll() is None else None)
            return begun

        def wait_for(answers: int) -> None:
            """Until so many more answers were handed back to the job that is running."""
            assert proxy.wait_for(proxy.answered + answers, lambda: job.poll() is None), job.said()

        def restart() -> None:
            nonlocal service
            service.stop(signal.SIGKILL)
            service = start(tmp_path / "service")
            proxy.target = service.port

        def paid_answers() -> Path:
            """The largest file of paid answers: the job's own, not that of its first look at the service."""
            return max(there.glob("outputs/thefts/.paid/paid/*/*.answers"), key=lambda file: file.stat().st_size)

        job = begin()
        wait_for(60)
        restart()
        wait_for(40)
        job.send_signal(signal.SIGKILL)
        job.communicate()
        job = begin()
        wait_for(40)
        with full_disk(service.process.pid, service.state / "service.db-wal"):
            time.sleep(1)
        wait_for(40)
        with full_disk(job.pid, paid_answers()):
            said, _ = job.communicate()
        assert job.returncode == 1 and "No space left" in said, said
        job = begin()
        wait_for(120)
        restart()
        wait_for(80)
        job.send_signal(signal.SIGKILL)
        job.communicate()
        job = begin()
        said, _ = job.communicate()
        assert job.returncode == 0, said
        drawn = proxy.faults.total() - proxy.faults["down"]
        assert drawn >= 200 and set(proxy.faults) >= set(FAULTS), proxy.faults
    print(f"{drawn} faults: {dict(proxy.faults)}; {starts} starts of the client, 3 of the server")
    (folder,) = (there / "outputs" / "runs").iterdir()
    done = load(folder)
    require_same_theft(here, done)
    books, ledger = read_books(service.state), done.ledger
    assert len(np.unique(ledger["answers"].round(4), axis=0)) > QUERIES / 2, "answers that tell images apart"
    asked = {image.tobytes() for image in ledger["image"]}
    assert len(asked) == QUERIES and all(books.paid[image] == 1 for image in asked)
    others = sorted(count for image, count in books.paid.items() if image not in asked)
    assert others == [1] * (TEST - 8) + [1 + starts] * 8, "the eight images that tell who it is, at each start"
    assert books.queries == len(books.images) == books.usd == QUERIES + TEST + 8 * starts and not books.reserved
    for image, row in zip(ledger["image"], ledger["answers"], strict=True):
        np.testing.assert_allclose(books.find(image.tobytes())[0], row, rtol=0, atol=1e-6)
    np.testing.assert_allclose(here.predictions["victim_logits"], done.predictions["victim_logits"], atol=1e-4)
