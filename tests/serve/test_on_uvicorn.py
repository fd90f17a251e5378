"""What fmsteal builds on inside uvicorn is as it was when that was written."""

from __future__ import annotations

import pytest

from tests.support.inside import importers, require_known

HERE = "fmsteal/serve/on_uvicorn.py"
PROTOCOL = "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol"
KNOWN = {  # digests of sources, or signatures
    f"{PROTOCOL}.connection_made": "8c1d055fd33a",
    f"{PROTOCOL}.connection_lost": "25fdeb43f2df",
    f"{PROTOCOL}.data_received": "e74b210e3c04",
    f"{PROTOCOL}.on_message_begin": "c456bff183cd",
    f"{PROTOCOL}.on_headers_complete": "8dfdf4fc3b4f",
    f"{PROTOCOL}.send_400_response": "(self, msg)",
    "uvicorn.server:Server.handle_exit": "b1106ed1450f",
    "uvicorn.server:Server.capture_signals": "8ad971b4e4ae",
    "uvicorn.server:Server.startup": "(self, sockets=)",
    "uvicorn.server:Server.shutdown": "b4f26fef0616",
}


@pytest.mark.parametrize(("name", "known"), KNOWN.items())
def test_uvicorn_is_the_one_that_this_was_written_for(name: str, known: str) -> None:
    require_known("uvicorn", name, known, HERE)


def test_nothing_else_looks_inside_uvicorn() -> None:
    assert list(importers("uvicorn.protocols", "uvicorn.server")) == [HERE]
