"""Victims and thieves: made once, found again, frozen where they should be, their BatchNorm left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fmsteal.attacks.losses import soft_cross_entropy
from fmsteal.base.errors import ConfigError
from fmsteal.base.store import MANIFEST, checksum, read_json, write_json
from fmsteal.training.classifier import Classifier, save_weights
from fmsteal.training.convex import FITS
from fmsteal.training.inference import compute_outputs, logits
from tests.support.small_task import PIXELS, TASK, context, part


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0"])
def test_a_victim_is_trained_once_and_found_again(name: str, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ids = np.arange(20)
    first = part("victim", f"victim={name}").prepare(TASK, ctx)
    epochs = (tmp_path / "metrics.csv").read_text().count("victim/loss")
    again = part("victim", f"victim={name}").prepare(TASK, ctx)
    assert (tmp_path / "metrics.csv").read_text().count("victim/loss") == epochs
    assert first.key == again.key and not again.model.training
    torch.testing.assert_close(
        logits(first.model, TASK.test, ids, ctx), logits(again.model, TASK.test, ids, ctx), rtol=0, atol=0
    )
    other = part("victim", f"victim={name}", "seed=1").prepare(TASK, ctx)
    assert (other.key == first.key) == (name == "efficientnet_lite0"), "the minimum of a probe has no seed"


def test_a_probe_is_the_minimum_whatever_its_seed_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    answers = torch.rand(40, 3, generator=torch.Generator().manual_seed(0)).softmax(1)

    def fitted(name: str, *overrides: str, interrupted: bool = False) -> Classifier:
        ctx = context(tmp_path / name)
        if interrupted:
            ctx.progress.update = stop  # type: ignore[method-assign]
        ids = np.arange(40)
        learner = part("thief", *overrides)
        return learner.fit(
            TASK.train, ids, answers, 3, soft_cross_entropy, ctx, stage="thief", scratch=ctx.scratch("thief")
        )

    def stop(stage: str, done: int, *rest: object) -> None:
        if stage == "train thief" and done == 2:
            raise KeyboardInterrupt

    one, other = fitted("one"), fitted("other", "thief.seed=7", "thief.recipe.epochs=1")
    torch.testing.assert_close(one.head.weight, other.head.weight, rtol=0, atol=0)
    with pytest.raises(KeyboardInterrupt):
        fitted("killed", interrupted=True)
    torch.testing.assert_close(fitted("killed").head.weight, one.head.weight, rtol=0, atol=0)
    lines = (tmp_path / "one" / "metrics.csv").read_text().splitlines()
    found = [line.split(",")[1] for line in lines if ",thief/loss," in line]
    assert len(found) == len(set(found)) >= 3 and found[-1] == f"{FITS}.0"
    assert any(",thief/best_held_out_agreement," in line for line in lines)
    shown = fitted("views", "thief.recipe.views=2", "thief.recipe.augment.flip=0.5")
    assert not torch.equal(shown.head.weight, one.head.weight)


def test_a_trunk_that_is_trained_has_no_minimum() -> None:
    for adaptation in ("full", "scratch"):
        with pytest.raises(ConfigError, match=f"adaptation={adaptation} trains the trunk"):
            part("thief", f"thief.adaptation={adaptation}", "thief.recipe.solver=convex")


def test_raw_answers_are_computed_once_and_never_under_autograd(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    victim = part("victim", "victim=resnet10t").prepare(TASK, ctx)
    raw = victim.raw(TASK.test, np.array([3, 1, 3]), ctx)
    assert victim.forwards == 2 and not raw.requires_grad
    torch.testing.assert_close(victim.raw(TASK.test, np.array([1]), ctx)[0], raw[1], rtol=0, atol=0)
    assert victim.forwards == 2
    images = torch.from_numpy(PIXELS[40:42]).float() / 255
    torch.testing.assert_close(victim.raw_images(images, ctx)[1], raw[1], rtol=1e-5, atol=1e-5)
    assert victim.forwards == 4


def test_a_probe_leaves_its_trunk_as_it_was_pretrained(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    learner = part("thief")
    before = {k: v.clone() for k, v in learner.build(3).backbone.state_dict().items()}
    answers = torch.rand(40, 3).softmax(1)
    thief = learner.fit(TASK.train, np.arange(40), answers, 3, soft_cross_entropy, ctx, stage="thief", scratch=tmp_path)
    for name, value in thief.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not torch.equal(thief.head.weight, learner.build(3).head.weight)
    assert set(thief.trained.state_dict()) == {"weight", "bias"}


def test_looked_up_features_give_what_the_pixels_give(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    model = part("thief").build(3)
    ids = np.array([5, 2, 9])
    with_store = logits(model, TASK.train, ids, ctx)
    torch.testing.assert_close(with_store, compute_outputs(model, TASK.train, ids, ctx), rtol=1e-4, atol=1e-4)
    assert list((tmp_path / "cache" / "features").rglob("*.npz"))


def test_full_fine_tuning_and_scratch_train_all_weights(tmp_path: Path) -> None:
    for adaptation, name in (("full", "efficientnet_lite0"), ("scratch", "resnet10t")):
        ctx = context(tmp_path / adaptation)
        learner = part("thief", f"thief={name}", f"thief.adaptation={adaptation}", "recipes.full.epochs=1")
        start = learner.build(3)
        assert start.frozen is None and start.trained is start
        before = {k: v.clone() for k, v in start.named_parameters()}
        thief = learner.fit(
            TASK.train, np.arange(40), torch.rand(40, 3), 3, soft_cross_entropy, ctx, stage="thief", scratch=ctx.run_dir
        )
        moved = [not torch.equal(p.detach(), before[n]) for n, p in thief.named_parameters()]
        assert sum(moved) > 0.9 * len(moved)


def test_an_image_alone_gives_what_it_gives_among_others(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    model = part("thief", "thief=resnet10t").build(3)
    whole = compute_outputs(model, TASK.train, np.arange(40), ctx)
    for i in (0, 7, 39):
        torch.testing.assert_close(compute_outputs(model, TASK.train, np.array([i]), ctx)[0], whole[i], rtol=0, atol=0)


def test_initialisation_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = part("thief", "thief=resnet10t").build(3).state_dict()
    torch.manual_seed(2)
    again = part("thief", "thief=resnet10t").build(3).state_dict()
    other = part("thief", "thief=resnet10t", "seed=1").build(3).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    victim = part("victim", "victim=resnet10t").build(3, role="victim").state_dict()  # same backbone, same seed
    assert not torch.equal(first["head.weight"], victim["head.weight"])
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_a_model_can_be_trained_after_it_was_looked_at(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    model = part("thief", "thief=resnet10t").build(3)
    scores = compute_outputs(model, TASK.train, np.arange(4), ctx)
    assert not scores.requires_grad and not scores.is_inference()
    model(torch.from_numpy(PIXELS[:4])).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_rows_that_were_read_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = part("victim", "victim=resnet10t").prepare(TASK, context(tmp_path))
    victim.raw(TASK.test, np.arange(10), context(tmp_path))
    read = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: read.append(a) or load(*a, **k))
    ctx = context(tmp_path)
    for start in range(0, 10, 2):
        victim.raw(TASK.test, np.arange(start, start + 2), ctx)
    assert len(read) == 2, "the rows and their index"


def test_a_victim_made_again_with_other_weights_answers_for_itself(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    first = part("victim", "victim=resnet10t").prepare(TASK, ctx)
    before = first.raw(TASK.test, np.arange(5), ctx)
    place = next((tmp_path / "cache" / "victims").iterdir())
    with torch.no_grad():
        first.model.head.weight.mul_(1.5)
    save_weights(first.model, place / "weights.safetensors")
    manifest = read_json(place / MANIFEST)
    manifest["files"]["weights.safetensors"]["sha256"] = checksum(place / "weights.safetensors")
    write_json(place / MANIFEST, manifest)
    again = part("victim", "victim=resnet10t").prepare(TASK, ctx)
    assert again.key != first.key
    assert not torch.equal(again.raw(TASK.test, np.arange(5), ctx), before)


def test_weights_trained_here_are_weights_to_start_from(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    victim = part("victim", "victim=resnet10t").prepare(TASK, ctx)
    (weights,) = (tmp_path / "cache" / "victims").rglob("weights.safetensors")
    learner = part("thief", "thief=resnet10t", "thief.adaptation=probe", f"thief.backbone.weights={weights}")
    started = learner.build(5).backbone.state_dict()
    assert started and all(torch.equal(v, started[k]) for k, v in victim.model.backbone.state_dict().items())


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_layout_is_the_trainers_and_decides_no_result(channels_last: bool, tmp_path: Path) -> None:
    ctx = context(tmp_path, f"trainer.channels_last={str(channels_last).lower()}")
    model = part("thief", "thief=resnet10t").build(3)
    with torch.no_grad():
        want = model.eval()(torch.from_numpy(PIXELS[:8]))
    torch.testing.assert_close(compute_outputs(model, TASK.train, np.arange(8), ctx), want, rtol=1e-4, atol=1e-5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    convolutions = [p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 3 and p.shape[-1] > 1]
    assert convolutions and all(p.is_contiguous(memory_format=layout) for p in convolutions)
    assert model.backbone.preprocess(torch.from_numpy(PIXELS[:8])).is_contiguous(memory_format=layout)
