"""A real service over HTTP: what it answers, and what it says to requests that are wrong."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import fmsteal
from fmsteal.serve.faults import REASONS
from tests.support.serving import (
    JPEG,
    JSON,
    PNG,
    Got,
    Service,
    connect,
    draw,
    receive,
    spell_batch,
    spell_image,
)

IMAGES = draw(12)
FILE = spell_image(IMAGES[0])
ALICE, BOB, CAROL, DORA, EVE = "alice", "bob", "carol", "dora", "eve"


@pytest.fixture(scope="module")
def due(job: fmsteal.Job) -> np.ndarray:
    """The victim's own probabilities of `IMAGES`."""
    with torch.no_grad():
        return job.victim(torch.from_numpy(IMAGES)).softmax(1).numpy()


def test_it_says_what_it_serves(service: Service, job: fmsteal.Job) -> None:
    assert service.get("/health", key=None).body == {"status": "ok"}
    assert service.get("/v1/model", ALICE).body == {
        "task": "classify", "width": 10, "classes": [str(n) for n in range(10)], "input_size": 32,
        "answers": "probabilities", "price_per_1000": 2.0,
    }  # fmt: skip
    assert service.get("/v1/model", BOB).body["price_per_1000"] is None
    assert service.get("/usage", BOB).body == {"queries": 0, "budget": 5, "usd": 0.0}
    assert str(job.theft["victim"]) in service.said and "127.0.0.1" in service.said


def test_answers_are_the_victims_own(service: Service, due: np.ndarray) -> None:
    queries, usd = service.usage(ALICE)
    got = service.ask(IMAGES, ALICE)
    assert np.abs(got.rows - due).max() < 1e-5 and np.array_equal(got.rows.argmax(1), due.argmax(1))
    assert got.body["usage"] == {"queries": 12, "usd": pytest.approx(0.024)}
    one = service.post(FILE, PNG, key=ALICE)
    assert np.abs(one.rows - due[:1]).max() < 1e-5
    assert service.post(spell_image(IMAGES[0], "JPEG"), JPEG, key=ALICE).rows.shape == (1, 10)
    assert service.usage(ALICE) == (queries + 14, pytest.approx(usd + 0.028))
    assert all(
        float(str(np.float32(number))) == number for number in one.rows[0].tolist()
    )  # as short as float32 can be


def test_requests_at_once_get_their_own_answers(service: Service, due: np.ndarray) -> None:
    def ask(number: int) -> None:
        at = number % len(IMAGES)
        images = IMAGES[at : at + 1 + number % 3]
        assert np.abs(service.ask(images, EVE).rows - due[at : at + len(images)]).max() < 1e-5

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, range(48)))


def test_a_key_is_answered_again_without_a_charge(service: Service) -> None:
    first = service.ask(IMAGES[:2], DORA, Idempotency_Key="k1")
    used = service.usage(DORA)
    again = service.ask(IMAGES[:2], DORA, Idempotency_Key="k1")
    assert again.body == first.body and again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers and service.usage(DORA) == used
    assert service.ask(IMAGES[:3], DORA, Idempotency_Key="k1").code == "key_reused"
    assert service.ask(IMAGES[:3], EVE, Idempotency_Key="k1").status == 200  # somebody else's key
    assert service.usage(DORA) == used


def test_the_same_key_at_once_is_charged_once(service: Service) -> None:
    before = service.usage(DORA)[0]
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: service.ask(IMAGES[:4], DORA, Idempotency_Key="at once"), range(6)))
    assert all(got.body == found[0].body for got in found) and service.usage(DORA)[0] == before + 4


def test_a_budget_is_not_passed(service: Service) -> None:
    assert service.ask(IMAGES[:3], BOB).status == 200
    got = service.ask(IMAGES[:3], BOB)
    assert (got.status, got.code) == (402, "budget_exhausted") and "2 of 5 queries left" in got.body["error"]["message"]
    assert service.usage(BOB)[0] == 3
    assert service.ask(IMAGES[:2], BOB).status == 200
    assert service.post(FILE, key=BOB).status == 402 and service.usage(BOB)[0] == 5
    assert service.post(FILE, key="nobody").status == 402


