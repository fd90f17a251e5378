"""Robustness of both models: against plain forward passes and plain attacks, once per victim, and what is refused."""

from __future__ import annotations

import dataclasses
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store
from fmsteal.config import build
from fmsteal.data.digits import digits
from fmsteal.data.images import Images, Task
from fmsteal.evaluation import imagenet_c
from fmsteal.evaluation.base import Pair
from fmsteal.evaluation.corruptions import corrupt_images
from fmsteal.evaluation.robustness import Robustness
from fmsteal.evaluation.white_box import PGD, find_withstanding
from fmsteal.job.parts import Parts
from fmsteal.training.context import Context
from fmsteal.training.inference import logits
from fmsteal.victims.base import Victim
from fmsteal.victims.classifier import ClassifierVictim
from tests.support.composing import composed
from tests.support.small_task import context, part

TEST = digits(test=30).test
IDS = np.arange(30)
FEW = Robustness(corruptions=("noise", "jpeg"), severities=(1, 5), images=20, attacked=12, steps=(3, 6), restarts=2)


class API(ClassifierVictim):
    """A victim behind an API."""

    gradients: ClassVar[bool] = False


class Detached(nn.Module):
    """A model whose outputs have no gradient."""

    width = 10

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.model(x)


def models(folder: Path) -> tuple[Pair, Context]:
    """Two small ResNets as they were initialised, on labels of which the victim gives some."""
    ctx = context(folder)
    learners = part("victim", "victim=resnet10t"), part("thief", "thief=resnet10t")
    victim, thief = learners[0].build(10, "victim").eval(), learners[1].build(10).eval()
    both = logits(victim, TEST, IDS, ctx), logits(thief, TEST, IDS, ctx)
    labels = np.where(IDS % 3 > 0, both[0].argmax(1).numpy(), both[1].argmax(1).numpy())
    test = dataclasses.replace(TEST, labels=labels)
    return Pair(Victim("v", victim), thief, learners, Task(test, test), ctx, both), ctx


@torch.no_grad()
def answers(model: nn.Module, pixels: np.ndarray) -> np.ndarray:
    return np.array([int(model(torch.from_numpy(image[None])).argmax()) for image in pixels])


def test_figures_are_those_of_plain_passes_and_of_the_attacks(tmp_path: Path) -> None:
    pair, ctx = models(tmp_path)
    found = FEW.run(pair, ctx)
    values, test = found.values, pair.task.test
    order = np.random.default_rng(0).permutation(30)
    ids, labels = order[:20], test.labels[order[:20]]
    means = {}
    for name in ("noise", "jpeg"):
        rows = []
        for severity in (1, 5):
            pixels = corrupt_images(TEST.pixels[ids], name, severity)
            victim, thief = answers(pair.victim.model, pixels), answers(pair.thief, pixels)
            rows.append((np.mean(victim == labels), np.mean(thief == labels), np.mean(victim == thief)))
        means[name] = np.mean(rows, axis=0)
    means[""] = np.mean(list(means.values()), axis=0)
    for name, mean in means.items():
        at = f"robustness/basic/{name}".rstrip("/")
        got = [values[f"{at}/{what}"] for what in ("victim_accuracy", "accuracy", "agreement")]
        assert got == pytest.approx(list(mean))
    ids, labels = order[:12], torch.from_numpy(test.labels[order[:12]])
    for steps in (3, 6):
        for model, name in ((pair.victim.model, "victim_accuracy"), (pair.thief, "accuracy")):
            share = find_withstanding(model, TEST, labels, ids, PGD(8 / 255, steps, 2), ctx).mean()
            assert values[f"robustness/pgd{steps}@8/{name}"] == pytest.approx(share)
            assert share <= values[f"robustness/clean/{name}"]
    assert values["robustness/clean/victim_accuracy"] == np.mean(
        answers(pair.victim.model, TEST.pixels[ids]) == labels.numpy()
    )
    assert values["robustness/clean/victim_accuracy"] > 0 and len(values) == 3 * 3 + 2 * 3
    ends = found.intervals["robustness/pgd3@8/accuracy"]
    assert ends[0] <= values["robustness/pgd3@8/accuracy"] <= ends[1]


