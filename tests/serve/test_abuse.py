"""A real service under abuse: it answers with 4xx, its memory stays bounded, and others are served meanwhile."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.serve.given import start
from tests.support import bombs
from tests.support.serving import JPEG, JSON, PNG, Service, connect, draw, receive, spell_batch, spell_image

FILE = spell_image(draw(1)[0])
ANN = "Authorization: Bearer ann\r\n"
HEAD = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\n{ANN}Content-Type: {PNG}\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of a function, for ann, who is honest, and ben, with a budget."""
    running = start(tmp_path_factory.mktemp("abused"))
    yield running
    assert running.stop() == 0, running.said


@contextmanager
def meanwhile(service: Service, most: int = 300 * 2**20) -> Iterator[None]:
    """In the block, an honest client is answered, and the service takes no more than so many bytes at any moment."""
    status = Path(f"/proc/{service.process.pid}/status")
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")  # the peak begins anew

    def peak() -> int:
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)

    over, answers, before = Event(), list[int](), peak()

    def ask() -> None:
        while not over.is_set() or not answers:
            answers.append(service.post(FILE, key="ann", timeout=30).status)
            time.sleep(0.01)

    honest = Thread(target=ask)
    honest.start()
    try:
        yield
    finally:
        over.set()
        honest.join(60)
    assert answers and set(answers) == {200}
    assert peak() - before < most, f"{(peak() - before) / 2**20:.0f} MB more at the peak"


def say(service: Service, data: bytes, seconds: float = 30) -> bytes:
    """What comes back for some bytes, until the service waits for more or closes."""
    with socket.create_connection(("127.0.0.1", service.port), seconds) as sock:
        with suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        said = b""
        with suppress(OSError):
            while part := sock.recv(2**16):
                said += part
        return said


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        (PNG, bombs.claim_png(60_000), "image_too_large"),
        (PNG, bombs.claim_png(4_097), "image_too_large"),
        (PNG, bombs.inflate_text(10**8), "not_an_image"),
        (PNG, bombs.inflate_profile(10**8), "not_an_image"),
        (JPEG, bombs.claim_jpeg(65_000), "image_too_large"),
        (JPEG, bombs.claim_jpeg(4_097), "image_too_large"),
        (JPEG, bombs.repeat_scans(2_048, 20_000), "image_too_large"),
        (JSON, spell_batch([bombs.claim_png(2_000)] * 5), "image_too_large"),
        (JSON, spell_batch([FILE] * 2_000), "batch_too_long"),
        (JSON, b'{"images": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", "bad_request"),
    ],
    ids=["side", "pixels", "comment", "profile", "jpeg side", "jpeg pixels", "scans", "together", "many", "nested"],
)
def test_what_becomes_large_or_slow_is_refused(kind: str, body: bytes, code: str, service: Service) -> None:
    used = service.usage("ben")
    with meanwhile(service), ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: service.post(body, kind, key="ben"), range(8)))
    assert {(got.code, got.status // 100) for got in found} == {(code, 4)} and service.usage("ben") == used


def test_the_largest_images_that_are_allowed_are_answered_two_at_a_time(service: Service) -> None:
    body = bombs.fill_png(4_096)
    with meanwhile(service), ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: service.post(body, key="ann"), range(3)))
    assert [got.status for got in found] == [200] * 3


def test_bodies_of_a_hundred_megabytes_at_once_are_refused(service: Service) -> None:
    """Whether they say how long they are, or not."""

    def send(number: int) -> str:
        with connect(service.port) as connection:
            size = {"Content-Length": str(100 * 2**20)} if number % 2 else {}
            headers = {"Authorization": "Bearer ann", "Content-Type": PNG, **size}
            with suppress(OSError):  # it need not read to the end
                parts = (bytes(2**20) for _ in range(100))
                connection.request("POST", "/v1/classify", parts, headers, encode_chunked=not size)
            try:
                return receive(connection).code
            except OSError:
                return "closed"

    with meanwhile(service), ThreadPoolExecutor(8) as threads:
        found = set(threads.map(send, range(4)))
    assert "body_too_large" in found and found <= {"body_too_large", "closed", "overloaded"}


def count_open(service: Service) -> int:
    """The service's open files and connections."""
    return sum(1 for _ in Path(f"/proc/{service.process.pid}/fd").iterdir())


def test_a_thousand_connections_hold_nobody_up_and_are_forgotten(service: Service) -> None:
    """Silent ones, unfinished heads and bodies, and some that were answered and stay."""
    before = count_open(service)
    begun = [
        b"",
        HEAD[:40].encode(),
        f"{HEAD}Content-Length: 1000\r\n\r\npart".encode(),
        b"GET /health HTTP/1.1\r\n\r\n",
    ]
    socks = list[socket.socket]()
    try:
        with meanwhile(service):
            for number in range(1_000):
                socks.append(socket.create_connection(("127.0.0.1", service.port), 30))
                socks[-1].sendall(begun[number % 4])
            until = time.monotonic() + 60
            while count_open(service) - before < 750:  # those that were answered may have been closed
                assert time.monotonic() < until, count_open(service)
                time.sleep(0.05)
    finally:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
    until = time.monotonic() + 60
    while count_open(service) > before + 10:
        assert time.monotonic() < until, f"{count_open(service)} open, {before} before"
        time.sleep(0.1)


