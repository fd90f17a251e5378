"""Attacks on an encoder behind Clarifai's API steal the same as in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("clarifai_grpc")
pytest.importorskip("cryptography")

from fmsteal.attacks.base import AttackContext
from fmsteal.config import build
from fmsteal.oracle.ledger import Ledger
from fmsteal.training.context import Context
from fmsteal.training.inference import compute_outputs
from fmsteal.victims.base import Victim, VictimMaker
from fmsteal.victims.clarifai.victim import ClarifaiEncoder
from fmsteal.victims.given import GivenEncoder
from tests.attacks.embedding_api import POOL, QUICK, Brightness
from tests.support.an_api import in_front_of
from tests.support.clarifai_server import Clarifai, Running, run
from tests.support.composing import composed
from tests.support.small_task import TASK, context

QUERIES = 40
KEY = {"authorization": "Key env:CLARIFAI_PAT"}


def embeddings(images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Brightness()(torch.from_numpy(np.ascontiguousarray(images))).numpy()


def steal(name: str, maker: VictimMaker, folder: Path) -> tuple[nn.Module, Victim, Ledger, Context]:
    cfg, ctx = composed(*QUICK, f"attack={name}"), context(folder)
    victim = maker.prepare(TASK, ctx)
    victim.calls.purpose = "attack"
    oracle = in_front_of(victim, POOL, ctx, QUERIES)
    thief = build.make(cfg.attack).run(oracle, POOL, AttackContext(build.make(cfg.thief), ctx))
    return thief, victim, Ledger(folder / "ledger.bin", "job"), ctx


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with run(Clarifai(embeddings, key="pat-1"), tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.parametrize("name", ["direct", pytest.param("stolen_encoder_k0", marks=pytest.mark.slow)])
def test_an_attack_steals_the_same_over_clarifai(
    name: str, server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLARIFAI_PAT", "pat-1")
    clarifai = ClarifaiEncoder(
        usd_per_1000=1, cap_usd=1, base=server.base, root_certificates=str(server.certificates), headers=KEY,
        images_per_request=7,
    )  # fmt: skip
    here, _, own, ctx = steal(name, GivenEncoder(f"{__name__}:embeddings"), tmp_path / "here")
    there, victim, theirs, paid = steal(name, clarifai, tmp_path / "there")
    assert list(own) == list(theirs) and len(own) == QUERIES, "the same questions in the same order"
    assert victim.costs(paid)["cost/queries_billed"] == QUERIES
    np.testing.assert_allclose(own.answers, theirs.answers, rtol=0, atol=1e-5)
    first, second = (compute_outputs(thief, POOL, np.arange(len(POOL)), ctx) for thief in (here, there))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-3 * float(first.abs().max()))