def test_what_is_the_victims_is_computed_once(tmp_path: Path) -> None:
    pair, ctx = models(tmp_path)
    first = FEW.run(pair, ctx).values
    before = pair.victim.forwards
    assert before > 4 * 20
    other = part("thief", "thief=resnet10t", "seed=7").build(10).eval()
    second = FEW.run(dataclasses.replace(pair, thief=other, ctx=context(tmp_path)), context(tmp_path)).values
    assert pair.victim.forwards == before
    own = [name for name in first if name.endswith("victim_accuracy")]
    assert {n: first[n] for n in own} == {n: second[n] for n in own} and first != second


def test_a_model_without_gradients_is_named_and_the_rest_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair, ctx = models(tmp_path)
    whole = FEW.run(pair, ctx).values
    api = dataclasses.replace(pair, victim=Victim("v", Detached(pair.victim.model)))
    found = FEW.run(api, ctx).values
    assert "the victim gives no gradients" in caplog.text and "the thief" not in caplog.text
    missing = {"robustness/pgd3@8/victim_accuracy", "robustness/pgd6@8/victim_accuracy"}
    assert found == {name: value for name, value in whole.items() if name not in missing}
    caplog.clear()
    paid = dataclasses.replace(pair, victim=Victim("v", pair.victim.model, paid=True))
    assert FEW.run(paid, ctx).values == found and "the victim gives no gradients" in caplog.text
    thief = dataclasses.replace(FEW, white_box=("thief",))
    assert thief.run(pair, ctx).values == found
    neither = dataclasses.replace(FEW, white_box=()).run(pair, ctx).values
    assert neither == {name: value for name, value in whole.items() if "/basic/" in name or name.endswith("basic")}


def test_an_api_without_gradients_is_refused_when_the_job_is_composed() -> None:
    api = "victim._target_=tests.evaluation.test_robustness.API"
    with pytest.raises(ConfigError, match=r"API that gives none.*evaluation\.also\.robustness\.white_box=\[thief\]"):
        Parts.of(composed("evaluation=robustness", "victim=resnet10t", api))
    Parts.of(composed("evaluation=robustness", "victim=resnet10t", api, "evaluation.also.robustness.white_box=[thief]"))
    Parts.of(composed("evaluation=robustness", "victim=resnet10t", api, "evaluation.also.robustness.steps=[]"))
    with pytest.raises(ConfigError, match="API that gives none"):
        Parts.of(composed("evaluations=[${evaluation}]", "evaluation=robustness", "victim=resnet10t", api))


