"""A whole job against an encoder behind Clarifai's API finds what the same job finds in process, and says its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

pytest.importorskip("clarifai_grpc")
pytest.importorskip("cryptography")

from fmsteal.identity.keys import identity, key_hash
from fmsteal.job.pipeline import run
from fmsteal.job.publish import JobInfo
from tests.support import clarifai_server
from tests.support.clarifai_server import Clarifai
from tests.support.composing import TINY, composed

QUERIES, PAT = 60, "pat-planted-77"
WORDS = (
    "query.count=300", "overlap=allow", "tracker=none", "trainer=cpu", "task=embed", "attack=direct",
    "attack.recipe.epochs=1", "thief=encoder_resnet10", f"thief.{TINY}", "thief.backbone.stem=own",
    f"budget.queries={QUERIES}",
)  # fmt: skip
WEIGHTS = np.random.default_rng(4).normal(size=(48, 12)).astype(np.float32)


def embed(images: np.ndarray) -> np.ndarray:
    """Embeddings of 12 numbers by the mean colours of an image's 16 parts; the same to the last bit in any batch."""
    n, side = len(images), images.shape[-1] // 4
    means = (images.reshape(n, 3, 4, side, 4, side).mean((3, 5)).reshape(n, -1) / 255).astype(np.float32)
    return (means[:, :, None] * WEIGHTS).sum(1)


def run_job(root: Path, *words: str) -> dict[str, Any]:
    cfg = composed(*WORDS, f"output={root}", *words)
    cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    key = f"small-{key_hash(identity(cfg))}"
    return run(cfg, JobInfo(key, root / "runs" / "job", {}, "fmsteal ...", "victim"))


@pytest.mark.slow
def test_a_job_finds_the_same_and_counts_what_it_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARIFAI_PAT", PAT)
    here = run_job(tmp_path / "here", "victim=custom_encoder", f"victim.model={__name__}:embed")
    (folder := tmp_path / "server").mkdir()
    with clarifai_server.run(Clarifai(embed, key=PAT), folder) as server:
        there = run_job(
            tmp_path / "there", "victim=clarifai", "victim.usd_per_1000=4", f"victim.base='{server.base}'",
            f"victim.root_certificates={server.certificates}",
        )  # fmt: skip
        paid = server.api.paid.total()
        assert set(server.api.paid.values()) <= {1, 2}, "the eight that tell who it is are asked apart"
    assert there["metrics"].keys() == here["metrics"].keys() and len(here["metrics"]) > 5
    for name, value in here["metrics"].items():
        assert there["metrics"][name] == pytest.approx(value, rel=2e-3, abs=2e-3), name
    cost = there["cost"]
    assert cost["cost/queries"] == cost["cost/queries_billed"] == QUERIES and cost["cost/preparation_queries"] == 8
    assert cost["cost/usd"] == pytest.approx(QUERIES * 4 / 1000)
    assert cost["cost/usd_billed"] == pytest.approx((QUERIES + 8) * 4 / 1000) and "cost/unconfirmed" not in cost
    assert paid == QUERIES + 8 + cost["cost/evaluation_queries"]
    kept = [file for file in (tmp_path / "there").rglob("*") if file.is_file()]
    assert len(kept) > 15 and not [file for file in kept if PAT.encode() in file.read_bytes()]
