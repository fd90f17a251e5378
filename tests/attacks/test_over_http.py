"""Every attack that asks about pool images, against the same model in this process and behind HTTP: the same theft."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.config import build
from fmsteal.config.answers import choices
from fmsteal.data.images import Images, Task
from fmsteal.oracle.ledger import Ledger
from fmsteal.training.context import Context
from fmsteal.training.inference import compute_outputs
from fmsteal.victims.base import Victim, VictimMaker
from fmsteal.victims.given import GivenEncoder, GivenVictim
from fmsteal.victims.http.victim import HttpEncoder, HttpVictim
from tests.attacks import embedding_api
from tests.support import colour_api
from tests.support.an_api import in_front_of
from tests.support.api_server import Api, run
from tests.support.composing import composed
from tests.support.dialects import DIALECTS
from tests.support.small_task import context

QUERIES = 40
ASK_NOTHING = {"pretrain", "public_encoder", "own_data", "own_data_ceiling"}
NEEDS_FLOATS = {"dfme", "dfme_standardised"}  # refused by name: tests/job/test_over_http.py
FROZEN = ("task=embed", "thief=encoder_efficientnet_lite0_probe", "thief.backbone.size=32")
TRUNK = ("thief=efficientnet_lite0", "thief.backbone.size=32", *colour_api.QUICK[len(colour_api.THIEF) :])
OTHERS = ("~attack.candidates.efficientnet_lite1", "~attack.candidates.efficientnet_lite2")
DFAL = ("attack.rounds=2", "attack.strategy.candidates=10", "attack.strategy.classes=2")
SMALLER = {"activethief_dfal": DFAL, "activethief_dfal_kcenter": DFAL}
QUICK = {
    **dict.fromkeys(["linear_map", "repeat_average_map", "sybil_remap_map", "besa"], FROZEN),
    "solve": TRUNK,
    "trunk_inference": (*TRUNK, *OTHERS),
}
FIRST_ROUND = {  # then they ask by what the last bits of an answer may decide: signs of gradients, DeepFool's distances
    "jbda_tr": 32,
    "activethief_dfal": 12,
    "activethief_dfal_kcenter": 12,
}
EMBED = sorted(set(choices("attack", "embeddings")) - ASK_NOTHING)
CLASSIFY = sorted(set(choices("attack", "probabilities")) - ASK_NOTHING - NEEDS_FLOATS)
DAILY = {"knockoff", "knockoff_adaptive", "jbda", "sybil_remap"}  # one of each way of asking; the others are slow
LABELLED = replace(colour_api.POOL, labels=np.arange(80) % colour_api.CLASSES, classes=tuple("abcd"))


def probabilities(images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return colour_api.Colours()(torch.from_numpy(np.ascontiguousarray(images))).softmax(1).numpy()


def embeddings(images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return embedding_api.Brightness()(torch.from_numpy(np.ascontiguousarray(images))).numpy()


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    classifier = Api(probabilities, width=colour_api.CLASSES)
    encoder = Api(embeddings, DIALECTS["fmsteal_encoder"], embedding_api.Brightness.width, "embed")
    with run(classifier) as one, run(encoder) as other:
        yield {"classify": one.url, "embed": other.url}


def steal(name: str, maker: VictimMaker, folder: Path) -> tuple[nn.Module, Victim, Ledger, Context]:
    api, quick = (embedding_api, embedding_api.QUICK) if name in EMBED else (colour_api, colour_api.QUICK)
    cfg = composed(*QUICK.get(name, quick), f"attack={name}", *SMALLER.get(name, ()))
    ctx, task = context(folder), Task(LABELLED, LABELLED)
    victim = maker.prepare(task, ctx)
    victim.calls.purpose = "attack"
    attack, oracle = build.make(cfg.attack), in_front_of(victim, api.POOL, ctx, QUERIES)
    thief = attack.run(oracle, api.POOL, AttackContext(build.make(cfg.thief), ctx, labelled=LABELLED))
    return thief, victim, Ledger(folder / "ledger.bin", "job"), ctx


@pytest.mark.parametrize(
    "name", [name if name in DAILY else pytest.param(name, marks=pytest.mark.slow) for name in EMBED + CLASSIFY]
)
def test_an_attack_steals_the_same_over_http(name: str, urls: dict[str, str], tmp_path: Path) -> None:
    place = f"{__name__}:{'embeddings' if name in EMBED else 'probabilities'}"
    given: VictimMaker = GivenEncoder(place) if name in EMBED else GivenVictim(place)
    http: VictimMaker = (
        HttpEncoder(name=name, url=urls["embed"], route="/v1/embed", about="/v1/model", images_per_request=7)
        if name in EMBED
        else HttpVictim(name=name, url=urls["classify"], route="/v1/classify", about="/v1/model", images_per_request=7)
    )
    here, _, own, ctx = steal(name, given, tmp_path / "here")
    there, _, theirs, _ = steal(name, http, tmp_path / "there")
    same = FIRST_ROUND.get(name, len(own))
    assert len(own) == len(theirs) and 0 < len(own) <= QUERIES
    assert list(own)[:same] == list(theirs)[:same], "the same questions in the same order"
    np.testing.assert_allclose(own.answers[:same], theirs.answers[:same], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(own.answers[:same].argmax(1), theirs.answers[:same].argmax(1))
    if same < len(own):
        return
    pool: Images = embedding_api.POOL if name in EMBED else colour_api.POOL
    first, second = (compute_outputs(thief, pool, np.arange(len(pool)), ctx) for thief in (here, there))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-3 * float(first.abs().max()))
    assert (first.argmax(1) == second.argmax(1)).float().mean() >= 0.98
