"""Clarifai's encoder answers as its model does; each answer is paid for once, and belongs to its image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from fmsteal.base.errors import VictimError
from fmsteal.victims.content import know
from tests.support.clarifai_server import Running, refuse
from tests.support.small_task import TASK, context
from tests.victims.clarifai.asking import IDS, POOL, ask, behind, due, make


def total(service: Running) -> int:
    """How many images were charged; each of them once."""
    assert set(service.api.paid.values()) <= {1}
    return service.api.paid.total()


def test_129_images_are_two_calls_each_paid_once(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path)
    assert victim.width == 5 and victim.answers == "embeddings"
    torch.testing.assert_close(ask(victim, ctx), due(), rtol=0, atol=1e-5)
    assert sorted(service.api.sizes) == [1, 128] and total(service) == len(POOL)
    assert torch.equal(ask(victim, ctx, IDS[::-1].copy()), ask(victim, ctx).flip(0)) and total(service) == len(POOL)
    assert victim.costs(ctx) == {"cost/queries_billed": 129, "cost/preparation_queries": 8}


def test_it_is_recognised_by_eight_answers_asked_once_in_a_process(service: Running, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    keys = {know(make(service).prepare(TASK, ctx), True, TASK, ctx).key for _ in range(2)}
    assert len(keys) == 1 and service.api.sizes == [8]


def test_what_is_throttled_busy_or_loading_is_asked_again_and_paid_once(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path, "images_per_request=50")
    soon = {1: 11005, 2: 21354, 3: 10030, 4: 21355}
    service.api.before = lambda number, images: refuse(soon[number]) if number in soon else None
    torch.testing.assert_close(ask(victim, ctx), due(), rtol=0, atol=1e-5)
    assert len(service.api.sizes) == 3 + 4 and total(service) == 129 and "cost/unconfirmed" not in victim.costs(ctx)
    service.api.before = lambda number, images: refuse(11005, "slow down")
    with pytest.raises(VictimError, match=r"refuses a call for 8 images with 11005 \(CONN_THROTTLED\).*slow down"):
        make(service, "retries=2", "size=4").prepare(TASK, ctx)


def test_of_a_mixed_answer_only_the_rest_is_asked_again(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path, "images_per_request=40", "concurrency=2")
    seen: set[str] = set()

    def busy_at_first(number: int, images: list[str]) -> list[int]:
        """Every third image is answered at its second call."""
        codes = [10000 if name in seen or at % 3 else 21354 for at, name in enumerate(images)]
        seen.update(images)
        return codes

    service.api.before = busy_at_first
    torch.testing.assert_close(ask(victim, ctx), due(), rtol=0, atol=1e-5)
    assert total(service) == 129 and sorted(service.api.sizes) == [3, 9, 14, 14, 14, 40, 40, 40]
    assert victim.costs(ctx)["cost/queries_billed"] == 129 and "cost/unconfirmed" not in victim.costs(ctx)


def test_an_image_that_cannot_be_read_is_said_and_the_others_are_kept(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path)
    service.api.before = lambda number, images: [30002 if at in (3, 7) else 10000 for at in range(len(images))]
    match = r"refuses 2 of 128 images with 30002 \(INPUT_\w*FAILED\).*victim\.encoding.*the same command goes on"
    with pytest.raises(VictimError, match=match):
        ask(victim, ctx, IDS[:128])
    assert total(service) == 126 and victim.costs(ctx) == {
        "cost/queries_billed": 126, "cost/preparation_queries": 8, "cost/unconfirmed": 2,
    }  # fmt: skip
    service.api.before = lambda number, images: None
    torch.testing.assert_close(ask(victim, ctx), due(), rtol=0, atol=1e-5)
    assert service.api.sizes[1:] == [3] and total(service) == 129


def test_an_answer_that_was_lost_on_the_way_is_never_asked_for_again_unasked(service: Running, tmp_path: Path) -> None:
    """UNAVAILABLE once the answer was made: the published channel would send the call five times."""
    victim, ctx = behind(service, tmp_path, "images_per_request=20", "concurrency=2")

    lost = list[int]()

    def lose(context: grpc.ServicerContext, reply: Any) -> None:
        """The first answer that is made once three calls have arrived: two may arrive before either is answered."""
        if len(service.api.sizes) >= 3 and not lost:
            lost.append(len(service.api.sizes))
            context.abort(grpc.StatusCode.UNAVAILABLE, "the node went away")

    service.api.after = lose
    with pytest.raises(VictimError, match=r"broke off with UNAVAILABLE and says: the node went away.*goes on"):
        ask(victim, ctx)
    costs, paid = victim.costs(ctx), total(service)
    assert costs["cost/unconfirmed"] in (20, 40) and paid == costs["cost/queries_billed"] + costs["cost/unconfirmed"]
    service.api.after = lambda context, reply: None
    again, _ = behind(service, tmp_path, "images_per_request=20")
    torch.testing.assert_close(ask(again, ctx), due(), rtol=0, atol=1e-5)
    assert total(service) == 129 - costs["cost/queries_billed"], "answers that arrived are not paid again"
    assert again.costs(ctx)["cost/unconfirmed"] == costs["cost/unconfirmed"]


def test_a_call_without_an_answer_in_time_may_have_been_paid(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path, "timeout=0.3")
    service.api.after = lambda context, reply: time.sleep(0.6)
    with pytest.raises(VictimError, match=r"gave no answer in time \(victim\.timeout\)"):
        ask(victim, ctx, IDS[:5])
    assert victim.costs(ctx)["cost/unconfirmed"] == 5 and service.api.sizes == [5]


def test_a_theft_goes_on_where_another_process_left_it(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path)
    ask(victim, ctx, IDS[:50])
    again, _ = behind(service, tmp_path)
    np.testing.assert_allclose(ask(again, ctx), due(), rtol=0, atol=1e-5)
    assert total(service) == 79 and again.costs(ctx)["cost/queries_billed"] == 129
