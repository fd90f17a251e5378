"""Stealing an encoder from the command line to its files, killed on the way, and refused where it makes no sense."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmsteal.oracle.ledger import Ledger
from fmsteal.report.show.dashboard import FIGURES, PICTURES, TABLES
from tests.support.commands import Run, finish, start
from tests.support.composing import SMOKE
from tests.support.outputs import in_thief_training, only_run, only_theft, theft_of_job
from tests.support.wandb_file import offline_runs

EMBED = (
    *SMOKE, "task=embed", "attack.recipe.epochs=2", "evaluation.also.fidelity.images=150", "data.test=200",
    "evaluation.images=150", "evaluation.heads.linear.iterations=20", "evaluation.downstream.digits.train_count=200",
    "evaluation.downstream.digits.test=200",
)  # fmt: skip
NAMES = {
    "test/agreement", "test/target_accuracy", "test/stolen_accuracy", "test/ratio", "test/cosine", "test/l2",
    "test/cka", "test/knn_agreement", "downstream/digits/target_accuracy", "downstream/digits/stolen_accuracy",
    "downstream/digits/ratio", "downstream/digits/agreement", "fidelity/neighbours@10", "fidelity/neighbours@100",
    "fidelity/cosine_q50", "fidelity/cka/stage1",
}  # fmt: skip


def test_an_encoder_is_stolen_and_judged(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal(*EMBED, "tracker=wandb")
    for words in ("target's downstream accuracy", "stolen encoder's", "ratio", "cosine", "agreement", "100 of 100"):
        assert words in done.stdout
    folder = only_run(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert set(result["metrics"]) >= NAMES and all(np.isfinite(list(result["metrics"].values())))
    assert result["axis"]["task"] == "embed" and result["axis"]["attack"] == "stolen_encoder"
    assert result["cost"]["cost/queries"] == 100

    ledger = only_theft(tmp_path).ledger
    header = json.loads(ledger.read_bytes().partition(b"\n")[0])
    assert Ledger(ledger, header["job"]).answers.shape == (100, 1280), "Lite0's embeddings, undefended"
    kept = np.load(folder / "predictions.npz")
    agreement = np.mean(kept["digits/victim"] == kept["digits/thief"])
    assert agreement == result["metrics"]["downstream/digits/agreement"]
    with Image.open(folder / "retrieval.png") as picture:
        assert picture.width > 500
    (run,) = offline_runs(folder)
    assert run.exit_code == 0 and run.summary["test/ratio"] == result["metrics"]["test/ratio"]
    assert len(run.curve("thief/epoch", "thief/loss")) == 2
    assert any("retrieval" in name for name in run.summary)
    assert set().union(FIGURES["encoders"], PICTURES["encoders"], TABLES["encoders"]) <= run.names  # of the dashboards

    again = fmsteal(*EMBED, "tracker=wandb")
    assert "finished already" in again.stdout + again.stderr


@pytest.mark.slow
def test_an_encoder_is_pre_trained_by_simclr_and_stolen_behind_a_defense(fmsteal: Run, tmp_path: Path) -> None:
    small = ("victim=simclr_resnet10", "victim.recipe.epochs=1", "data.train_count=300", "query.size=32")
    fmsteal("-m", *EMBED, *small, "attack=direct,rda", "defense=feature_top_k", "sweep_id=s")
    results = [json.loads(p.read_text()) for p in (tmp_path / "outputs" / "sweeps" / "s").glob("*/result.json")]
    assert {r["axis"]["attack"] for r in results} == {"direct", "rda"}
    assert all(r["cost"]["cost/queries"] == 100 and r["axis"]["victim_adaptation"] == "simclr" for r in results)
    assert len(list((tmp_path / "outputs" / "cache" / "victims").iterdir())) == 1
    assert len(list((tmp_path / "outputs" / "cache" / "heads").iterdir())) == 1, "the target's head, trained once"


@pytest.mark.slow
def test_killed_while_it_asks_and_trains_it_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Cont-Steal asks in every epoch: the questions of the epochs before the kill are neither lost nor paid twice."""
    job = (
        *EMBED, "attack=cont_steal", "attack.recipe.epochs=8", "attack.recipe.batch_size=8", "budget.queries=400",
        "trainer.checkpoint_seconds=0",
    )  # fmt: skip
    folders = {}
    for name, killed in (("undisturbed", False), ("killed", True)):
        root = tmp_path / name
        for kill in (True, False) if killed else (False,):
            process = start(*job, cwd=root)
            if kill:
                while not in_thief_training(root):
                    assert process.poll() is None, process.said()
                    time.sleep(0.002)
                process.send_signal(signal.SIGKILL)
                process.communicate()
                assert not list(root.rglob("result.json")), "the kill came too late to test anything"
            else:
                assert ("going on from the checkpoint" in finish(process)) == killed
        folders[name] = only_run(root)
    ledgers = [theft_of_job(folder).ledger.read_bytes() for folder in folders.values()]
    assert ledgers[0] == ledgers[1]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders.values()]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["cost"]["cost/queries"] == 400, "50 images in each of 8 epochs"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("attack=stolen_encoder",), ["made for embeddings", "knockoff", "task=embed"]),
        (("task=embed", "thief=encoder_resnet34"), ["cannot be pooled to the 1280", "thief.match=linear"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_work_is_refused_in_words(
    wrong: tuple[str, ...], says: list[str], fmsteal: Run, tmp_path: Path
) -> None:
    done = fmsteal(*SMOKE, *wrong, ok=False)
    for words in says:
        assert words in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("result.json")) and not list(tmp_path.rglob("victims/*"))
