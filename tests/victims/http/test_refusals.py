"""What a service or a config gets wrong: one sentence that says what to change, and nothing paid is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from aiohttp import web

from fmsteal.base.errors import ConfigError, FmstealError, VictimError
from tests.support.api_server import run
from tests.support.small_task import TASK
from tests.victims.http.asking import IDS, POOL, api, ask, behind, classify, context, due, make

ONE = ("images_per_request=4", "concurrency=2", "retries=2")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("url=ftp://host/x",), r"victim\.url=ftp://host/x/v1/classify is no address"),
        (("url=http://host:port",), "is no address"),
        (("vectors='outputs[]..x'",), r"victim\.vectors=.* is no JMESPath expression"),
        (("body={text: hello}",), r"victim\.body has no place for an image\. Places are \{base64\}"),
        (("body=png",), r"victim\.body is raw, or a mapping"),
        (("body=raw",), r"sends one image as it is: victim\.images_per_request=1, not 16"),
        (("body={image: '{base64}'}",), r"no list around the place of the image: victim\.images_per_request=1"),
        (("body=raw", "images_per_request=1", "options={a: 1}"), r"leave out victim\.options"),
        (("concurrency=0",), r"victim\.concurrency must be at least 1"),
        (("images_per_request=0",), r"victim\.images_per_request must be at least 1"),
        (("quality=0",), r"victim\.quality is a JPEG's"),
        (("usd_per_1000=-1",), r"victim\.usd_per_1000 must not be negative"),
        (("name=' '",), r"victim\.name must be given"),
    ],
    ids=str,
)
def test_a_config_that_cannot_work_is_refused_before_anything_is_sent(words: tuple[str, ...], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make("http://127.0.0.1:9", *words)


def test_an_address_that_nobody_answers_at_is_said_soon(tmp_path: Path) -> None:
    with pytest.raises(VictimError, match=r"127\.0\.0\.1:9/v1/model cannot be reached .*victim\.url"):
        make("http://127.0.0.1:9").prepare(TASK, context(tmp_path))


@pytest.mark.parametrize(
    ("status", "match"),
    [
        (401, r"It does not accept the key: look at the variable that victim\.headers names"),
        (402, r"The budget there is spent: raise it, and run the same command again"),
        (404, r"There is nothing at that address: look at victim\.url"),
        (413, r"a smaller victim\.images_per_request or victim\.size"),
        (415, r"look at victim\.encoding and victim\.body"),
        (422, r"It cannot read the images"),
        (308, r"has moved to https://elsewhere/: give that"),
        (501, r"refuses with 501 and says: no"),
    ],
)
def test_a_refusal_says_what_to_change_and_costs_nothing(status: int, match: str, tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, *ONE)
        ask(victim, ctx, IDS[:8])
        headers = {"Location": "https://elsewhere/"}
        service.api.before = lambda number: service.api._refuse(status, "no", headers)
        with pytest.raises(VictimError, match=match) as error:
            ask(victim, ctx)
        assert "the same command goes on" in str(error.value) and "\n" not in str(error.value)
        service.api.before = lambda number: None
        again, _ = behind(service, tmp_path, *ONE)
        torch.testing.assert_close(ask(again, ctx), due(), rtol=0, atol=1e-6)
        assert service.api.paid.total() == len(POOL) - 8


def test_a_budget_that_ends_in_mid_run_keeps_what_was_answered(tmp_path: Path) -> None:
    with run(api(budget=50)) as service:
        victim, ctx = behind(service, tmp_path, *ONE)
        with pytest.raises(VictimError, match="402 and says: the budget is spent"):
            ask(victim, ctx)
        assert service.api.paid.total() == 48 == victim.costs(ctx)["cost/queries_billed"]
        service.api.budget = 10**9
        ask(victim, ctx)
        assert service.api.paid.total() == len(POOL) and set(service.api.paid.values()) == {1}


def test_vectors_elsewhere_are_paid_for_once_and_read_by_a_corrected_config(tmp_path: Path) -> None:
    for idempotency in ("true", "false"):
        words = (*ONE, f"idempotency={idempotency}")
        with run(api(remembers=False)) as service:
            _victim, ctx = behind(service, tmp_path / idempotency, *words, "vectors='data[].vector'")
            for _ in range(2):
                match = (
                    r"finds no vectors in the service's answer, which is \{outputs: \[\{probabilities: \[float x 3\]"
                )
                with pytest.raises(VictimError, match=match):
                    ask(behind(service, tmp_path / idempotency, *words, "vectors='data[].vector'")[0], ctx)
            paid = service.api.paid.total()
            right, _ = behind(service, tmp_path / idempotency, *words)
            torch.testing.assert_close(ask(right, ctx), due(), rtol=0, atol=1e-6)
            assert paid + service.api.paid.total() == len(POOL) - (8 - paid), (paid, service.api.paid.total())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda rows: [[*row, 0.0] for row in rows], r"changed width from 3 to 4: it is another model now"),
        (lambda rows: rows[:-1], r"gave 3 vectors for 4 images.*victim\.images_per_request"),
        (lambda rows: [[2 * x for x in row] for row in rows], r"rows that are not probabilities"),
    ],
)
def test_answers_that_do_not_fit_are_said(change: object, match: str, tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, *ONE)
        rows = change(classify(POOL.pixels[IDS[:4]]).tolist())  # type: ignore[operator]
        outputs = json.dumps({"outputs": [{"probabilities": row} for row in rows]})
        service.api.before = lambda number: web.Response(text=outputs, content_type="application/json")
        with pytest.raises(FmstealError, match=match):
            ask(victim, ctx, IDS[:4])


def test_an_error_inside_a_successful_reply_is_an_error(tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, *ONE)
        service.api.before = lambda number: web.json_response({"error": {"message": "model is loading"}})
        with pytest.raises(VictimError, match=r"error inside a successful reply: model is loading"):
            ask(victim, ctx)
        service.api.before = lambda number: web.Response(text="<html>proxy login</html>", content_type="text/html")
        with pytest.raises(
            VictimError, match=r"is no JSON \(it begins '<html>proxy login</html>'\): look at victim\.url"
        ):
            ask(victim, ctx)


def test_images_that_a_defense_refused_are_named_as_such(tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, *ONE)
        outputs = [{"probabilities": row} for row in classify(POOL.pixels[IDS[:3]]).tolist()]
        service.api.before = lambda number: web.json_response({"outputs": [*outputs, {"refused": True}]})
        with pytest.raises(VictimError, match=r"gave 3 vectors for 4 images and says: its defense refused the others"):
            ask(victim, ctx, IDS[:4])
