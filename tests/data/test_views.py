"""A bank of views: the same view of an image in whatever company, kept, and all of them seen in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.base.errors import ConfigError
from fmsteal.data.augment import Augment, RandomAffine, apply_augment, describe
from fmsteal.data.crops import Flip, PadCrop, Resize, ResizedCrop
from fmsteal.data.loader import TensorLoader
from fmsteal.data.randaugment import RandAugment
from fmsteal.data.random_views import Views
from fmsteal.data.views import View
from fmsteal.training.inference import features
from fmsteal.training.recipe import Recipe
from tests.support.small_task import TASK, context, part

SOME = RandomAffine(shift=0.2, rotate=20, scale=0.1, flip=0.5)


def test_a_view_of_an_image_depends_on_its_number_and_the_image_alone() -> None:
    whole = View(SOME, 1).of(TASK.train, np.arange(40))
    torch.testing.assert_close(View(SOME, 1).of(TASK.train, np.array([7, 3])), whole[[7, 3]], rtol=0, atol=1e-6)
    assert (View(SOME, 2).of(TASK.train, np.arange(40)) - whole).abs().mean() > 0.01
    before = torch.random.get_rng_state()
    View(SOME, 0).of(TASK.train, np.arange(3))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_mirror_image_is_one() -> None:
    seen = View(RandomAffine(flip=0.5), 0).of(TASK.train, np.arange(40))
    pixels = torch.from_numpy(np.array(TASK.train.pixels)).float() / 255
    kinds = [
        "same" if torch.allclose(s, p, atol=1e-5) else "mirrored" if torch.allclose(s, p.flip(-1), atol=1e-5) else "?"
        for s, p in zip(seen, pixels, strict=True)
    ]
    assert set(kinds) == {"same", "mirrored"} and 8 < kinds.count("mirrored") < 32


def test_an_epoch_takes_one_view_of_each_image_and_epochs_differ() -> None:
    bank = torch.stack([torch.arange(50) + 100 * view for view in range(4)])[..., None]
    loader = TensorLoader(bank, torch.arange(50), batch_size=8, seed=0, views=True)
    seen = []
    for epoch in range(12):
        loader.set_epoch(epoch)
        inputs, targets = (torch.cat(parts) for parts in zip(*loader, strict=True))
        assert sorted(targets.tolist()) == list(range(50)) and torch.equal(inputs[:, 0] % 100, targets)
        seen.append(inputs[:, 0][targets.argsort()] // 100)
    views = torch.stack(seen)
    assert torch.bincount(views.flatten(), minlength=4).min() > 100 and not torch.equal(views[0], views[1])


def test_a_probe_learns_from_views_whose_features_are_computed_once(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    learner = part("thief", "thief.recipe.views=3", "recipes.probe.augment.shift=0.2", "thief.recipe.epochs=4")
    answers = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).softmax(1)

    def fit(name: str) -> torch.Tensor:
        (tmp_path / name).mkdir()
        model = learner.fit(
            TASK.train, np.arange(40), answers, 3, soft_cross_entropy, ctx, stage=name, scratch=tmp_path / name
        )
        return model.head.weight

    first = fit("first")
    kept = sorted(str(p) for p in (tmp_path / "cache" / "features").rglob("*.npz"))
    assert len(kept) == 3
    torch.testing.assert_close(fit("again"), first, rtol=0, atol=0)
    assert sorted(str(p) for p in (tmp_path / "cache" / "features").rglob("*.npz")) == kept
    model = learner.build(3)
    view = learner.recipe.bank()[2]
    rows = features(learner.backbone, model.backbone, TASK.train, np.array([5]), ctx, view)
    with torch.no_grad():
        plain = model.backbone.eval()(view.of(TASK.train, np.array([5])))
    torch.testing.assert_close(rows, plain, rtol=1e-3, atol=1e-3)
    assert (rows - features(learner.backbone, model.backbone, TASK.train, np.array([5]), ctx)).abs().max() > 1e-2


def test_a_bank_without_an_augmentation_is_refused() -> None:
    with pytest.raises(ConfigError, match="a bank of views needs an augmentation"):
        Recipe(epochs=1, batch_size=8, optimizer="sgd", lr=0.1, views=2, augment=RandomAffine())


KINDS: dict[str, Augment] = {
    "randaugment": Views([Flip(), RandAugment(2, 9)]),
    "resized_crop": Views([ResizedCrop(), Flip()]),
    "pad_crop": PadCrop(4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_step_or_row_of_steps_makes_views_and_batches(kind: str, tmp_path: Path) -> None:
    augment = KINDS[kind]
    whole = View(augment, 1).of(TASK.train, np.arange(40))
    assert whole.dtype == torch.float32 and 0 <= whole.min() < whole.max() <= 1
    torch.testing.assert_close(View(augment, 1).of(TASK.train, np.array([7, 3])), whole[[7, 3]], rtol=0, atol=0)
    assert (View(augment, 2).of(TASK.train, np.arange(40)) - whole).abs().mean() > 0.01
    pixels = torch.from_numpy(np.array(TASK.train.pixels))
    torch.manual_seed(0)
    batch = apply_augment(augment, pixels)
    torch.manual_seed(0)
    torch.testing.assert_close(apply_augment(augment, pixels.float() / 255), batch)
    assert batch.shape == pixels.shape and (batch - pixels.float() / 255).abs().mean() > 0.01


def test_a_rotation_after_a_change_of_size_is_at_that_size() -> None:
    steps = Views([Resize(80), RandomAffine(rotate=30)])
    pixels = torch.from_numpy(np.array(TASK.train.pixels[:6]))
    torch.manual_seed(3)
    got = apply_augment(steps, pixels)
    torch.manual_seed(3)
    large = F.interpolate(pixels / 255, (80, 80), mode="bilinear", antialias=True, align_corners=False)
    wanted = RandomAffine(rotate=30)(large)
    assert got.shape == (6, 3, 80, 80)
    torch.testing.assert_close(got, wanted.clamp(0, 1))
    torch.manual_seed(3)
    small = F.interpolate(RandomAffine(rotate=30)(pixels), (80, 80), mode="bilinear", align_corners=False)
    assert (small - got).abs().mean() > 0.01
    view = View(steps, 0).of(TASK.train, np.array([4, 2, 9]))
    torch.testing.assert_close(View(steps, 0).of(TASK.train, np.array([9])), view[2:], rtol=0, atol=0)
    assert view.shape == (3, 3, 80, 80)


def test_augmentations_with_the_same_settings_are_told_apart() -> None:
    kinds = [RandomAffine(flip=0.5), Views([Flip(0.5)]), Flip(0.5), Views([PadCrop(4)]), PadCrop(4), PadCrop(2)]
    found = [str(describe(kind)) for kind in kinds]
    assert len(set(found)) == len(found) and describe(None) is None
    assert describe(kinds[0]) == kinds[0].identity(), "as before there were others: the cache stays as it is"


@pytest.mark.parametrize("adaptation", ["probe", "scratch"])
def test_a_recipe_from_a_file_trains_with_its_row_of_steps(adaptation: str, tmp_path: Path) -> None:
    name = "efficientnet_lite0" if adaptation == "probe" else "resnet10t"
    learner = part(
        "thief",
        f"thief={name}",
        "recipe@thief.recipe=paper_victim_cifar10",
        "thief.recipe.epochs=2",
        "thief.recipe.views=2",
    )
    assert learner.adaptation == adaptation and [type(s) for s in learner.recipe.augment.steps] == [PadCrop, Flip]
    ctx = context(tmp_path)
    answers = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    model = learner.fit(TASK.train, np.arange(40), answers, 3, soft_cross_entropy, ctx, stage="thief", scratch=tmp_path)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert len(list((tmp_path / "cache").rglob("features/*/*.npz"))) == (2 if adaptation == "probe" else 0)