def test_the_configs_numbers_are_the_classs_own_and_nonsense_is_refused() -> None:
    cfg = composed("evaluation=robustness")
    build.check(cfg)
    node = cfg.evaluation.also.robustness
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in build.OmegaConf.to_container(node).items()}
    assert {k: v for k, v in given.items() if k != "_target_"} == dataclasses.asdict(Robustness())
    assert set(cfg.evaluation.also) == {"adversarial_fidelity", "robustness"}
    whole = composed("evaluation=robustness_imagenet_c").evaluation.also.robustness
    assert whole.suite == "imagenet_c" and whole.eps == node.eps
    for options, said in (
        ({"corruptions": ("noise", "fogg")}, r"no 'fogg' in suite=basic\. There are: noise, blur, contrast, jpeg\.$"),
        ({"corruptions": ("fog",)}, r"no 'fog' in suite=basic.*suite=imagenet_c has it"),
        ({"corruptions": ("blur",), "suite": "imagenet_c"}, "no 'blur' in suite=imagenet_c.*suite=basic has it"),
        ({"suite": "cifar_c"}, "suite is one of basic, imagenet_c, not cifar_c"),
        ({"severities": (0,)}, "severities are some of 1 to 5"),
        ({"severities": ()}, "severities are some of 1 to 5"),
        ({"attacked": 0}, "attacked must be at least 1"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"eps": (-0.1,)}, "needs eps of at least 0"),
        ({"steps": (0,)}, "steps of at least 1"),
        ({"step": 0.0}, "a step above 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            Robustness(**options)  # type: ignore[arg-type]


def test_without_the_package_it_is_said_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(imagenet_c, "version", missing)
    measure = Robustness(suite="imagenet_c")
    monkeypatch.setattr(imagenet_c, "_module", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'fmsteal\[corruptions\]'\. The four.*suite=basic"):
        measure.inputs(Store(tmp_path))
    monkeypatch.setattr(imagenet_c, "_module", lambda: True)
    with pytest.raises(ConfigError, match="imagecorruptions is there: remove it first"):
        measure.inputs(Store(tmp_path))
    assert Robustness().inputs(Store(tmp_path)) == {}


class TestImageNetC:
    images = Images(np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8), "three")

    @pytest.fixture(autouse=True)
    def there(self) -> None:
        pytest.importorskip("imagecorruptions")

    @pytest.mark.parametrize("name", imagenet_c.NAMES)
    def test_each_is_the_same_in_every_job(self, name: str, tmp_path: Path) -> None:
        np.random.seed(7)  # noqa: NPY002
        state = np.random.get_state()[1].copy()  # noqa: NPY002
        first = imagenet_c.corrupt_images(self.images, name, 2, Store(tmp_path / "a"))
        now = np.random.get_state()[1]  # noqa: NPY002
        assert np.array_equal(now, state), "NumPy's global generator is as it was"
        np.random.seed(8)  # noqa: NPY002
        again = imagenet_c.corrupt_images(self.images, name, 2, Store(tmp_path / "b"))
        assert np.array_equal(first.pixels, again.pixels) and first.digest == again.digest
        assert first.pixels.shape == (3, 3, 32, 32) and first.pixels.dtype == np.uint8
        clean = np.asarray(self.images.pixels).astype(float)
        assert all(np.abs(first.pixels[i] - clean[i]).mean() > 1 for i in range(3))
        harsher = imagenet_c.corrupt_images(self.images, name, 5, Store(tmp_path / "a"))
        assert not np.array_equal(first.pixels, harsher.pixels)

    def test_channels_are_in_their_order(self, tmp_path: Path) -> None:
        from imagecorruptions import corrupt, get_corruption_names

        assert tuple(get_corruption_names()) == imagenet_c.NAMES
        image = np.asarray(self.images.pixels)[1]
        found = imagenet_c.corrupt_images(self.images, "defocus_blur", 1, Store(tmp_path)).pixels[1]
        assert np.array_equal(found.transpose(1, 2, 0), corrupt(image.transpose(1, 2, 0).copy(), 1, "defocus_blur"))

    def test_they_are_made_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = Store(tmp_path)
        first = imagenet_c.corrupt_images(self.images, "fog", 1, store)
        monkeypatch.setattr(imagenet_c, "_apply", lambda *a: pytest.fail("made again"))
        assert imagenet_c.corrupt_images(self.images, "fog", 1, store).digest == first.digest

    def test_small_images_are_refused(self, tmp_path: Path) -> None:
        tiny = Images(np.zeros((2, 3, 28, 28), np.uint8), "tiny")
        with pytest.raises(DataError, match="at least 32 pixels, these have 28x28"):
            imagenet_c.corrupt_images(tiny, "fog", 1, Store(tmp_path))

    def test_figures_of_all_fifteen(self, tmp_path: Path) -> None:
        pair, ctx = models(tmp_path)
        measure = Robustness(suite="imagenet_c", severities=(1,), images=6, steps=())
        assert measure.inputs(ctx.store) == {imagenet_c.PACKAGE: imagenet_c.find_version()}
        values = measure.run(pair, ctx).values
        assert len(values) == 16 * 3
        each = [values[f"robustness/imagenet_c/{name}/accuracy"] for name in imagenet_c.NAMES]
        assert values["robustness/imagenet_c/accuracy"] == pytest.approx(np.mean(each))
