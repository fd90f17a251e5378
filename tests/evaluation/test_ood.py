"""Agreement out of distribution: against plain forward passes, shared between jobs, on sets named in the config."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.digits import digits
from fmsteal.data.images import Task
from fmsteal.evaluation.base import Pair, gather_inputs
from fmsteal.evaluation.corruptions import corrupt_images
from fmsteal.evaluation.ood import OutOfDistribution
from fmsteal.job.parts import Parts
from fmsteal.records import results
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim
from tests.support.composing import composed
from tests.support.small_task import context, part

TEST = digits(test=30).test
SET = "+data@evaluation.also.ood.sets"


def models(folder: Path) -> tuple[Pair, Context]:
    """A small ResNet and a frozen EfficientNet with a head, as they were initialised, on ten classes."""
    learners = part("victim", "victim=resnet10t"), part("thief")
    victim, thief = learners[0].build(10, "victim").eval(), learners[1].build(10).eval()
    rows = torch.zeros(len(TEST), 10)  # not looked at
    ctx = context(folder)
    return Pair(Victim("v", victim), thief, learners, Task(TEST, TEST), ctx, (rows, rows)), ctx


@torch.no_grad()
def labels(model: nn.Module, pixels: np.ndarray) -> np.ndarray:
    return np.array([int(model(torch.from_numpy(image[None])).argmax()) for image in pixels])


def test_figures_are_those_of_plain_forward_passes(tmp_path: Path) -> None:
    pair, ctx = models(tmp_path)
    found = OutOfDistribution(("noise", "jpeg"), (1, 5)).run(pair, ctx).values
    order = np.random.default_rng(0).permutation(len(TEST))
    for name in ("noise", "jpeg"):
        each = []
        for severity in (1, 5):
            pixels = corrupt_images(TEST.pixels[order], name, severity)
            victim, thief = labels(pair.victim.model, pixels), labels(pair.thief, pixels)
            at = f"ood/{name}-{severity}"
            each.append(np.mean(victim == thief))
            assert found[f"{at}/agreement"] == pytest.approx(each[-1])
            assert found[f"{at}/accuracy"] == pytest.approx(np.mean(thief == TEST.labels[order]))
            assert found[f"{at}/victim_accuracy"] == pytest.approx(np.mean(victim == TEST.labels[order]))
        assert found[f"ood/{name}/agreement"] == pytest.approx(np.mean(each))
    assert len(found) == 2 * (1 + 2 * 3)


def test_a_victim_agrees_with_itself_and_answers_once(tmp_path: Path) -> None:
    pair, ctx = models(tmp_path)
    same = Pair(pair.victim, pair.victim.model, pair.learners, pair.task, ctx, pair.logits)
    measure = OutOfDistribution(("blur", "contrast"), (3,), images=20)
    found = measure.run(same, ctx).values
    assert pair.victim.forwards == 2 * 20
    assert {v for k, v in found.items() if k.endswith("agreement")} == {1.0}
    assert found["ood/blur-3/accuracy"] == found["ood/blur-3/victim_accuracy"]
    assert measure.run(pair, context(tmp_path)).values != found, "another thief in another job"
    assert pair.victim.forwards == 2 * 20, "the victim's answers are shared"
    assert list((tmp_path / "cache" / "features").rglob("*.npz")), "the frozen trunk's features are kept"


def test_other_tasks_are_named_on_the_command_line(tmp_path: Path) -> None:
    pair, ctx = models(tmp_path)
    cfg = composed(
        "evaluation=ood", "evaluation.also.ood.corruptions=[]", f"{SET}.scans=digits",
        "evaluation.also.ood.sets.scans.test=20", "evaluation.also.ood.sets.scans.size=24",
    )  # fmt: skip
    build.check(cfg)
    evaluation = build.make(cfg.evaluation)
    other = digits(test=20, size=24).test
    assert gather_inputs(evaluation, ctx.store) == {"ood scans": other.digest}
    found = evaluation.also["ood"].run(pair, ctx).values
    want = np.mean(labels(pair.victim.model, other.pixels) == labels(pair.thief, other.pixels))
    assert found == {"ood/scans/agreement": pytest.approx(want)}


def folder_task(root: Path, shade: int) -> Path:
    for name in ("wren", "robin"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (shade, 40 * i, 0)).save(root / name / f"{shade}-{i}.png")
    return root


def test_what_a_set_holds_is_part_of_what_decides_the_result(tmp_path: Path) -> None:
    def images(root: Path) -> list[str]:
        return ["evaluation=ood", f"{SET}.birds=image_folder", f"evaluation.also.ood.sets.birds.root={root}"]

    def inputs() -> str:
        return gather_inputs(Parts.of(cfg).evaluation, Store(tmp_path / "cache"))["ood birds"]

    cfg = composed(*images(folder_task(tmp_path / "a" / "birds", 10)))
    touched = results.stamp_paths(cfg)
    assert list(touched) == ["evaluation.also.ood.sets.birds.root"]
    assert touched != results.stamp_paths(composed(*images(folder_task(tmp_path / "b" / "birds", 10))))
    before = inputs()
    assert inputs() == before
    folder_task(tmp_path / "a" / "birds", 200)
    assert touched != results.stamp_paths(cfg)
    assert inputs() != before, "which is measured anew"


def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"ood\.corruptions: there is no 'fog'\. There are: noise, blur, contrast, jpeg"
    ):
        OutOfDistribution(("noise", "fog"))
    for severities in ((0, 1), (6,), ()):
        with pytest.raises(ConfigError, match=r"severities are some of 1 to 5"):
            OutOfDistribution(severities=severities)
    with pytest.raises(ConfigError, match=r"ood\.images must be at least 1"):
        OutOfDistribution(images=0)
    with pytest.raises(ConfigError, match=r"sets\.blur has the name of a corruption"):
        OutOfDistribution(sets={"blur": {}})
    query = composed(
        "evaluation=ood", "+query@evaluation.also.ood.sets.letters=glyphs", "evaluation.also.ood.sets.letters.count=5"
    )
    with pytest.raises(ConfigError, match=r"sets\.letters must be a task, not Images"):
        gather_inputs(build.make(query.evaluation), Store(tmp_path))
    with pytest.raises(ConfigError, match=r"ood\.sets\.svhn\.bogus: .* has no option 'bogus'"):
        build.check(composed("evaluation=ood", f"{SET}.svhn=svhn", "+evaluation.also.ood.sets.svhn.bogus=1"))


def test_everything_is_all_of_them() -> None:
    whole = composed("evaluation=everything").evaluation
    assert set(whole.also) == {"similarity", "ood", "transfer", "adversarial_fidelity"}
    for name in whole.also:
        assert whole.also[name] == composed(f"evaluation={name}").evaluation.also[name]