def test_a_client_that_asks_and_never_reads_holds_no_answers(service: Service) -> None:
    line = f"GET /openapi.json HTTP/1.1\r\nHost: x\r\n{ANN}\r\n".encode()
    with meanwhile(service, 100 * 2**20), socket.create_connection(("127.0.0.1", service.port), 3) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        with suppress(OSError):  # it stops reading
            sock.sendall(line * 20_000)


@pytest.mark.parametrize(
    "target",
    [
        "/../../etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/v1//classify",
        "/v1/classify/", "/v1/classify%00", "/v1/classify;a=b", "/v1\\classify", "/V1/CLASSIFY", "http://x/../service.db",
        "http://x/v1/classify/", "*", "/service.db", "/%ff%fe", "/" + "a" * 60_000, "/usage/../../access.jsonl",
    ],
    ids=lambda target: target[:24],
)  # fmt: skip
def test_no_path_leads_anywhere_else(target: str, service: Service) -> None:
    said = say(service, f"POST {target} HTTP/1.1\r\nHost: x\r\n{ANN}Content-Length: 0\r\n\r\n".encode())
    assert said.split(b" ")[1] in (b"400", b"404"), said[:200]
    assert b"root:" not in said and b"SQLite" not in said and b"location:" not in said.lower()


@pytest.mark.parametrize(
    "header",
    [
        "", "Authorization: \r\n", "Authorization: Bearer\r\n", "Authorization: Bearer \xe4nn\r\n",
        "Authorization: Basic YW5uOmFubg==\r\n", "Authorization: Bearer ann ann\r\n", "Authorization: Bearer ANN\r\n",
        f"Authorization: Bearer {'a' * 50_000}\r\n", "Authorization: ann\r\n", "X-Authorization: Bearer ann\r\n",
        "Authorization: Bearer nobody\r\nAuthorization: Bearer ann\r\n", "Cookie: key=ann\r\n",
    ],
    ids=lambda header: header[:30],
)  # fmt: skip
def test_no_other_key_opens(header: str, service: Service) -> None:
    request = (
        f"POST /v1/classify HTTP/1.1\r\nHost: x\r\n{header}Content-Type: {PNG}\r\nContent-Length: {len(FILE)}\r\n\r\n"
    )
    assert say(service, request.encode("latin-1") + FILE).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"{HEAD}Content-Length: -5\r\n\r\n", b"400"),
        (f"{HEAD}Content-Length: 99999999999999999999999\r\n\r\n", b"400"),
        (f"{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", b"400"),
        (f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (f"{HEAD}Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00", b"422"),
        ("GET /health HTTP/9.9\r\n\r\n", b"400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
        ("BREW /health HTTP/1.1\r\n\r\n", b"400"),
        ("CONNECT evil:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        ("GET /health HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
        ("\0" * 1000, b"400"),
    ],
)  # fmt: skip
def test_what_is_no_proper_request_is_refused(request_: str, status: bytes, service: Service) -> None:
    said = say(service, request_.encode("latin-1"))
    assert said.split(b" ")[1] in (status, b"405"), said[:200]
    assert service.get("/health").status == 200


@pytest.mark.slow
def test_slow_clients_are_given_up_and_cost_nothing(service: Service) -> None:
    """A body that comes byte by byte is given up after half a minute, a head that never ends after a quarter."""
    used = service.usage("ben")

    def drip(begin: bytes, each: Callable[[int], bytes]) -> tuple[float, bytes]:
        with socket.create_connection(("127.0.0.1", service.port), 60) as sock:
            began = time.monotonic()
            sock.sendall(begin)
            sock.settimeout(0.5)
            for number in range(120):
                try:
                    sock.sendall(each(number))
                    said = sock.recv(1000)
                except TimeoutError:
                    continue
                except OSError:
                    break
                taken = time.monotonic() - began
                with suppress(OSError):
                    said += sock.recv(1000)  # the body may come by itself
                return taken, said
            return time.monotonic() - began, b""

    body = f"{HEAD}Content-Length: 1000\r\n\r\n".replace("ann", "ben").encode()
    with meanwhile(service), ThreadPoolExecutor(8) as threads:
        bodies = [threads.submit(drip, body, lambda number: b"x") for _ in range(4)]
        heads = [threads.submit(drip, b"GET / HTTP/1.1\r\n", lambda number: b"X-%d: y\r\n" % number) for _ in range(4)]
    assert all(25 < each.result()[0] < 45 and b"slow_body" in each.result()[1] for each in bodies)
    assert all(10 < each.result()[0] < 30 for each in heads) and service.usage("ben") == used
