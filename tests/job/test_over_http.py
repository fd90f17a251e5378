"""A whole job against a model behind HTTP: what it costs is counted, it goes on after a death, and it is verified."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from fmsteal.base.errors import ConfigError, VictimError
from fmsteal.face import models
from fmsteal.identity.keys import identity, key_hash
from fmsteal.job.parts import Parts
from fmsteal.job.pipeline import run
from fmsteal.job.publish import JobInfo
from fmsteal.records.folders import JobFolder, TheftFolder, find_theft
from fmsteal.victims import remote
from tests.support import api_server
from tests.support.api_server import Api, Running
from tests.support.composing import TINY, composed

QUERIES, SECRET = 60, "sk-planted-91"
WEIGHTS = np.random.default_rng(3).normal(size=(48, 10))
WORDS = (
    "tracker=none", "trainer=cpu", "victim=http", "victim.name=theirs", "thief=resnet10t", f"thief.{TINY}",
    "thief.recipe.epochs=1", "thief.recipe.min_steps=0", "query.count=300", "overlap=allow",
    f"budget.queries={QUERIES}", "victim.usd_per_1000=4", "victim.images_per_request=8",
    "victim.headers={Authorization: 'Bearer env:THEIR_KEY'}",
)  # fmt: skip


def answer(images: np.ndarray) -> np.ndarray:
    """Probabilities of ten classes by the mean colours of an image's 16 parts."""
    n, side = len(images), images.shape[-1] // 4
    rows = images.reshape(n, 3, 4, side, 4, side).mean((3, 5)).reshape(n, -1) / 255
    scores = np.exp(8 * (rows @ WEIGHTS - (rows @ WEIGHTS).max(1, keepdims=True)))
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("THEIR_KEY", SECRET)
    remote.asked_in_this_process.cache_clear()
    with api_server.run(Api(answer, width=10, key=f"Bearer {SECRET}")) as running:
        yield running


def run_job(root: Path, url: str, *words: str, name: str = "job") -> dict[str, Any]:
    cfg = composed(*WORDS, f"victim.url={url}", f"output={root}", *words)
    cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    key = f"small-{key_hash(identity(cfg))}"
    return run(cfg, JobInfo(key, root / "runs" / name, {}, "fmsteal ...", "victim"))


def test_a_job_counts_what_it_pays_and_leaves_no_key(service: Running, tmp_path: Path) -> None:
    api = service.api
    result = run_job(tmp_path, service.url)
    cost, test = result["cost"], result["cost"]["cost/evaluation_queries"]
    assert cost["cost/queries"] == cost["cost/queries_billed"] == QUERIES and cost["cost/preparation_queries"] == 8
    assert cost["cost/usd"] == pytest.approx(QUERIES * 4 / 1000)
    assert cost["cost/usd_billed"] == pytest.approx((QUERIES + 8) * 4 / 1000)
    assert api.paid.total() == QUERIES + 8 + test and "cost/unconfirmed" not in cost
    assert result["metrics"]["test/agreement"] > 0.1
    paid = api.paid.total()
    other = run_job(tmp_path, service.url, "attack=copycat", name="other")
    assert other["cost"]["cost/evaluation_queries"] == 0, "the test images are paid for"
    assert api.paid.total() == paid + other["cost"]["cost/queries_billed"] <= paid + QUERIES
    assert other["cost"]["cost/usd"] == cost["cost/usd"] and "cost/preparation_queries" not in other["cost"]
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(kept) > 20 and not [file for file in kept if SECRET.encode() in file.read_bytes()]
    requests, job = len(api.requests), JobFolder(tmp_path / "runs" / "job")
    again = run_job(tmp_path, service.url, "evaluation.k=3")
    assert again["metrics"]["test/agreement"] == result["metrics"]["test/agreement"]
    theft, cfg = find_theft(job), composed(*WORDS, f"victim.url={service.url}", f"output={tmp_path}")
    assert theft is not None
    folder = TheftFolder(theft.path.resolve())
    with pytest.raises(VictimError, match="answers for money"):
        models.load_victim(cfg, job, {**again, "command": "x"}, folder, json.loads(folder.seal.read_text()))
    assert len(api.requests) == requests, "to measure again and to open a job asks nothing"


def test_a_job_that_the_service_refuses_in_the_middle_goes_on(service: Running, tmp_path: Path) -> None:
    service.api.budget = 8 + 40
    with pytest.raises(VictimError, match=r"402 and says: the budget is spent.*the same command goes on"):
        run_job(tmp_path, service.url)
    assert service.api.paid.total() == 8 + 40
    service.api.budget = 10**9
    result = run_job(tmp_path, service.url)
    theft = find_theft(JobFolder(tmp_path / "runs" / "job"))
    assert theft is not None
    sealed = json.loads(TheftFolder(theft.path.resolve()).seal.read_text())
    assert sealed["paid"] and sealed["ledger"]["rows"] == QUERIES == result["cost"]["cost/queries_billed"]
    assert service.api.paid.total() == 8 + QUERIES + result["cost"]["cost/evaluation_queries"]


def test_another_model_behind_the_same_name_is_noticed(service: Running, tmp_path: Path) -> None:
    run_job(tmp_path, service.url)
    remote.asked_in_this_process.cache_clear()  # as another process
    service.api.model, service.api._answered = lambda images: answer(255 - images), {}
    with pytest.raises(Exception, match=r"other content under the same names \(victim\).*edition=2"):
        run_job(tmp_path, service.url, "evaluation=transfer")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (
            ("attack=dfme",),
            r"DFME\) asks about images that differ by less than 1/255.*HttpVictim\) is sent image files",
        ),
        (("evaluation=similarity",), r"similarity compares the features .*HttpVictim answers over a network"),
        (("evaluation=robustness", "evaluation.also.robustness.white_box=[victim]"), r"own gradients, but HttpVictim"),
    ],
    ids=str,
)
def test_what_needs_more_than_answers_is_refused_before_anything_is_sent(
    words: tuple[str, ...], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEIR_KEY", SECRET)
    with pytest.raises(ConfigError, match=match):
        Parts.of(composed(*WORDS, "victim.url=http://127.0.0.1:9", *words))
