"""Choosing an epoch by held-out answers: what is kept, when a training stops, and that it resumes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from sklearn.metrics import f1_score
from torch import Tensor, nn

from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.base.errors import ConfigError
from fmsteal.base.progress import Progress
from fmsteal.base.seeds import seed_block
from fmsteal.data.images import Picked
from fmsteal.data.loader import TensorLoader
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.held_out import BestEpoch, By, macro_f1, require_choice, require_each_class
from fmsteal.training.recipe import Recipe
from tests.support.fitting import training

RANDOM = torch.Generator().manual_seed(0)
X, UNSEEN = torch.randn(48, 6, generator=RANDOM), torch.randn(70, 6, generator=RANDOM)
TRUTH = torch.randn(6, 3, generator=RANDOM)
Y = (X @ TRUTH + 2 * torch.randn(48, 3, generator=RANDOM)).softmax(1)  # noisy: later epochs overfit
ANSWERS = (UNSEEN @ TRUTH).softmax(1)
EPOCHS = 12


class Watched(BestEpoch):
    """Keeps every epoch's network, and can be killed after one."""

    def __init__(
        self, patience: int | None, killed_after: int | None = None, by: By = "agreement", every: int = 1
    ) -> None:
        super().__init__(UNSEEN, ANSWERS, patience, by, every)
        self.killed_after = killed_after
        self.nets: list[nn.Module] = []

    @property
    def state_key(self) -> str:
        return BestEpoch.__qualname__

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.killed_after:
            raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        assert pl_module.net.training
        self.nets.append(copy.deepcopy(pl_module.net))


def network() -> nn.Module:
    with seed_block("net"):
        return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))


def fitted(folder: Path, watched: BestEpoch, seconds: float = 1e9) -> nn.Module:
    folder.mkdir(exist_ok=True)
    recipe = Recipe(epochs=EPOCHS, batch_size=16, optimizer="adam", lr=0.1, schedule="constant")
    module = SupervisedModule(network(), soft_cross_entropy, recipe, seed=1)
    trainer = training(checkpoint_seconds=seconds)
    trainer.fit(
        module,
        TensorLoader(X, Y, 16, seed=2),
        stage="thief",
        scratch=folder,
        tracker=CsvTracker(folder),
        progress=Progress(),
        callbacks=[watched],
    )
    return module.net


def by_hand(net: nn.Module) -> tuple[float, float]:
    """Agreement and cross-entropy, image by image."""
    agree, loss = 0, 0.0
    with torch.no_grad():
        for x, y in zip(UNSEEN, ANSWERS, strict=True):
            z = net.eval()(x[None])[0]
            agree += int(z.argmax() == y.argmax())
            loss -= float((y * (z - z.exp().sum().log())).sum())
    return agree / len(UNSEEN), loss / len(UNSEEN)


