"""What a service costs beside its model: answers per second of the server's processor, latencies, memory.

    OMP_NUM_THREADS=1 pytest tests/bench/test_serve.py -n 0 --benchmark-enable --benchmark-only -s

The model alone runs in batches of 64 in this process, between the loads of the service; both count seconds of the
processor, so other work on the machine disturbs them less than it would a clock. The service records every answer, has
an access log and a row defense (rounding). Claims: .30 of the model's rate for a small ResNet and .60 for Lite0 at 64
pixels, one PNG of 32 or 64 pixels a request at 64 connections; .85 for Lite0 in batches of 64.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fmsteal.serve.served import open_served
from tests.bench.table import Row, note
from tests.support.serving import JSON, KEY, PNG, Service, draw, spell_batch, spell_image

RESNET = ("victim=resnet10t", "victim.recipe.epochs=1")
LITE0 = ("victim=efficientnet_lite0",)
BASE = ("tracker=none", "trainer=cpu", "experiment=smoke", "defense=rounding")
TICK = os.sysconf("SC_CLK_TCK")


def read_seconds(process: int) -> float:
    """Seconds of the processor that a process has used."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK


def read_megabytes(process: int) -> float:
    """The memory that a process holds."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def load(port: int, bodies: Sequence[bytes], kind: str, connections: int, requests: int) -> list[float]:
    """Send requests over so many connections, each as soon as its last is answered; the seconds that each took."""
    left, times = iter(range(requests)), list[float]()
    head = (
        f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: {kind}\r\n"
        "Content-Length: {}\r\n\r\n"
    )

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        for number in left:
            body = bodies[number % len(bodies)]
            began = time.perf_counter()
            writer.write(head.format(len(body)).encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200"), answer
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            times.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return times


def measure_direct(raw: Callable[[torch.Tensor], torch.Tensor], side: int) -> float:
    """Images per second of the processor, in batches of 64."""
    images = torch.from_numpy(draw(64, side=side))
    raw(images)
    began, count = time.process_time(), 0
    while time.process_time() - began < 1.5:
        raw(images)
        count += len(images)
    return count / (time.process_time() - began)


def spell_quantiles(times: Sequence[float]) -> str:
    return f"p50 {1000 * statistics.median(times):.1f} ms, p99 {1000 * float(np.quantile(times, 0.99)):.1f} ms"


@pytest.mark.parametrize(
    ("name", "words", "side", "batch", "claim"),
    [
        ("small ResNet, one image a request", RESNET, 32, 1, 0.30),
        ("Lite0, one image a request", LITE0, 64, 1, 0.60),
        ("Lite0, 64 images a request", LITE0, 64, 64, 0.85),
    ],
)
def test_answers_per_second_of_the_processor(
    name: str, words: Sequence[str], side: int, batch: int, claim: float, tmp_path: Path,
    benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    raw = open_served(None, [*BASE, *words]).counsel.raw
    files = [spell_image(image) for image in draw(256, side=side)]
    bodies = files if batch == 1 else [spell_batch(files[at : at + batch]) for at in range(0, len(files), batch)]
    kind, connections = (PNG, 64) if batch == 1 else (JSON, 4)
    requests = {1: 1500, 64: 24}[batch]
    service = Service(tmp_path, *BASE, *words)
    found, waits = [], list[str]()
    try:
        asyncio.run(load(service.port, bodies, kind, connections, requests // 4))  # warm

        def turn() -> None:
            direct = measure_direct(raw, side)
            began = read_seconds(service.process.pid)
            times = asyncio.run(load(service.port, bodies, kind, connections, requests))
            served = batch * requests / (read_seconds(service.process.pid) - began)
            found.append((served / direct, served, direct, times))

        benchmark.pedantic(turn, rounds=3)
        for count in (1, 16, 64) if batch == 1 else ():
            times = asyncio.run(load(service.port, bodies, kind, count, 200 if count == 1 else 1000))
            waits.append(f"{count}: {spell_quantiles(times)}")
    finally:
        service.stop()
    ratio = statistics.median(each[0] for each in found)
    served, alone = (1 / statistics.median(each[at] for each in found) for at in (1, 2))
    same = f"by connections, {'; '.join(waits)}" if waits else ""
    note(
        Row(
            f"an answer of `fmsteal serve`: {name}",
            "the model alone, batches of 64",
            alone,
            served,
            "s of CPU",
            same,
            ratio,
        )
    )
    benchmark.extra_info |= {"ratio": ratio}
    assert ratio >= claim


STEP = 10_000  # requests between two looks at the memory


def test_memory_stays_flat(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """20,000 requests, or ``FMSTEAL_REQUESTS=100000``; the table has the most that it held."""
    count = int(os.environ.get("FMSTEAL_REQUESTS", "20000"))
    bodies = [spell_image(image) for image in draw(5000)]
    service = Service(tmp_path, *BASE, *RESNET)
    try:
        asyncio.run(load(service.port, bodies, PNG, 64, 3000))
        held = [read_megabytes(service.process.pid)]

        def turn() -> None:
            for _ in range(STEP, count + STEP, STEP):
                asyncio.run(load(service.port, bodies, PNG, 64, STEP))
                held.append(read_megabytes(service.process.pid))

        benchmark.pedantic(turn, rounds=1)
    finally:
        service.stop()
    note(Row(f"`fmsteal serve` after {count:,} requests", "after the first 3,000", held[0], max(held[1:]), "MB"))
    assert max(held) < held[0] + 60
