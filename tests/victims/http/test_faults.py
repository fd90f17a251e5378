"""Under fire: whatever goes wrong on the way, each answer is paid for once and belongs to its image."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aiohttp import web

from fmsteal.base.errors import StoreError, VictimError
from fmsteal.victims import patience
from fmsteal.victims.answer_log import AnswerLog
from tests.support.api_server import run
from tests.victims.http.asking import IDS, POOL, api, ask, behind, due

QUICK = ("retries=30", "timeout=5")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of our own are a hundredth as long."""
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.0025)


def test_hundreds_of_faults_cost_nothing_and_mix_nothing_up(tmp_path: Path) -> None:
    """Refused, slowed down, broken off before and after the answer, cut, late, delivered twice; four ways of asking."""
    faults = 0
    with run(api()) as service:
        for number, words in enumerate([("images_per_request=1", "body=raw"), ("images_per_request=3",)] * 2):
            victim, ctx = behind(service, tmp_path / str(number), *QUICK, *words, name=f"theirs{number}")
            service.api.faults = 0.4
            torch.testing.assert_close(ask(victim, ctx), due(), rtol=0, atol=1e-6)
            service.api.faults = 0.0
            calls = len(POOL) // 3 if "images_per_request=3" in words else len(POOL)
            faults += len(service.api.requests) - calls
            assert service.api.paid.total() == len(POOL) and set(service.api.paid.values()) == {1}
    assert faults > 120, "with those that only delay, some two hundred"


def test_a_service_without_idempotency_keys_is_only_asked_again_if_that_costs_nothing(tmp_path: Path) -> None:
    words = (*QUICK, "idempotency=false", "retry_statuses=[429,503]", "images_per_request=4")
    with run(api(remembers=False)) as service:
        victim, ctx = behind(service, tmp_path, *words)
        service.api.faults, service.api.kinds = 0.5, ("busy", "limited", "late")
        torch.testing.assert_close(ask(victim, ctx), due(), rtol=0, atol=1e-6)
        assert set(service.api.paid.values()) == {1} and service.api.paid.total() == len(POOL)
        assert not [1 for _, headers in service.api.requests if "Idempotency-Key" in headers]
        assert "cost/unconfirmed" not in victim.costs(ctx)


@pytest.mark.parametrize("fault", ["reset", "cut"])
def test_what_may_have_been_paid_is_said_and_bounded(fault: str, tmp_path: Path) -> None:
    words = ("idempotency=false", "retry_statuses=[429,503]", "images_per_request=2", "concurrency=3", "retries=30")
    with run(api(remembers=False)) as service:
        victim, ctx = behind(service, tmp_path, *words)
        service.api.faults, service.api.kinds = 0.15, (fault,)
        with pytest.raises(VictimError, match=r"broke off .*the same command goes on from there"):
            ask(victim, ctx)
        lost = victim.costs(ctx)["cost/unconfirmed"]
        assert 2 <= lost <= 6 and service.api.paid.total() == victim.costs(ctx)["cost/queries_billed"] + lost
        service.api.faults = 0
        again, _ = behind(service, tmp_path, *words)
        before = victim.costs(ctx)["cost/queries_billed"]
        torch.testing.assert_close(ask(again, ctx), due(), rtol=0, atol=1e-6)
        assert service.api.paid.total() == len(POOL) - before, "answers that arrived are not paid again"
        assert again.costs(ctx)["cost/unconfirmed"] == lost


