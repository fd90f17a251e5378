"""The key reaches Clarifai and nothing else, also where it is said back, and cut in two by a limit of length."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import grpc
import pytest
from clarifai_grpc.grpc.api import service_pb2

from fmsteal.base.errors import VictimError
from fmsteal.identity.keys import identity
from tests.support.clarifai_server import Running, refuse, status
from tests.support.composing import composed
from tests.victims.clarifai.asking import IDS, PAT, ask, behind


def test_a_key_reaches_the_service_and_nothing_else(
    service: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    victim, ctx = behind(service, tmp_path)
    ask(victim, ctx, IDS[:5])
    said = list[str]()

    def fail() -> None:
        with pytest.raises(VictimError) as error:
            ask(victim, ctx)
        said.append("".join(traceback.format_exception(error.value)))

    for padding in range(280, 300, 3):
        service.api.before = lambda number, images, padding=padding: refuse(11102, "x" * padding + PAT)  # type: ignore[misc]
        fail()
    echo = service_pb2.MultiOutputResponse(status=status(10000, PAT))
    echo.outputs.add(status=status(10000, PAT)).data.text.raw = PAT
    service.api.before = lambda number, images: echo
    fail()
    service.api.before = lambda number, images: None
    service.api.after = lambda context, reply: context.abort(grpc.StatusCode.INTERNAL, f"for {PAT}")
    fail()
    monkeypatch.setenv("CLARIFAI_PAT", f"{PAT}\n more")
    fail()
    assert "a value that gRPC does not allow" in said[-1]
    monkeypatch.setenv("CLARIFAI_PAT", other := PAT[:-1] + "x")
    fail()
    assert "says: Conn Key Invalid: the key Key env:CLARIFAI_PAT is unknown. It does not accept the key" in said[-1]
    texts = (*said, caplog.text, repr(victim), repr(victim.service))
    assert not [text for text in texts if PAT[:8] in text or other in text]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) >= 3 and not [file for file in files if PAT[:8].encode() in file.read_bytes()]


def test_address_prices_and_manners_are_no_part_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("task=embed", "victim=clarifai", "victim.usd_per_1000=1")
    one = identity(composed(*words))
    same = ("victim.usd_per_1000=3", "victim.cap_usd=9", "victim.base=localhost:1", "victim.concurrency=2")
    assert identity(composed(*words, *same, "victim.headers={authorization: 'Key env:OTHER'}")) == one
    assert identity(composed(*words, "victim.version_id=abc")) != one
