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
from tests.support.commands import Run, environment
from tests.support.composing import SMALL
from tests.support.outputs import only_run, only_theft
from tests.support.wandb_file import offline_runs
from tests.support.warm import Command

NAMES = {
    "test/agreement", "test/agreement@5", "test/accuracy", "test/victim_accuracy", "test/relative_accuracy",
    "test/kl", "test/l1", "test/kappa", "test/agreement_victim_wrong", "test/agreement_least_sure",
}  # fmt: skip


def test_a_job_ends_with_a_table_and_whole_files(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal(*SMALL, "defense=top_k", "seed=2")
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
    assert result["schema"] == 2 and result["job_key"] == folder.name
    assert result["axis"]["defense"] == "top_k" and result["axis"]["seed"] == 2
    assert {name for name in result["metrics"] if not name.startswith(("honest/", "attack/"))} == NAMES
    assert 0 < result["metrics"]["honest/accuracy"] <= 1
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
    assert again.values == {name: result["metrics"][name] for name in NAMES}
    assert np.mean(kept["victim"] == kept["thief"]) == result["metrics"]["test/agreement"]

    theft = only_theft(tmp_path)
    assert (folder / result["theft"]).resolve() == theft.path.resolve() and result["tracker"].endswith("metrics.csv")
    header = json.loads(theft.ledger.read_bytes().partition(b"\n")[0])
    assert header["job"] == f"{folder.name[-16:]} against {result['victim']}"
    answers = Ledger(theft.ledger, header["job"]).answers
    assert answers.shape == (100, 10) and ((answers > 0).sum(1) == 3).all()  # the defense, not the raw victim
    with (folder / "metrics.csv").open() as stream:
        assert {"victim/loss", "thief/loss"} <= {row["metric"] for row in csv.DictReader(stream)}

    again_ = fmsteal(*SMALL, "defense=top_k", "seed=2")
    assert "finished already" in again_.stdout + again_.stderr
    assert f"{result['metrics']['test/agreement']:.3f}" in again_.stdout


@pytest.mark.slow
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
        assert run.config[f"axis_{name}"] == value
    assert run.config["config"]["budget"]["queries"] == 500
    assert run.summary["test/agreement"] == result["metrics"]["test/agreement"]
    assert run.summary["cost/queries"] == 500
    assert run.curve("victim/epoch", "victim/loss") and run.curve("thief/epoch", "thief/loss")

    said = fmsteal(*SMALL, "tracker=wandb", "budget=500", "query.count=500", "evaluation=ood", "hydra.run.dir=other")
    assert "is stolen already" in said.stdout and "train thief" not in said.stdout and "queries:" not in said.stdout
    (again,) = offline_runs(tmp_path / "other")
    for names in (("thief/epoch", "thief/loss"), ("attack/queries", "attack/usd")):
        assert again.curve(*names) == run.curve(*names), "the curves of the theft, once"
    assert again.summary["ood/noise/agreement"] and again.summary["test/kl"] == run.summary["test/kl"]


@pytest.mark.slow
def test_a_failed_job_is_a_failed_run_and_says_why(fmsteal: Run, tmp_path: Path) -> None:
    done = fmsteal(
        *SMALL, "tracker=wandb", "thief.recipe.lr=1e38", "thief.recipe.optimizer=sgd", "thief.recipe.epochs=4", ok=False
    )
    assert "training loss became" in done.stderr and "Lower the recipe's lr" in done.stderr
    for words in ("Traceback", "Error executing job", "HYDRA_FULL_ERROR"):
        assert words not in done.stderr, done.stderr
    folder = only_run(tmp_path)
    failure = json.loads((folder / "failure.json").read_text())
    assert "training loss became" in failure["error"] and "Traceback" in failure["traceback"]
    assert not (folder / "result.json").exists()
    (run,) = offline_runs(folder)
    assert run.exit_code == 1


@pytest.mark.slow
def test_without_a_network_a_login_falls_back_to_offline(tmp_path: Path) -> None:
    """A real attempt to reach a server that is not there."""
    env = {k: v for k, v in environment().items() if k != "WANDB_MODE"}
    env |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = Command((*SMALL, "tracker=wandb", "tracker.init_timeout=3"), tmp_path, env).done()
    assert done.returncode == 0, done.stderr
    assert "W&B cannot be reached" in done.stdout + done.stderr and "wandb sync" in done.stdout
    assert any(run.exit_code == 0 for run in offline_runs(only_run(tmp_path)))


@pytest.mark.slow
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


BAD: list[tuple[list[str], str]] = [
    (["budget=60k"], "the query set holds 300"),
    (["thief.backbone.model=resnet10x"], "timm has no model 'resnet10x'. Near: resnet10t"),
    (["thief.adaptation=probe"], "test_resnet has no pretrained weights configured"),
    (["query=image_folder", "query.root=nowhere"], "There is no image folder nowhere"),
    (["query=image_folder", "query.root=empty"], "holds no images"),
    (["hydra.run.dir=taken"], "holds the result of another-0123456789abcdef"),
    (["output=/sys/fmsteal"], "Cannot write under /sys/fmsteal"),
    (["output=somefile"], "Cannot write under somefile"),
    (["trainer.lightning.accelerator=tpu"], "Lightning refuses the trainer's options"),
    (["trainer.lightning.devices=2", "+trainer.lightning.strategy=ddp"], "would start the whole job 2 times"),
    (["evaluation.k=0"], "evaluation.k must be at least 1"),
    (["tracker=wandb", "tracker.project=a/b"], "Invalid project name 'a/b'"),
    (["tracker=wandb", "tracker.tags=['']"], "run_tags Value error, Tag at index 0 is empty"),
    (["thief.recipe.batch_size=1"], "thief.recipe.batch_size=1: a batch would be a single image"),
    (["budget.queries=1"], "budget.queries=1: a batch would be a single image"),
    (["victim.recipe.batch_size=1"], "victim.recipe.batch_size=1: a batch would be a single image"),
    (
        ["thief.backbone.model=tf_efficientnet_lite0", "+thief.backbone.stem=small"],
        "lite0 is none. Use backbone.stem",
    ),
    (
        ["thief.backbone.model=vit_tiny_r_s16_p8_224", "thief.backbone.size=100"],
        "does not take images of 100 pixels",
    ),
    (["+trainer.lightning.logger=true"], "trainer.lightning.logger has no effect: curves go to metrics.csv"),
    (
        ["data=image_folder", "data.root=2024"],
        "data.root=2024 is read as a number, where a text is meant: write ./2024",
    ),
]
QUICK = ("budget=60k", "hydra.run.dir=taken", "output=somefile", "evaluation.k=0", "query.root=nowhere")  # in words


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        pytest.param(words, says, marks=() if words[-1] in QUICK else pytest.mark.slow, id=" ".join(words))
        for words, says in BAD
    ],
)
def test_bad_input_is_one_paragraph(overrides: list[str], says: str, fmsteal: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "somefile").touch()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "result.json").write_text('{"job_key": "another-0123456789abcdef"}')
    done = fmsteal(*SMALL, *overrides, ok=False)
    assert says in done.stderr, done.stderr
    for words in ("Traceback", "Error executing job", "HYDRA_FULL_ERROR"):
        assert words not in done.stderr, done.stderr
    assert not list(tmp_path.glob("outputs/cache/victims/*")), "refused before a victim is trained"


def test_the_stack_trace_is_there_for_who_asks(tmp_path: Path) -> None:
    env = {**environment(), "HYDRA_FULL_ERROR": "1"}
    done = Command((*SMALL, "evaluation.k=0"), tmp_path, env).done()
    assert done.returncode == 1 and "evaluation.k must be at least 1" in done.stderr and "Traceback" in done.stderr


@pytest.mark.slow
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
