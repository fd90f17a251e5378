"""A server for each test, whose key is in the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("clarifai_grpc")
pytest.importorskip("cryptography")

from fmsteal.victims import patience, remote
from tests.support.clarifai_server import Running, run
from tests.victims.clarifai.asking import PAT, api


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("CLARIFAI_PAT", PAT)
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.0025)
    remote.asked_in_this_process.cache_clear()
    (folder := tmp_path / "server").mkdir()
    with run(api(), folder) as running:
        yield running
