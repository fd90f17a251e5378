"""Keys of services are named in a config and read when they are sent; no text, file or message holds one."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path

import pytest
from aiohttp import web

from fmsteal.base.errors import ConfigError, FmstealError, VictimError
from fmsteal.config import build
from fmsteal.identity.keys import identity
from fmsteal.victims.http.reading import Reader, Unreadable
from tests.support.api_server import run
from tests.support.composing import composed
from tests.support.small_task import TASK
from tests.victims.http.asking import api, ask, behind, context, make

SECRET = "sk-planted-7f3a"
HEADERS = "headers.Authorization='Bearer env:THEIR_KEY'"


def find_secret(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def test_a_key_reaches_the_service_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the service says the key back: in a refusal, and in an answer that cannot be read."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("THEIR_KEY", f"{SECRET}\n")
    with run(api(key=f"Bearer {SECRET}")) as service:
        victim, ctx = behind(service, tmp_path, HEADERS)
        ask(victim, ctx)
        assert all(headers["Authorization"] == f"Bearer {SECRET}" for _, headers in service.api.requests)
        service.api.before = lambda number: web.json_response({"echo": SECRET})
        other, ctx = behind(service, tmp_path / "other", HEADERS)
        with pytest.raises(VictimError) as unread:
            ask(other, ctx)
        service.api.key, service.api.before = "another", lambda number: None
        monkeypatch.setenv("THEIR_KEY", SECRET[:-1] + "b")  # one that is refused, and said back
        with pytest.raises(VictimError, match=r"401 and says: the key Bearer env:THEIR_KEY is unknown") as refused:
            third, ctx = behind(service, tmp_path / "third", HEADERS)
            ask(third, ctx)
    said = ["".join(traceback.format_exception(error.value)) for error in (unread, refused)]
    texts = (*said, caplog.text, repr(victim), repr(victim.service))
    assert not [text for text in texts if SECRET[:-1] in text] and not find_secret(tmp_path)


def test_a_key_is_hidden_where_a_limit_would_cut_it() -> None:
    reader = Reader("vectors", "error", lambda text: text.replace(SECRET, "env:THEIR_KEY"))
    for ahead in range(30, 42):
        with pytest.raises(Unreadable) as unread:
            reader.read(b"-" * ahead + SECRET.encode() + b"-" * 400, 1, None)
        assert "sk-" not in str(unread.value)
    for ahead in range(280, 302):
        said = reader.read_error(json.dumps({"error": "-" * ahead + SECRET}).encode())
        assert said is not None and "sk-" not in said and len(said) <= 300


def test_a_token_is_fetched_by_a_command_and_again_when_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old")
    words = ("headers.Authorization='Bearer {token}'", f"token_command=[cat,{tmp_path}/token]")
    with run(api(key="Bearer old")) as service:
        victim, ctx = behind(service, tmp_path / "job", *words)
        ask(victim, ctx)
        (tmp_path / "token").write_text("new\n")
        service.api.key = "Bearer new"
        ask(victim, context(tmp_path / "anew"))
        assert service.api.requests[-1][1]["Authorization"] == "Bearer new"
        service.api.key = "Bearer newer"
        with pytest.raises(VictimError, match="401"):
            ask(victim, context(tmp_path / "refused"))
        lacking = make(service.url, words[0], "token_command=[/bin/false]")
        with pytest.raises(VictimError, match=r"token_command=/bin/false ended with 1"):
            lacking.prepare(TASK, ctx)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("headers.Authorization='Bearer sk-1'",), r"headers\.Authorization is to name its key.*env:NAME"),
        (("headers.X-Api-Key=abc",), r"headers\.X-Api-Key is to name its key"),
        (("headers.Authorization=env:NOT_SET_AT_ALL",), r"names the variable NOT_SET_AT_ALL, which is not set"),
        (("headers.Authorization='{token}'",), r"give victim\.token_command"),
        (("url=https://me:pw@host/v1",), r"victim\.url holds a key or a password"),
        (("url=https://host/v1?key=abc",), r"victim\.url holds a key or a password"),
    ],
    ids=str,
)
def test_a_key_in_clear_is_refused_and_not_repeated(words: tuple[str, ...], match: str) -> None:
    with pytest.raises(FmstealError, match=match) as error:
        make("http://127.0.0.1:9", *words)
    assert not any(secret in str(error.value) for secret in ("sk-1", "abc", "pw@"))


def test_a_variable_resolved_into_the_config_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_KEY", SECRET)
    words = ("victim=http", "victim.name=a", "victim.url=http://127.0.0.1:9")
    for value in ("${oc.env:THEIR_KEY}", "Bearer ${oc.env:THEIR_KEY,none}"):
        cfg = composed(*words, f"+victim.headers={{Authorization: '{value}'}}")
        with pytest.raises(ConfigError, match=r"victim\.headers\.Authorization takes.*THEIR_KEY.*write env:THEIR_KEY"):
            build.check(cfg)
    one = composed(*words, "victim.headers={Authorization: 'Bearer env:THEIR_KEY'}")
    build.check(one)
    other = composed(*words[:2], "victim.url=http://elsewhere:1", "victim.concurrency=2", "victim.usd_per_1000=7")
    assert identity(one) == identity(other) and SECRET not in str(identity(one))
    assert identity(composed(words[0], "victim.name=b", words[2])) != identity(one)