def test_a_server_that_is_restarted_in_mid_run_goes_on(tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, *QUICK, "images_per_request=2")

        async def fall_over(request: web.Request) -> web.StreamResponse:
            service.restart_from_within(0.05)
            await asyncio.sleep(5)
            raise AssertionError

        service.api.before = lambda number: fall_over if number in (8, 40) else None
        torch.testing.assert_close(ask(victim, ctx), due(), rtol=0, atol=1e-6)
        assert len(service.api.requests) > 60 and set(service.api.paid.values()) == {1}


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("remembers", [True, False])
def test_a_client_that_dies_goes_on_from_what_arrived(
    remembers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies with calls under way, whose answers were made: known to the service, or at most that many paid again."""
    words = (*QUICK, f"idempotency={str(remembers).lower()}", "images_per_request=2", "concurrency=4")
    kept, answer = [0], AnswerLog.answer

    def die(self: AnswerLog, number: int, rows: Any) -> None:
        kept[0] += 1
        if kept[0] > 20:
            raise Killed
        answer(self, number, rows)

    with run(api(remembers=remembers)) as service:
        victim, ctx = behind(service, tmp_path, *words)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(AnswerLog, "answer", die)
            ask(victim, ctx)
        first = service.api.paid.total()
        assert 40 < first <= 48
        service.api.paid, before = type(service.api.paid)(), service.api.paid
        again, _ = behind(service, tmp_path, *words)
        torch.testing.assert_close(ask(again, ctx), due(), rtol=0, atol=1e-6)
        paid = before + service.api.paid
        assert set(paid) == set(before | service.api.paid) and len(paid) == len(POOL)
        if remembers:
            assert paid.total() == len(POOL)
        else:
            assert paid.total() - len(POOL) == again.costs(ctx)["cost/unconfirmed"] == first - 40


def test_calls_under_way_at_a_death_are_made_again_as_they_were(tmp_path: Path) -> None:
    """Also if another theft has meanwhile paid for some of the images, and calls would be cut elsewhere."""
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, "images_per_request=4", "concurrency=1")
        one = replace(ctx, account="a" * 16)

        async def never(request: web.Request) -> web.StreamResponse:
            service.api._answer(request, await request.read())
            return await service.api._hang_up(request)

        service.api.before = lambda number: never if number > 3 else None
        quick, _ = behind(service, tmp_path, "images_per_request=4", "concurrency=1", "retries=1")
        with pytest.raises(VictimError, match="broke off"):
            ask(quick, one, IDS[:20])
        service.api.before = lambda number: None
        assert service.api.paid.total() == 16
        ask(victim, replace(ctx, account="b" * 16), IDS[:1])
        again, _ = behind(service, tmp_path, "images_per_request=4", "concurrency=1")
        ask(again, one, IDS[:20])
        assert service.api.paid.total() == 4, "the fifth call alone"


def test_retry_after_holds_all_calls_back(tmp_path: Path) -> None:
    came: list[float] = []
    with run(api(retry_after="0.4")) as service:
        victim, ctx = behind(service, tmp_path, *QUICK, "images_per_request=10", "concurrency=2")

        def note(number: int) -> web.Response | None:
            came.append(time.monotonic())
            if number == 3:
                return service.api._refuse(429, "slower", {"Retry-After": "0.4"})
            return None

        service.api.before = note
        ask(victim, ctx)
        assert sum(gap > 0.35 for gap in np.diff(came)) == 1 and len(came) == 13
        service.api.before = lambda number: service.api._refuse(429, "tomorrow", {"Retry-After": "86400"})
        other, ctx = behind(service, tmp_path / "other", *QUICK)
        with pytest.raises(VictimError, match=r"429 and says: tomorrow.*It asks to wait 86400 s, more than"):
            ask(other, ctx)


def test_a_full_disk_loses_no_answer_of_a_service_that_remembers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, "images_per_request=4")
        append, written = AnswerLog._append, [0]

        def fill(self: AnswerLog, about: dict[str, Any], data: bytes = b"") -> None:
            written[0] += 1
            if written[0] > 15:
                raise StoreError("No space left")
            append(self, about, data)

        with monkeypatch.context() as patch, pytest.raises(StoreError, match="No space left"):
            patch.setattr(AnswerLog, "_append", fill)
            ask(victim, ctx)
        paid = service.api.paid.copy()
        again, _ = behind(service, tmp_path, "images_per_request=4")
        torch.testing.assert_close(ask(again, ctx), due(), rtol=0, atol=1e-6)
        assert (paid + service.api.paid).total() == len(POOL)