def test_a_rate_limit_says_when_to_come_back(service: Service) -> None:
    found = [service.post(FILE, key=CAROL) for _ in range(8)]
    limited = [got for got in found if got.status == 429]
    assert limited and found[0].status == 200
    wait = limited[0].body["error"]["retry_after"]
    assert 0 < wait <= 1 and limited[0].headers["retry-after"] == "1"
    time.sleep(wait + 0.05)
    assert service.post(FILE, key=CAROL).status == 200


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda s: s.post(FILE, key=None), 401, "unauthorized"),
        (lambda s: s.post(FILE, key="nobody's"), 401, "unauthorized"),
        (lambda s: s.send("POST", "/v1/classify", FILE, None, Authorization="Basic YWxpY2U6"), 401, "unauthorized"),
        (lambda s: s.send("POST", "/v1/classify", FILE, None, Authorization="Bearer "), 401, "unauthorized"),
        (lambda s: s.get("/usage", key=None), 401, "unauthorized"),
        (lambda s: s.get("/v1/model", key="bad"), 401, "unauthorized"),
        (lambda s: s.post(FILE, path="/v1/embed", key=ALICE), 404, "wrong_task"),
        (lambda s: s.get("/../../etc/passwd"), 404, "not_found"),
        (lambda s: s.get("/v1/%2e%2e/%2e%2e/etc/passwd%00"), 404, "not_found"),
        (lambda s: s.get("/v1/classify"), 405, "method_not_allowed"),
        (lambda s: s.send("DELETE", "/usage"), 405, "method_not_allowed"),
        (lambda s: s.post(b"", key=ALICE), 400, "bad_request"),
        (lambda s: s.post(b"", JSON, key=ALICE), 400, "bad_request"),
        (lambda s: s.post(b"{}", JSON, key=ALICE), 400, "bad_request"),
        (lambda s: s.post(FILE, key=ALICE, Idempotency_Key=""), 400, "bad_request"),
        (lambda s: s.post(FILE, key=ALICE, Idempotency_Key="k" * 256), 400, "bad_request"),
        (lambda s: s.post(FILE, "text/html", key=ALICE), 415, "unsupported_media_type"),
        (lambda s: s.send("POST", "/v1/classify", FILE, ALICE), 415, "unsupported_media_type"),
        (lambda s: s.post(b"GIF89a", key=ALICE), 422, "not_an_image"),
        (lambda s: s.post(bytes(17 * 2**20), key=ALICE), 413, "body_too_large"),
        (lambda s: s.post(spell_batch([FILE] * 257), JSON, key=ALICE), 413, "batch_too_long"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_said(
    ask: Callable[[Service], Got], status: int, code: str, service: Service
) -> None:
    used = service.usage(ALICE)
    got = ask(service)
    assert (got.status, got.code) == (status, code) and len(got.body["error"]["message"]) > 20
    assert service.usage(ALICE) == used and status == REASONS[code][0]


def test_a_hundred_megabytes_are_refused_and_take_no_memory(service: Service) -> None:
    def held() -> int:
        return int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1]) * 4096

    before, chunk = held(), bytes(2**20)
    with connect(service.port) as connection:  # it does not say how much it sends
        connection.request(
            "POST", "/v1/classify", (chunk for _ in range(100)),
            {"Authorization": "Bearer alice", "Content-Type": PNG}, encode_chunked=True,
        )  # fmt: skip
        assert receive(connection).code == "body_too_large"
        connection.request("GET", "/health")
        assert receive(connection).status == 200
    assert held() - before < 50 * 2**20


def test_others_are_served_beside_slow_clients_and_many_connections(service: Service) -> None:
    idle = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(300)]
    try:
        for number, sock in enumerate(idle):
            head = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Length: 1000\r\n"
            sock.sendall(head[: 10 * number] if number < 200 else head + b"\r\npart")
        assert service.post(FILE, key=ALICE).status == 200
    finally:
        for sock in idle:
            sock.close()
    assert service.post(FILE, key=ALICE).status == 200


def test_headers_without_end_are_cut_off(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as sock:
        sock.settimeout(30)
        with pytest.raises(OSError):  # the service closes while more is sent
            sock.sendall(b"GET /health HTTP/1.1\r\n")
            for number in range(4000):
                sock.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))
            raise AssertionError("4 MB of headers were taken")


def test_no_http_at_all_is_answered_and_closed(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as sock:
        sock.settimeout(30)
        sock.sendall(b"\x16\x03\x01 this is TLS, or anything\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.1 400")


def test_the_access_log_has_a_line_for_each_request_and_no_key(service: Service) -> None:
    service.post(FILE, key=ALICE, path="/v1/embed", Idempotency_Key="logged")
    service.post(FILE, "text/secret", key="a planted secret")
    file = next(Path(service.process.words[-1]).glob("access.jsonl"))

    def read() -> list[dict[str, object]]:
        """What has been written as a whole: a line comes when its answer has left, in whatever order they leave."""
        return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def find(code: str, path: str) -> dict[str, object]:
        for _ in range(100):
            if found := [line for line in read() if (line.get("code"), line["path"]) == (code, path)]:
                return found[-1]
            time.sleep(0.05)
        raise AssertionError(read())

    embed, bad = find("wrong_task", "/v1/embed"), find("unauthorized", "/v1/classify")
    assert (embed["client"], embed["status"], embed["method"]) == ("alice", 404, "POST")
    assert bad["status"] == 401 and "client" not in bad
    asked = [line for line in read() if line["status"] == 200 and "images" in line]
    assert (
        all({"time", "peer", "ms", "bytes_in", "bytes_out", "client", "queries"} <= set(line) for line in asked)
        and asked
    )
    for kept in file.parent.iterdir():
        with suppress(FileNotFoundError):  # SQLite's own come and go
            assert b"planted" not in kept.read_bytes(), kept


def test_all_that_it_answers_is_documented(service: Service) -> None:
    known = service.get("/openapi.json", key=None).body
    assert known["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for path in ("/v1/classify", "/v1/embed"):
        query = known["paths"][path]["post"]
        assert query["security"] == [{"bearer": []}]
        assert set(query["requestBody"]["content"]) == {PNG, JPEG, JSON}
        assert {int(status) for status in query["responses"]} == {200} | {
            status for code, (status, _) in REASONS.items() if code not in ("not_found", "method_not_allowed")
        }
        said = " ".join(response["description"] for response in query["responses"].values())
        assert all(code in said for code in REASONS if code not in ("not_found", "method_not_allowed"))
    assert {"/health", "/usage", "/v1/model", "/v1/classify", "/v1/embed"} == set(known["paths"])
