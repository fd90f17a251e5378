"""Fidelity without labels: neighbours as scikit-learn finds them, stages as seen by hand, the picture's frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import seed_block
from fmsteal.data.digits import digits
from fmsteal.data.images import Images
from fmsteal.evaluation.base import Pair, sample
from fmsteal.evaluation.fidelity import FILE, Fidelity, cosines, find_nearest, overlap, stage_cka
from fmsteal.evaluation.retrieval import CAPTION, COMMON, PADDING, TILE, picture
from fmsteal.evaluation.similarity import cka
from fmsteal.evaluation.trunk_stages import TrunkStages, match_stages
from fmsteal.networks.backbones import Backbone, BackboneSpec
from fmsteal.tracking.base import CsvTracker
from fmsteal.training.classifier import Classifier
from fmsteal.training.context import Context
from fmsteal.training.inference import compute_outputs
from fmsteal.victims.base import Victim
from tests.support.small_task import context, part

TASK = digits(size=16, test=40, train_count=20)
LEARNERS = part("victim"), part("thief")


class Shown(CsvTracker):
    """Remembers the pictures it is given."""

    def image(self, name: str, path: Path) -> None:
        self.shown = [*getattr(self, "shown", []), (name, path)]


def trunk(seed: int, model: str = "resnet10t", size: int = 32) -> Backbone:
    with seed_block(seed):
        return BackboneSpec(model, size=size, normalise="half").build(pretrained=False).eval()


def pair(victim: nn.Module, thief: nn.Module, ctx: Context) -> Pair:
    ids = np.arange(len(TASK.test))
    rows = compute_outputs(victim, TASK.test, ids, ctx), compute_outputs(thief, TASK.test, ids, ctx)
    return Pair(Victim("v", victim), thief, LEARNERS, TASK, ctx, rows)


@given(st.integers(2, 30), st.integers(2, 8), st.integers(0, 9999))
@settings(max_examples=40)
def test_neighbours_are_those_of_scikit_learn(n: int, d: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(n, d, generator=random).double() for _ in range(2))
    k = min(10, n - 1)
    found = []
    for rows in (first, second):
        search = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(rows.numpy())
        found.append(search.kneighbors(return_distance=False))  # of each row itself, which it leaves out
        assert (find_nearest(rows, k).numpy() == found[-1]).all()
    for cut in (1, 10):
        shares = [len(set(a[:cut]) & set(b[:cut])) / min(cut, k) for a, b in zip(*found, strict=True)]
        assert overlap(find_nearest(first, k), find_nearest(second, k), cut) == pytest.approx(np.mean(shares))


def test_more_rows_than_are_compared_at_a_time() -> None:
    rows = torch.randn(2100, 3, generator=torch.Generator().manual_seed(0)).double()
    found = find_nearest(rows, 2)
    search = NearestNeighbors(n_neighbors=2, metric="cosine", algorithm="brute").fit(rows.numpy())
    assert (found.numpy() == search.kneighbors(return_distance=False)).all()


def test_cosines_are_described_as_numpy_does() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(31, 5)), random.normal(size=(31, 5))
    each = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)]
    found = cosines(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    want = {"mean": np.mean(each), "std": np.std(each)}
    want |= {f"q{q:02d}": np.percentile(each, q) for q in (5, 25, 50, 75, 95)}
    assert found == {k: pytest.approx(v, abs=1e-6) for k, v in want.items()}


def by_hand(backbone: Backbone, modules: list[str], images: Images) -> list[Tensor]:
    """Pooled outputs of some modules, image by image."""
    seen: dict[str, list[Tensor]] = {name: [] for name in modules}
    for name in modules:

        def keep(module: nn.Module, inputs: object, output: Tensor, name: str = name) -> None:
            seen[name].append(output.flatten(2).mean(2) if output.ndim == 4 else output.mean(1))

        backbone.trunk.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        for i in range(len(images)):
            backbone(torch.from_numpy(np.array(images.pixels[[i]])))
    return [torch.cat(rows) for rows in seen.values()]


def test_stages_are_compared_by_relative_depth(tmp_path: Path) -> None:
    ctx, ids = context(tmp_path), np.arange(40)
    victim, thief = trunk(0), trunk(1, "vit_tiny_patch16_224")
    found = stage_cka(Victim("v", Classifier(victim, 3)), nn.Sequential(thief, nn.Linear(192, 4)), TASK.test, ids, ctx)
    resnet = by_hand(victim, ["act1", "layer1", "layer2", "layer3", "layer4"], TASK.test)
    vit = by_hand(thief, [f"blocks.{i}" for i in (2, 4, 7, 9, 11)], TASK.test)
    want = {f"stage{i}": cka(a, b) for i, (a, b) in enumerate(zip(resnet, vit, strict=True), start=1)}
    assert found == {name: pytest.approx(value, abs=1e-4) for name, value in want.items()}
    assert len(set(found.values())) == 5


def test_a_target_passes_its_images_once_for_all_thieves(tmp_path: Path) -> None:
    ids, target = np.arange(40), trunk(0)
    first, again = Victim("v", target), Victim("v", target)
    one = stage_cka(first, trunk(1), TASK.test, ids, context(tmp_path))
    other = stage_cka(again, target, TASK.test, ids, context(tmp_path))
    assert (first.forwards, again.forwards) == (40, 0)
    assert other == {name: pytest.approx(1.0) for name in one} and max(one.values()) < 0.999


def test_tokens_and_maps_of_other_layouts_are_pooled_over_places(tmp_path: Path) -> None:
    backbone = trunk(0, "swin_tiny_patch4_window7_224", 64)
    with TrunkStages(backbone) as stages:
        assert stages.widths == [96, 192, 384, 768]
        rows = stages(torch.rand(2, 3, 64, 64))
    assert rows.shape == (2, sum(stages.widths))
    assert not any(part._forward_hooks for part in backbone.modules()), "nothing stays behind"


@pytest.mark.parametrize(("first", "second"), [(5, 12), (12, 5), (4, 4), (1, 7), (3, 2)])
def test_stages_are_matched_in_order_to_the_last(first: int, second: int) -> None:
    found = match_stages(first, second)
    assert len(found) == min(first, second) and found[-1] == (first - 1, second - 1)
    for i, (a, b) in enumerate(found, start=1):
        assert abs((a + 1) / first - i / len(found)) < 1 / first and abs((b + 1) / second - i / len(found)) < 1 / second
        assert i == 1 or (a > found[i - 2][0] and b > found[i - 2][1])


def test_an_encoder_without_stages_is_left_out(tmp_path: Path) -> None:
    plain = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())

    class Pooled(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return plain(images.float())

    bare = Backbone(Pooled(), 12, 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    ctx, ids = context(tmp_path), np.arange(5)
    assert stage_cka(Victim("v", trunk(0)), Pooled(), TASK.test, ids, ctx) == {}
    assert stage_cka(Victim("v", trunk(0)), bare, TASK.test, ids, ctx) == {}
    found = Fidelity(images=30, queries=0).run(pair(trunk(0), bare, ctx), ctx).values
    assert set(found) == {"fidelity/neighbours@10", "fidelity/neighbours@100"}, "widths differ, and there is no picture"
    assert found["fidelity/neighbours@100"] == 1.0 and not (tmp_path / FILE).exists()


def test_a_copy_is_found_out_and_the_picture_is_shown(tmp_path: Path) -> None:
    tracker = Shown(tmp_path)
    ctx = replace(context(tmp_path), tracker=tracker)
    found = Fidelity(images=30, queries=3, shown=4).run(pair(trunk(0), trunk(0), ctx), ctx).values
    assert set(found) == (
        {f"fidelity/cosine_{x}" for x in ("mean", "std", "q05", "q25", "q50", "q75", "q95")}
        | {f"fidelity/neighbours@{k}" for k in (10, 100)} | {f"fidelity/cka/stage{i}" for i in range(1, 6)}
    )  # fmt: skip
    assert {name: value for name, value in found.items() if value != pytest.approx(1.0)} == {
        "fidelity/cosine_std": pytest.approx(0.0, abs=1e-6)
    }
    assert tracker.shown == [("fidelity/retrieval", tmp_path / FILE)]
    step = TILE + PADDING
    assert Image.open(tmp_path / FILE).size == (PADDING + 11 * step, CAPTION + PADDING + 3 * step)


def test_figures_are_those_of_the_sampled_images(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    both = pair(trunk(0), trunk(1), ctx)
    found = Fidelity(images=12).run(both, ctx).values
    target, thief = (rows[sample(TASK.test, 12)] for rows in both.logits)
    assert found["fidelity/neighbours@10"] == overlap(find_nearest(target, 10), find_nearest(thief, 10), 10) < 1
    assert found.items() >= {f"fidelity/cosine_{name}": value for name, value in cosines(target, thief).items()}.items()


@pytest.mark.parametrize("queries", [1, 2])
def test_neighbours_that_both_have_are_framed_and_no_others(queries: int) -> None:
    grey = torch.arange(0, 250, 25, dtype=torch.uint8)
    images = grey[:, None, None, None].expand(10, 3, 9, 7).contiguous()
    target, thief = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[3, 8, 1], [7, 8, 9]])
    drawn = np.asarray(picture(images, torch.tensor([0, 9])[:queries], target[:queries], thief[:queries]))
    step = TILE + PADDING
    for row in range(queries):
        ids = [[0, 9][row], None, *target[row].tolist(), None, *thief[row].tolist()]
        common = set(target[row].tolist()) & set(thief[row].tolist())
        for column, image in enumerate(ids):
            top, left = CAPTION + PADDING + row * step, PADDING + column * step
            tile = drawn[top : top + TILE, left : left + TILE]
            inside = (255,) * 3 if image is None else (int(grey[image]),) * 3
            assert tuple(tile[TILE // 2, TILE // 2]) == inside
            framed = image in common and column > 1
            assert tuple(tile[0, 0]) == tuple(tile[-1, -1]) == (COMMON if framed else inside)


def test_what_makes_no_sense_is_refused() -> None:
    for wrong in ({"images": 1}, {"queries": -1}, {"shown": 0}):
        with pytest.raises(ConfigError, match=rf"fidelity\.{next(iter(wrong))} must be at least"):
            Fidelity(**wrong)


@pytest.mark.slow
def test_every_shipped_kind_of_trunk_has_stages() -> None:
    for model in (
        "resnet18",
        "tf_efficientnet_lite0",
        "vgg16",
        "densenet121",
        "convnext_atto",
        "deit_tiny_patch16_224",
    ):
        backbone = Backbone(timm.create_model(model, num_classes=0), 1, 224, (0.5,) * 3, (0.5,) * 3)
        with TrunkStages(backbone) as stages:
            assert len(stages.widths) >= 4, model
