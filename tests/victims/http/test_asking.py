"""A victim behind HTTP answers as its model does; it is asked once about an image, and knows who it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fmsteal.base.errors import VictimError
from fmsteal.victims.content import know
from tests.support.api_server import open_image, run
from tests.support.small_task import TASK
from tests.victims.http.asking import IDS, POOL, api, ask, behind, classify, context, due, make


@pytest.mark.parametrize("words", [("images_per_request=1", "body=raw"), ("images_per_request=16",)], ids=str)
def test_answers_are_the_models_own_each_paid_once(words: tuple[str, ...], tmp_path: Path) -> None:
    with run(api(faults=0.5, kinds=("late",))) as service:
        victim, ctx = behind(service, tmp_path, *words)
        answers = ask(victim, ctx)
        torch.testing.assert_close(answers, due(), rtol=0, atol=1e-6)
        assert torch.equal(answers.argmax(1), due().argmax(1))
        assert set(service.api.paid.values()) == {1} and service.api.paid.total() == len(POOL)
        assert torch.equal(ask(victim, ctx, IDS[::-1].copy()), answers.flip(0))  # all of it is known
        same, _ = behind(service, tmp_path)
        assert torch.equal(ask(same, ctx), answers) and not service.api.paid
        assert 1 < service.api.busiest <= 8


def test_floats_are_sent_rounded_to_eight_bits(tmp_path: Path) -> None:
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path)
        with victim.calls.during("attack"):
            answers = victim.answer(victim.raw_images(images, ctx))
    shown = (images * 255).round().to(torch.uint8).numpy()
    np.testing.assert_allclose(answers, classify(shown), atol=1e-6)


def test_a_jpeg_is_another_image_and_size_resizes(tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, "encoding=jpeg", "quality=50", "body=raw", "images_per_request=1")
        answers = ask(victim, ctx, IDS[:4])
        bodies = [open_image(body) for body, headers in service.api.requests if headers["Content-Type"] == "image/jpeg"]
        assert len(bodies) == 4 and (answers - due(IDS[:4])).abs().max() > 1e-3
        victim, ctx = behind(service, tmp_path, "size=16", "body=raw", "images_per_request=1")
        ask(victim, ctx, IDS[:2])
        assert {open_image(body).shape for body, _ in service.api.requests} == {(3, 16, 16)}


def test_probabilities_that_a_service_rounds_or_leaves_out_are_used_as_they_came(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def cut(images: np.ndarray) -> np.ndarray:
        rows = classify(images)
        return np.where(rows < rows.max(1, keepdims=True), 0, rows.round(1)).astype(np.float32)

    with run(replace(api(), model=cut)) as service:
        victim, ctx = behind(service, tmp_path)
        answers = ask(victim, ctx)
    np.testing.assert_allclose(answers, cut(np.asarray(POOL.pixels)), rtol=0, atol=1e-6)
    assert (answers == 0).sum() == 2 * len(POOL) and caplog.text.count("off 1, as where a service rounds them") == 1


def test_a_service_that_describes_itself_is_not_asked_for_its_width(tmp_path: Path) -> None:
    with run(api()) as service:
        victim = make(service.url).prepare(TASK, context(tmp_path))
        assert victim.width == 3 and not service.api.paid
        service.api.width = 7
        with pytest.raises(VictimError, match=r"answers with 7 numbers, and the data set has 3 classes"):
            make(service.url).prepare(TASK, context(tmp_path))
        service.api.width, service.api.task = 3, "embed"
        with pytest.raises(VictimError, match=r"is a service for task=embed, and this job's is task=classify"):
            make(service.url).prepare(TASK, context(tmp_path))
        with pytest.raises(VictimError, match=r"405.*If it does not describe itself: victim\.about=null"):
            make(service.url, "about=/v1/classify").prepare(TASK, context(tmp_path))


def test_it_is_recognised_by_eight_answers_asked_once_in_a_process(tmp_path: Path) -> None:
    with run(api()) as service:

        def key(name: str = "known") -> str:
            ctx = context(tmp_path)
            return know(make(service.url, "about=null", name=name).prepare(TASK, ctx), True, TASK, ctx).key

        assert key() == key() and service.api.paid.total() == 8
        assert key("other") != key() and service.api.paid.total() == 16
    with run(replace(api(), model=lambda images: classify(255 - images))) as service:  # another address, the same name
        assert key().endswith("probe2")
    with run(api()) as service:
        assert key().endswith("probe1")


def test_a_service_that_never_answers_twice_alike_is_asked_every_question(tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path, "deterministic=false")
        for nth in (0, 1, 1):
            victim.expect([f"0/{number}/{nth}" for number in range(10)])
            ask(victim, ctx, IDS[:10])
        assert set(service.api.paid.values()) == {2}, "the third time is an answer of the second"
        keys = [headers["Idempotency-Key"] for _, headers in service.api.requests]
        assert len(set(keys)) == len(keys) == 2
        with victim.calls.during("measurement"):
            victim.raw(POOL, IDS[:10], ctx)
            victim.raw(POOL, IDS[:10], ctx)
        assert set(service.api.paid.values()) == {3}


def test_two_thefts_share_what_they_paid_for(tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path)
        one, two = replace(ctx, account="a" * 16), replace(ctx, account="b" * 16)
        ask(victim, one, IDS[:50])
        ask(victim, two, IDS[30:])
        assert set(service.api.paid.values()) == {1} and service.api.paid.total() == len(POOL)
        assert victim.costs(one)["cost/queries_billed"] == 50 and victim.costs(two)["cost/queries_billed"] == 70


def test_past_the_oracle_nothing_is_sent(tmp_path: Path) -> None:
    with run(api()) as service:
        victim, ctx = behind(service, tmp_path)
        with pytest.raises(VictimError, match=r"past the oracle\. Nothing was sent"), victim.calls.during("outside"):
            victim.raw(POOL, IDS, ctx)
        with pytest.raises(VictimError, match="no features or gradients"):
            victim.model(torch.zeros(1, 3, 8, 8))
        assert not service.api.requests and victim.calls.shown["outside"] == len(POOL)
