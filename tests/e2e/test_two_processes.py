"""One model trained by two processes (gloo, on the CPU): the same model, the same curves, one job."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.base.processes import SyncedBatchNorm
from fmsteal.base.progress import Progress
from fmsteal.base.store import read_json
from fmsteal.config import build
from fmsteal.data.images import Picked
from fmsteal.data.loader import TensorLoader
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.ledger import Ledger
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe
from fmsteal.training.trainer import LAST, Training
from tests.support.commands import Run
from tests.support.composing import SMALL, composed
from tests.support.outputs import only_run, only_theft
from tests.support.wandb_file import offline_runs

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(40, 6, generator=GENERATOR), torch.randn(40, 3, generator=GENERATOR).softmax(1)
IMAGES = Picked(X.numpy(), np.arange(40))  # type: ignore[arg-type]
TWO = ("trainer.lightning.devices=2",)


def training(*overrides: str) -> Training:
    made: Training = build.make(composed("trainer=cpu", *overrides).trainer)
    return made


def fitted(
    folder: Path, recipe: Recipe, *overrides: str, x: torch.Tensor | Picked = IMAGES
) -> tuple[nn.Module, list[float]]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    module = SupervisedModule(net, soft_cross_entropy, recipe, seed=5)
    loader = TensorLoader(x, Y, recipe.batch_size, seed=7)
    tracker = CsvTracker(folder)
    training(*overrides).fit(module, loader, stage="thief", scratch=folder, tracker=tracker, progress=Progress())
    with (folder / "metrics.csv").open() as stream:
        rows = [row for row in csv.reader(stream) if "thief/loss" in row]
    return net, [float(row[-1]) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [16, 13])
def test_two_processes_train_the_model_that_one_would(batch_size: int, tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, batch_size=batch_size, optimizer="adamw", lr=0.05)
    alone, curve = fitted(tmp_path / "one", recipe)
    together, curves = fitted(tmp_path / "two", recipe, *TWO)
    even = batch_size % 2 == 0 and 40 % batch_size % 2 == 0  # else an image counts twice in a step
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=0, atol=1e-5 if even else 0.05)
    assert curves == pytest.approx(curve, abs=1e-5 if even else 0.05), "an epoch is logged once, its mean is of all"


@pytest.mark.parametrize("model", ["resnet10t", "tf_efficientnet_lite0"])
def test_synchronised_batchnorm_is_the_same_network(model: str) -> None:
    backbone = BackboneSpec(model, size=32).build(pretrained=False).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    want, names = backbone(images), list(backbone.state_dict())
    synced = SyncedBatchNorm().apply(backbone)
    assert any(isinstance(layer, nn.SyncBatchNorm) for layer in synced.modules())
    torch.testing.assert_close(synced(images), want, rtol=0, atol=0)
    assert list(synced.state_dict()) == names, "or the trained weights would not come back"


def test_features_in_memory_are_fitted_by_this_process_alone(tmp_path: Path) -> None:
    recipe = Recipe(epochs=3, batch_size=8, optimizer="adamw", lr=0.05)
    alone, curve = fitted(tmp_path / "one", recipe, x=X)
    again, curves = fitted(tmp_path / "two", recipe, *TWO, x=X)
    assert curves == curve and all(torch.equal(v, again.state_dict()[k]) for k, v in alone.state_dict().items())


@pytest.mark.slow
def test_images_travel_by_the_name_of_their_file_and_a_checkpoint_is_one(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels.astype(np.float32))
    stored = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    recipe = Recipe(epochs=3, batch_size=8, optimizer="sgd", lr=1e-6)
    ids = np.arange(5, 45)
    alone, _ = fitted(tmp_path / "one", recipe, x=Picked(stored, ids))
    together, _ = fitted(tmp_path / "two", recipe, *TWO, "trainer.checkpoint_seconds=0", x=Picked(stored, ids))
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    kept = torch.load(tmp_path / "two" / LAST, weights_only=True)
    assert kept["epoch"] == 1 and sorted(p.name for p in (tmp_path / "two").glob("*.ckpt")) == [LAST]


@pytest.mark.slow
def test_an_error_in_a_training_process_reads_as_it_would_in_one(tmp_path: Path) -> None:
    with pytest.raises(FmstealError, match=r"^The training loss became (nan|inf) in epoch \d.*Lower the recipe's lr"):
        fitted(tmp_path, Recipe(epochs=9, batch_size=8, optimizer="sgd", lr=1e38, momentum=0), *TWO)


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (
            ("trainer.lightning.devices=2", "+trainer.lightning.strategy=ddp"),
            "strategy=ddp would start the whole job 2",
        ),
        (("+trainer.lightning.num_nodes=2",), "num_nodes=2: a model is trained on the devices of one node"),
    ],
)
def test_what_would_start_a_job_many_times_is_refused(overrides: tuple[str, ...], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        _ = training(*overrides).processes


def test_a_task_of_a_cluster_is_not_taken_for_one_of_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1", "SLURM_JOB_NAME": "x"}.items():
        monkeypatch.setenv(name, value)
    assert training().processes == 1


@pytest.mark.slow
def test_a_job_on_two_devices_has_one_result_one_run_and_one_ledger(fmsteal: Run, tmp_path: Path) -> None:
    fmsteal(*SMALL, *TWO, "tracker=wandb", "recipes.scratch.epochs=2")
    folder = only_run(tmp_path)
    result = read_json(folder / "result.json")
    assert result["cost"]["cost/queries"] == result["budget"] == 100 and not (folder / "failure.json").exists()
    ledger = only_theft(tmp_path).ledger
    owner = json.loads(ledger.read_bytes().splitlines()[0])["job"]
    assert len(Ledger(ledger, owner)) == 100
    (run,) = offline_runs(folder)
    assert run.exit_code == 0 and run.summary["test/agreement"] == result["metrics"]["test/agreement"]
    assert [epoch for epoch, _ in run.curve("thief/epoch", "thief/loss")] == [1, 2]
