"""The client against the server, both real: `victim=http` asks `fmsteal serve`, and steals as it does in process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import fmsteal
from fmsteal.data.images import Images
from fmsteal.victims import remote
from tests.support.http_victims import (
    ASKING,
    CLASSIFIER,
    HEADERS,
    PLAIN,
    TEN,
    ask_all,
    context,
    make,
    require_same_theft,
    steal,
)
from tests.support.server_books import read_books
from tests.support.serving import KEY, Service, draw

FORMS = (("images_per_request=16",), ("images_per_request=1", "body=raw"))
POOL = Images(draw(40, seed=7), "shown to both")
MODEL = """
import torch

class Colours(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(3 * 16, 12, bias=False)
        torch.nn.init.normal_(self.map.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, images):
        return self.map(torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1))
"""
ENCODER = (*PLAIN, "task=embed", "thief=encoder_resnet10", "attack.recipe.epochs=2", "budget.queries=40")


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMSTEAL_KEY", "alice")
    remote.asked_in_this_process.cache_clear()


def require_same_books(state: Path, job: fmsteal.Job) -> None:
    """The server was paid for what the client says it paid for, and recorded the answers that the client has."""
    books, cost, ledger = read_books(state), job.result["cost"], job.ledger
    paid = cost["cost/queries_billed"] + cost["cost/preparation_queries"] + cost["cost/evaluation_queries"]
    assert books.queries == len(books.images) == paid and books.reserved == 0
    for image, answer in zip(ledger["image"], ledger["answers"], strict=True):
        np.testing.assert_allclose(books.find(image.tobytes()), answer[None], rtol=0, atol=1e-6)


def shown_to(choice: str, url: str, words: tuple[str, ...], folder: Path) -> torch.Tensor:
    """The answers to `POOL` over the wire."""
    ctx = context(folder)
    victim = make(url, HEADERS, *words, choice=choice).prepare(TEN, ctx)
    return ask_all(victim, ctx, POOL)


@pytest.mark.parametrize("words", FORMS, ids=["base64", "png"])
@pytest.mark.usefixtures("_key")
def test_a_classifier_answers_over_the_wire_as_in_process(
    words: tuple[str, ...], service: Service, job: fmsteal.Job, tmp_path: Path
) -> None:
    answers = shown_to("http", service.url, words, tmp_path)
    with torch.no_grad():
        due = job.victim(torch.from_numpy(POOL.pixels)).softmax(1)
    torch.testing.assert_close(answers, due, rtol=0, atol=1e-5)
    assert torch.equal(answers.argmax(1), due.argmax(1))


@pytest.mark.usefixtures("_key")
def test_a_job_steals_from_a_service_what_it_steals_in_process(
    job: fmsteal.Job, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMSTEAL_KEY", KEY)
    service = Service(tmp_path / "service", str(job.folder), "--price", "2")
    try:
        over_http = ("victim=http", *ASKING, f"victim.url={service.url}", "victim.usd_per_1000=2")
        there = steal(tmp_path / "there", monkeypatch, *CLASSIFIER, *over_http, cache)
        require_same_theft(job, there)
        require_same_books(service.state, there)
        cost = there.result["cost"]
        assert read_books(service.state).usd == pytest.approx(cost["cost/usd_billed"] + cost["cost/evaluation_usd"])
    finally:
        service.stop(9)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of an encoder, given as a module."""
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "colours.py").write_text(MODEL)
    running = Service(folder, *ENCODER, "victim=custom_encoder", "victim.model=colours:Colours")
    yield running
    running.stop(9)


@pytest.mark.slow
@pytest.mark.parametrize("words", FORMS, ids=["base64", "png"])
@pytest.mark.usefixtures("_key")
def test_an_encoder_answers_over_the_wire_as_in_process(
    words: tuple[str, ...], encoder: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMSTEAL_KEY", KEY)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(MODEL, names)
    answers = shown_to("http_encoder", encoder.url, words, tmp_path)
    with torch.no_grad():
        due = names["Colours"]()(torch.from_numpy(POOL.pixels).float() / 255)
    torch.testing.assert_close(answers, due, rtol=0, atol=1e-5)
    assert torch.equal(answers.argmax(1), due.argmax(1))


@pytest.mark.slow
@pytest.mark.usefixtures("_key")
def test_a_job_steals_an_encoder_from_a_service_as_in_process(
    encoder: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMSTEAL_KEY", KEY)
    before = read_books(encoder.state).queries
    monkeypatch.syspath_prepend(encoder.state.parent)
    given = ("victim=custom_encoder", "victim.model=colours:Colours")
    here = steal(tmp_path / "here", monkeypatch, *ENCODER, *given)
    over_http = ("victim=http_encoder", *ASKING, f"victim.url={encoder.url}")
    there = steal(tmp_path / "there", monkeypatch, *ENCODER, *over_http)
    require_same_theft(here, there)
    cost = there.result["cost"]
    paid = sum(cost[f"cost/{name}"] for name in ("queries_billed", "preparation_queries", "evaluation_queries"))
    assert read_books(encoder.state).queries - before == paid
