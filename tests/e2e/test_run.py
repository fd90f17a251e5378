"""One job from the command line to its files, read back as a person or a script would."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fmsteal.evaluation.classifier import ClassifierEvaluation
from fmsteal.oracle.ledger import Ledger
from tests.conftest import SMALL, SMOKE, Run, environment, only_run
from tests.wandb_file import offline_runs
from tests.warm import Command

NAMES = {
    "test/agreement", "test/agreement@5", "test/accuracy", "test/victim_accuracy", "test/relative_accuracy",
    "test/kl", "test/l1",
}  # fmt: skip


def test_a_job_ends_with_a_table_and_whole_files(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal(*SMOKE, "defense=top_k", "seed=2")
    for words in (
        "victim accuracy",
        "thief accuracy",
        "agreement",
        "95 % interval",
        "100 of 100",
        "USD",
        "result.json",
    ):
        assert words in done.stdout
    folder = only_run(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    assert result["schema"] == 1 and result["job_key"] == folder.name
    assert result["axis"]["defense"] == "top_k" and result["axis"]["seed"] == 2
    assert set(result["metrics"]) == NAMES
    assert result["cost"]["cost/queries"] == 100 and result["cost"]["cost/usd"] == pytest.approx(0.15)
    low, high = result["intervals"]["test/agreement"]
    assert 0 <= low <= result["metrics"]["test/agreement"] <= high <= 1
    assert result["env"]["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert result["command"].endswith("defense=top_k seed=2") and result["env"]["cpu"]
    assert not (folder / "work").exists() and not (folder / "failure.json").exists()

    kept = np.load(folder / "predictions.npz")
    again = ClassifierEvaluation().compare(
        torch.from_numpy(kept["victim_logits"]), torch.from_numpy(kept["thief_logits"]), torch.from_numpy(kept["label"])
    )
    assert again.metrics == result["metrics"]
    assert np.mean(kept["victim"] == kept["thief"]) == result["metrics"]["test/agreement"]

    header = json.loads((folder / "ledger.bin").read_bytes().partition(b"\n")[0])
    assert header["job"].startswith(f"{folder.name} against tf_efficientnet_lite0-probe-s2-")
    answers = Ledger(folder / "ledger.bin", header["job"]).answers
    assert answers.shape == (100, 10) and ((answers > 0).sum(1) == 3).all()  # the defense, not the raw victim
    with (folder / "metrics.csv").open() as stream:
        assert {"victim/loss", "thief/loss"} <= {row["metric"] for row in csv.DictReader(stream)}

    again_ = fmsteal(*SMOKE, "defense=top_k", "seed=2")
    assert "finished already" in again_.stdout + again_.stderr
    assert f"{result['metrics']['test/agreement']:.3f}" in again_.stdout


def test_an_offline_wandb_run_holds_config_curves_and_figures(fmsteal: Run, tmp_path: Path) -> None:
    fmsteal(*SMALL, "tracker=wandb", "budget=500", "query.count=500")
    folder = only_run(tmp_path)
    result = json.loads((folder / "result.json").read_text())
    (run,) = offline_runs(folder)
    assert run.exit_code == 0 and run.run.project == "fmsteal"
    settings = "count=500 · thief.model=test_resnet · victim.model=test_resnet"
    assert run.run.display_name == f"resnet10t <- resnet10t · 500 · {settings} · s0"
    assert run.config["job_key"] == folder.name
    for name, value in result["axis"].items():
        assert run.config[f"axis.{name}"] == value
    assert run.config["config"]["budget"]["queries"] == 500
    assert run.summary["test/agreement"] == result["metrics"]["test/agreement"]
    assert run.summary["cost/queries"] == 500
    assert run.curve("victim/epoch", "victim/loss") and run.curve("thief/epoch", "thief/loss")


def test_a_failed_job_is_a_failed_run_and_says_why(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal(
        *SMALL, "tracker=wandb", "thief.recipe.lr=1e38", "thief.recipe.optimizer=sgd", "thief.recipe.epochs=4", ok=False
    )
    assert "training loss became" in done.stderr and "Lower the recipe's lr" in done.stderr
    assert "Traceback" not in done.stderr
    folder = only_run(tmp_path)
    failure = json.loads((folder / "failure.json").read_text())
    assert "training loss became" in failure["error"] and "Traceback" in failure["traceback"]
    assert not (folder / "result.json").exists()
    (run,) = offline_runs(folder)
    assert run.exit_code == 1


def test_without_a_network_a_login_falls_back_to_offline(tmp_path: Path) -> None:
    """A real attempt to reach a server that is not there."""
    env = {k: v for k, v in environment().items() if k != "WANDB_MODE"}
    env |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = Command((*SMALL, "tracker=wandb", "tracker.init_timeout=3"), tmp_path, env).done()
    assert done.returncode == 0, done.stderr
    assert "W&B cannot be reached" in done.stdout + done.stderr and "wandb sync" in done.stdout
    assert any(run.exit_code == 0 for run in offline_runs(only_run(tmp_path)))


def test_same_seed_same_predictions_whatever_the_cache_holds(fmsteal: Run, tmp_path: Path) -> None:
    small = (*SMALL, "query.count=600")
    fmsteal(*small, "budget=500", "output=warm")
    fmsteal(*small, "budget.queries=550", "budget=500", "output=warm")  # answers of 500 come from the store
    fmsteal(*small, "budget.queries=550", "budget=500", "output=cold")
    found = {}
    for root in ("warm", "cold"):
        for folder in (tmp_path / root / "runs").iterdir():
            found[root, folder.name] = dict(np.load(folder / "predictions.npz"))
    (name,) = [key for root, key in found if root == "cold"]
    for field, value in found["cold", name].items():
        np.testing.assert_array_equal(value, found["warm", name][field], err_msg=field)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["budget=60k"], "the query set holds 300"),
        (["thief.backbone.model=resnet10x"], "timm has no model 'resnet10x'. Near: resnet10t"),
        (["thief.adaptation=probe"], "test_resnet has no pretrained weights configured"),
        (["query=image_folder", "query.root=nowhere"], "There is no image folder nowhere"),
        (["query=image_folder", "query.root=empty"], "holds no images"),
        (["hydra.run.dir=taken"], "holds the answers of job another"),
        (["output=/sys/fmsteal"], "Cannot write under /sys/fmsteal"),
        (["output=somefile"], "Cannot write under somefile"),
        (["trainer.lightning.accelerator=tpu"], "Lightning refuses the trainer's options"),
        (["trainer.lightning.devices=2", "+trainer.lightning.strategy=ddp"], "would start the whole job 2 times"),
        (["evaluation.k=0"], "evaluation.k must be at least 1"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_paragraph(overrides: list[str], says: str, fmsteal: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "somefile").touch()
    Ledger(tmp_path / "taken" / "ledger.bin", "another").append([], np.zeros((0, 10), np.float32))
    done = fmsteal(*SMALL, *overrides, ok=False)
    assert says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_named_and_the_same_command_goes_on_afterwards(fmsteal: Run, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    try:
        done = fmsteal(*SMALL, "output=small", ok=False)
        assert "No space left while writing under" in done.stderr and "Free some space" in done.stderr
        assert not list(small.rglob("result.json")) and not list(small.glob("cache/victims/*/"))
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        fmsteal(*SMALL, "output=small")
        assert list(small.rglob("result.json"))
    finally:
        subprocess.run(["umount", str(small)], check=True)