def same(net: nn.Module, other: nn.Module) -> bool:
    pairs = zip(net.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_best_epochs_weights_are_kept(tmp_path: Path) -> None:
    watched = Watched(None)
    kept = fitted(tmp_path, watched)
    scores = [by_hand(net) for net in watched.nets]
    best = max(range(EPOCHS), key=lambda e: (scores[e][0], -scores[e][1]))
    assert len(scores) == EPOCHS and best != EPOCHS - 1, "the last epoch would be kept anyhow"
    assert same(kept, watched.nets[best]) and not same(kept, watched.nets[-1])
    assert not kept.training
    logged = [row.split(",") for row in (tmp_path / "metrics.csv").read_text().splitlines()]
    curve = {float(r[1]): float(r[3]) for r in logged if r[2] == "thief/held_out_agreement"}
    assert [curve[e + 1] for e in range(EPOCHS)] == pytest.approx([agree for agree, _ in scores])


def test_processes_that_train_together_decide_by_the_firsts_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the other process always finds the same: this one must stop when that one does, or wait for it forever."""
    monkeypatch.setattr(SingleDeviceStrategy, "broadcast", lambda self, found, src=0: first(found))

    def first(found: object) -> object:
        return (0.5, 1.0) if isinstance(found, tuple) else found

    watched = Watched(patience=2)
    fitted(tmp_path, watched)
    assert len(watched.nets) == 3 and watched.score == (0.5, -1.0)


@pytest.mark.parametrize("patience", [1, 3])
def test_it_stops_after_so_many_epochs_without_gain(patience: int, tmp_path: Path) -> None:
    whole, watched = Watched(None), Watched(patience)
    fitted(tmp_path / "whole", whole)
    kept = fitted(tmp_path / "stopped", watched)
    scores = [by_hand(net) for net in whole.nets]
    best, stop = -1, EPOCHS
    for epoch, (agree, loss) in enumerate(scores):
        if best < 0 or (agree, -loss) > (scores[best][0], -scores[best][1]):
            best = epoch
        if epoch - best == patience:
            stop = epoch + 1
            break
    assert len(watched.nets) == stop < EPOCHS
    assert same(kept, whole.nets[best])


@pytest.mark.parametrize("killed_after", [1, 4])
def test_a_killed_training_keeps_what_an_undisturbed_one_keeps(killed_after: int, tmp_path: Path) -> None:
    wanted = fitted(tmp_path / "whole", Watched(3))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fitted(tmp_path / "killed", Watched(3, killed_after), seconds=0)
    again = Watched(3)
    assert same(fitted(tmp_path / "killed", again, seconds=0), wanted)


def test_a_training_killed_after_its_last_epoch_goes_no_further(tmp_path: Path) -> None:
    wanted = fitted(tmp_path / "same", Watched(3), seconds=0)  # the checkpoint of its last epoch is left there
    again = Watched(3)
    assert same(fitted(tmp_path / "same", again, seconds=0), wanted)
    assert not again.nets


def test_images_are_read_batch_by_batch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 3, 4, 4), dtype=np.uint8)

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1 / 255))

        def forward(self, images: Tensor) -> Tensor:
            assert images.dtype == torch.uint8 and len(images) <= 64
            return images.float().mean(dim=(2, 3)) * self.scale

    ids = np.arange(99, 19, -1)
    answers = torch.from_numpy(pixels[ids]).float().mean(dim=(2, 3)).div(255).softmax(1)
    scores, loss = BestEpoch(Picked(pixels, ids), answers, None).measure(Mean())
    assert scores == {"agreement": 1}
    assert loss == pytest.approx(float(torch.special.entr(answers).sum(1).mean()), rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
@settings(max_examples=100)
def test_macro_f1_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, guess = (torch.tensor(side) for side in zip(*pairs, strict=True))
    wanted = f1_score(truth.numpy(), guess.numpy(), average="macro", zero_division=0)
    assert macro_f1(truth, guess) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_the_best_of_the_measured_epochs_by_macro_f1(every: int, tmp_path: Path) -> None:
    watched = Watched(None, by="macro_f1", every=every)
    kept = fitted(tmp_path, watched)
    truth = ANSWERS.argmax(1).numpy()
    looked = sorted({*range(every, EPOCHS + 1, every), EPOCHS})
    scores = {}
    for epoch in looked:
        net = watched.nets[epoch - 1]
        with torch.no_grad():
            guess = net.eval()(UNSEEN).argmax(1).numpy()
        scores[epoch] = (f1_score(truth, guess, average="macro", zero_division=0), -by_hand(net)[1])
    best = max(looked, key=lambda epoch: scores[epoch])
    assert same(kept, watched.nets[best - 1])
    assert best != EPOCHS and watched.score[0] == pytest.approx(scores[best][0])
    logged = [row.split(",") for row in (tmp_path / "metrics.csv").read_text().splitlines()]
    curve = {int(float(r[1])): float(r[3]) for r in logged if r[2] == "thief/held_out_macro_f1"}
    assert curve == pytest.approx({epoch: score for epoch, (score, _) in scores.items()})
    beside = {int(float(r[1])): float(r[3]) for r in logged if r[2] == "thief/held_out_agreement"}
    assert beside == pytest.approx({epoch: by_hand(watched.nets[epoch - 1])[0] for epoch in looked})


def test_a_killed_training_that_looks_at_every_second_epoch_ends_alike(tmp_path: Path) -> None:
    wanted = fitted(tmp_path / "whole", Watched(None, by="macro_f1", every=2))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fitted(tmp_path / "killed", Watched(None, 5, "macro_f1", 2), seconds=0)
    assert same(fitted(tmp_path / "killed", Watched(None, by="macro_f1", every=2), seconds=0), wanted)


def test_choices_that_cannot_be_are_named() -> None:
    for validation, by, every, match in (
        (1.0, "agreement", 1, "attack.validation must be at least 0 and below 1, not 1.0"),
        (0.1, "f1", 1, "attack.by must be one of agreement, macro_f1"),
        (0.1, "macro_f1", 0, "attack.every at least 1, not macro_f1 and 0"),
        (0.0, "macro_f1", 1, "attack.by=macro_f1 .* no effect without images held out"),
        (0.0, "agreement", 2, "attack.every=2 have no effect"),
    ):
        with pytest.raises(ConfigError, match=match):
            require_choice(validation, by, every)
    require_each_class(10, 10, 0.1)
    with pytest.raises(ConfigError, match=r"validation=0.1 holds out 9 images, but the API knows 10 classes.*budget"):
        require_each_class(9, 10, 0.1)
