"""Each service's description against a server that speaks as that service's documentation says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmsteal.base import paths
from fmsteal.base.errors import VictimError
from tests.support.api_server import Api, run
from tests.support.dialects import DIALECTS
from tests.support.small_task import CLASSES, TASK
from tests.victims.http.asking import IDS, POOL, classify, context, embed, make

SERVICES = sorted(file.stem for file in (paths.folder("conf") / "victim").glob("http_*.yaml"))
KEYS = {
    "http_cohere": "COHERE_KEY",
    "http_voyage": "VOYAGE_KEY",
    "http_jina": "JINA_KEY",
    "http_azure": "AZURE_VISION_KEY",
}
CLASSIFIERS = ("http_torchserve", "http_kserve")


def serving(choice: str, **options: object) -> Api:
    name = {"http_encoder": "fmsteal_encoder"}.get(choice, choice.removeprefix("http_"))
    if choice in CLASSIFIERS:
        return Api(classify, DIALECTS[name], len(CLASSES), remembers=False, **options)  # type: ignore[arg-type]
    return Api(embed, DIALECTS[name], 5, "embed", remembers=choice == "http_encoder", **options)  # type: ignore[arg-type]


def words_for(choice: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words = ["usd_per_1000=1"]
    if choice in KEYS:
        monkeypatch.setenv(KEYS[choice], "k-123")
    if choice == "http_vertex":
        words.append("token_command=[echo,k-123]")
    return [*words, "outputs=probabilities"] if choice in CLASSIFIERS else words


@pytest.mark.parametrize("choice", SERVICES)
def test_a_service_is_asked_in_its_own_words(choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with run(serving(choice)) as service:
        maker, ctx = make(service.url, *words_for(choice, monkeypatch), choice=choice), context(tmp_path)
        victim = maker.prepare(TASK, ctx)
        service.api.paid.clear()
        with victim.calls.during("attack"):
            answers = victim.answer(victim.raw(POOL, IDS[:40], ctx))
        model = classify if choice in CLASSIFIERS else embed
        np.testing.assert_allclose(answers, model(np.asarray(POOL.pixels[IDS[:40]])), rtol=1e-5, atol=1e-6)
        assert set(service.api.paid.values()) == {1}
        if choice in KEYS or choice == "http_vertex":
            assert all("k-123" in " ".join(headers.values()) for _, headers in service.api.requests)


@pytest.mark.parametrize("choice", SERVICES)
def test_what_a_service_says_when_it_refuses_reaches_the_reader(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run(serving(choice)) as service:
        maker = make(service.url, *words_for(choice, monkeypatch), choice=choice)
        service.api.before = lambda number: service.api._refuse(400, "this model is retired")
        about = ("about=null",) if choice == "http_encoder" else ()
        maker = make(service.url, *words_for(choice, monkeypatch), *about, choice=choice)
        with pytest.raises(VictimError, match=r"refuses with 400 and says: this model is retired"):
            maker.prepare(TASK, context(tmp_path))


def test_every_description_says_what_was_not_checked() -> None:
    for choice in set(SERVICES) - {"http_encoder"}:
        first = (paths.folder("conf") / "victim" / f"{choice}.yaml").read_text().splitlines()[0]
        assert "Not checked against" in first, choice
