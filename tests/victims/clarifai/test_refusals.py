"""What Clarifai or a config gets wrong: one sentence that says what to change, and nothing is paid for nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
import pytest
import torch
from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from fmsteal.base.errors import ConfigError, VictimError
from tests.support.clarifai_server import Running, make_certificate, refuse, status
from tests.support.small_task import TASK, context
from tests.victims.clarifai.asking import IDS, POOL, ask, behind, due, make


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("images_per_request=129",), r"victim\.images_per_request must be 1 to 128, not 129"),
        (("usd_per_1000=-1",), r"victim\.usd_per_1000 and victim\.cap_usd must not be negative"),
        (("concurrency=0",), r"victim\.concurrency must be at least 1"),
        (("base=https://api.clarifai.com",), r"victim\.base=https://api\.clarifai\.com is no host"),
        (("root_certificates=/not/there.pem",), r"victim\.root_certificates=/not/there\.pem: there is no such file"),
        (("headers.authorization='Key pat-1'",), r"headers\.authorization is to name its key, not to hold it"),
        (("headers.authorization='Key env:NO_SUCH_PAT'",), r"names the variable NO_SUCH_PAT, which is not set"),
        (("quality=0",), r"victim\.quality is a JPEG's"),
    ],
    ids=str,
)
def test_a_config_that_cannot_work_is_refused_before_anything_is_sent(
    words: tuple[str, ...], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARIFAI_PAT", "x")
    with pytest.raises(ConfigError, match=match):
        make(None, *words)


def test_a_missing_package_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARIFAI_PAT", "x")
    monkeypatch.setitem(sys.modules, "clarifai_grpc", None)
    with pytest.raises(ConfigError, match=r"needs clarifai_grpc: pip install 'fmsteal\[clarifai\]'"):
        make(None)


@pytest.mark.parametrize(
    ("code", "unconfirmed", "match"),
    [
        (11008, 0, r"11008 \(CONN_KEY_INVALID\).*It does not accept the key: look at the variable"),
        (11003, 0, r"11003 \(CONN_EXCEED_HOURLY_LIMIT\).*A limit of the account is reached"),
        (
            11102,
            0,
            r"11102 \(CONN_INVALID_REQUEST\) and says: Conn Invalid Request: no\. It takes the request",
        ),
        (21200, 0, r"21200 \(MODEL_DOES_NOT_EXIST\).*victim\.version_id"),
        (10020, 30, r"10020 \(FAILURE\) and says: Failure: no\."),
    ],
)
def test_an_error_inside_a_successful_call_is_an_error(
    code: int, unconfirmed: int, match: str, service: Running, tmp_path: Path
) -> None:
    """What it has certainly refused is free; any other failure may have been paid for."""
    victim, ctx = behind(service, tmp_path)
    ask(victim, ctx, IDS[:10])
    service.api.before = lambda number, images: refuse(code, "no")
    with pytest.raises(VictimError, match=match) as error:
        ask(victim, ctx, IDS[:40])
    assert "the same command goes on" in str(error.value) and "\n" not in str(error.value)
    assert victim.costs(ctx).get("cost/unconfirmed", 0) == unconfirmed and len(service.api.sizes) == 2
    service.api.before = lambda number, images: None
    torch.testing.assert_close(ask(behind(service, tmp_path)[0], ctx), due(), rtol=0, atol=1e-5)
    assert service.api.paid.total() == len(POOL) - 10


@pytest.mark.parametrize(
    ("code", "unconfirmed", "match"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, 0, r"refuses with UNAUTHENTICATED and says: no\. It does not accept the key"),
        (grpc.StatusCode.NOT_FOUND, 0, r"refuses with NOT_FOUND.*victim\.model_id"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 0, r"asked too often: a smaller victim\.concurrency"),
        (grpc.StatusCode.INTERNAL, 10, r"broke off with INTERNAL and says: no"),
    ],
    ids=str,
)
def test_an_error_of_the_call_itself_is_said(
    code: grpc.StatusCode, unconfirmed: int, match: str, service: Running, tmp_path: Path
) -> None:
    victim, ctx = behind(service, tmp_path, "retries=2")
    service.api.after = lambda context, reply: context.abort(code, "no")
    with pytest.raises(VictimError, match=match):
        ask(victim, ctx, IDS[:10])
    assert victim.costs(ctx).get("cost/unconfirmed", 0) == unconfirmed


def test_who_cannot_be_reached_or_cannot_prove_who_it_is_costs_nothing(service: Running, tmp_path: Path) -> None:
    with pytest.raises(VictimError, match=r"localhost:9 cannot be reached \(.*\): is that its address"):
        make(None, "cap_usd=0.01").prepare(TASK, context(tmp_path))
    (other := tmp_path / "other.pem").write_bytes(make_certificate("localhost")[1])
    with pytest.raises(VictimError, match=r"cannot prove who it is \(.*victim\.root_certificates"):
        make(service, f"root_certificates={other}").prepare(TASK, context(tmp_path))
    with pytest.raises(VictimError, match="cannot prove who it is"):
        make(service, f"base={service.base.replace('localhost', '127.0.0.1')}").prepare(TASK, context(tmp_path))
    assert not service.api.sizes
    make(service, "cap_usd=0.01").prepare(TASK, context(tmp_path))  # the eight images that the cap is for


def output(width: int) -> resources_pb2.Output:
    found = resources_pb2.Output(status=status(10000))
    found.data.embeddings.add(vector=[1.0] * width)
    return found


def concepts() -> resources_pb2.Output:
    found = resources_pb2.Output(status=status(10000))
    found.data.concepts.add(name="cat", value=0.9)
    return found


@pytest.mark.parametrize(
    ("outputs", "match"),
    [
        ([output(5)] * 3, r"gave 3 outputs for 4 images: look at victim\.images_per_request"),
        ([output(6)] * 4, r"changed width from 5 to 6: it is another model now\. Fix its version"),
        ([concepts()] * 4, r"answers with concepts, not with one embedding for an image: choose an embedding model"),
    ],
    ids=["fewer", "wider", "concepts"],
)
def test_answers_that_do_not_fit_are_said_and_kept(
    outputs: list[resources_pb2.Output], match: str, service: Running, tmp_path: Path
) -> None:
    victim, ctx = behind(service, tmp_path)
    service.api.before = lambda number, images: service_pb2.MultiOutputResponse(status=status(10000), outputs=outputs)
    with pytest.raises(VictimError, match=match):
        ask(victim, ctx, IDS[:4])
    assert victim.costs(ctx)["cost/unconfirmed"] == 4, "they were paid for"
    service.api.before = lambda number, images: None
    torch.testing.assert_close(ask(behind(service, tmp_path)[0], ctx, IDS[:4]), due(IDS[:4]), rtol=0, atol=1e-5)
