"""Services as processes: told to end, killed in the middle, started again, and refused before they begin."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest

from fmsteal.serve import command
from tests.serve.given import GIVEN, MODEL, start
from tests.support.serving import JSON, Got, Service, connect, draw, receive, spell_batch, spell_image

IMAGES = draw(40)
LOST = (OSError, HTTPException)


def ask(service: Service, number: int) -> Got | None:
    """Ask about an image with a key of its own; None if the connection broke."""
    try:
        return service.ask(IMAGES[[number]], "ann", Idempotency_Key=f"question {number}")
    except LOST:
        return None


def test_it_answers_what_was_asked_and_ends_when_told_to(tmp_path: Path) -> None:
    service = start(tmp_path, seconds=1.0)
    with ThreadPoolExecutor(2) as threads, socket.create_connection(("127.0.0.1", service.port)) as slow:
        slow.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nContent-Length: 9\r\n\r\nbegun"
        )
        asked: Future[Got] = threads.submit(service.ask, IMAGES[:3], "ann")
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        assert asked.result().rows.shape == (3, 10)
        assert slow.recv(10_000).startswith(b"HTTP/1.1 503")  # a body that is still on its way is not waited for
    assert service.stop() == 0 and "has stopped" in service.said
    with pytest.raises(OSError):
        service.get("/health")


def test_killed_in_the_middle_it_goes_on_and_charges_each_answer_once(tmp_path: Path) -> None:
    service = start(tmp_path, seconds=0.2)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask, service, number) for number in range(40)]
        while sum(each.done() for each in asked) < 8:
            time.sleep(0.02)
        os.kill(service.process.pid, signal.SIGKILL)
        before = [each.result() for each in asked]
    assert 8 <= sum(got is not None for got in before) < 40
    service = start(tmp_path)
    had = service.usage("ann")[0]
    assert sum(got is not None for got in before) <= had <= 40  # what was recorded, but lost on its way, is charged
    after = [ask(service, number) for number in range(40)]
    assert all(got is not None and got.status == 200 for got in after)
    for first, second in zip(before, after, strict=True):
        assert second is not None and (first is None or first.body == second.body)
    assert sum("idempotent-replayed" in got.headers for got in after if got) == had
    assert service.usage("ann") == (40, pytest.approx(40.0))
    assert service.stop(signal.SIGINT) == 0


@pytest.mark.slow
def test_a_defense_remembers_its_clients_when_the_service_was_killed(tmp_path: Path) -> None:
    words = ("defense=client_limits", "defense.queries=4")
    service = start(tmp_path, *words)
    assert service.ask(IMAGES[:3], "ann").status == 200
    got = service.ask(IMAGES[3:5], "ann")
    assert [set(output) for output in got.body["outputs"]] == [{"probabilities"}, {"refused"}]
    assert got.body["usage"] == {"queries": 1, "usd": 1.0}
    service.stop(signal.SIGKILL)
    service = start(tmp_path, *words)
    got = service.ask(IMAGES[:2], "ann")
    assert (got.status, got.code) == (403, "refused") and service.usage("ann") == (4, 4.0)
    assert service.ask(IMAGES[:2], "ben").status == 200
    options, state = service.process.words[:-4], service.process.words[-2:]
    other = subprocess.run(
        [sys.executable, "-m", "fmsteal", *options, "defense.queries=5", *state],
        cwd=tmp_path, env={**os.environ}, text=True, capture_output=True,
    )  # fmt: skip
    assert other.returncode == 1 and "Another service works with" in other.stderr
    service.stop()


@pytest.mark.slow
def test_an_encoder_is_served_to_the_only_client(tmp_path: Path) -> None:
    service = start(
        tmp_path, "task=embed", "victim=custom_encoder", "thief=encoder_resnet10", "--budget", "3", "--price", "2",
        victim="embed", clients=False,
    )  # fmt: skip
    assert service.get("/v1/model").body == {
        "task": "embed", "width": 3, "classes": None, "input_size": 32, "answers": "embedding", "price_per_1000": 2.0,
    }  # fmt: skip
    files = [spell_image(image) for image in IMAGES[:2]]
    got = service.post(spell_batch(files), JSON, "/v1/embed")
    assert np.allclose(got.rows, IMAGES[:2].reshape(2, 3, -1).mean(2) - 128, atol=1e-4)
    assert "embedding" in got.body["outputs"][0] and service.post(files[0]).code == "wrong_task"
    assert service.post(spell_batch(files), JSON, "/v1/embed").status == 402 and service.usage() == (2, 0.004)
    service.stop()


def list_workers(service: Service) -> list[int]:
    """The processes of a service's workers."""
    listed = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in listed}
    return [child for child, line in lines.items() if b"fmsteal.serve.running" in line]


@pytest.mark.slow
def test_workers_share_budgets_and_end_together(tmp_path: Path) -> None:
    service = start(tmp_path, "defense=rounding", "--workers", "2", seconds=0.05)
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda n: service.ask(IMAGES[[n % 40]], "ben"), range(60)))
    assert sorted(got.status for got in found) == [200] * 30 + [402] * 30 and service.usage("ben")[0] == 30
    workers = list_workers(service)
    assert len(workers) == 2
    time.sleep(10)  # a worker that dies sooner ends the service
    os.kill(workers[0], signal.SIGKILL)
    assert all(service.post(spell_image(IMAGES[0]), key="ann").status == 200 for _ in range(5))
    workers += list_workers(service)  # the new one may still be starting
    os.kill(service.process.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while time.monotonic() < until and any(Path(f"/proc/{worker}").exists() for worker in workers):
        time.sleep(0.1)
    with pytest.raises(LOST), connect(service.port, 5) as connection:
        connection.request("GET", "/health")
        receive(connection)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "b"], "One job is served at a time"),
        (["a", "defense=prada"], "A finished job is served as it is: leave out defense=prada"),
        (["nowhere"], "There is no folder"),
        (["defense=parda"], "prada"),
        (["--clients", "none.yaml"], "none.yaml cannot be read"),
        (["--clients", "none.yaml", "--budget", "3"], "--budget is for a service without --clients"),
        (["--budget", "-1"], "budget is a number of answers"),
        (["--workers", "0"], "at least 1"),
        (["--prot", "8"], "--prot"),
        ([*GIVEN, "victim.model=theirs:answer", "defense=prada", "--workers", "2"], "depends: client"),
        ([*GIVEN, "victim.model=theirs:answer", "--port", "70000"], "Choose another: --port N"),
        ([*GIVEN, "victim.model=theirs:answer", "--state", "theirs.py"], "theirs.py"),
    ],
)
def test_what_cannot_be_served_is_said(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "theirs.py").write_text(MODEL.format(seconds=0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    with pytest.raises(SystemExit) as end:
        command.main(["serve", *words])
    assert said in f"{end.value} {capsys.readouterr().err}"


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "NEEDED", ("a_package_that_is_not_there",))
    with pytest.raises(
        SystemExit, match=r"a_package_that_is_not_there, which is not installed: pip install 'fmsteal\[serve\]'"
    ):
        command.main(["serve"])
