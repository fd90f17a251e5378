"""Defenses that answer by networks of their own: losses by plain formulas, what training does, what they refuse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError, DataError, DefenseError
from fmsteal.config import build
from fmsteal.data.digits import digits
from fmsteal.data.images import Images
from fmsteal.data.random_views import Views
from fmsteal.defenses.base import NoDefense, prepare
from fmsteal.defenses.ensemble import DiverseModule, Ensemble, ImageHash, compare_members
from fmsteal.defenses.exposed_misinformation import ExposedMisinformation, be_unsure
from fmsteal.defenses.misleader import Misleader, MisleadingModule, distill, divergence
from fmsteal.defenses.outliers import resize
from fmsteal.defenses.replacing import find_server, is_replacing
from fmsteal.oracle.guard import Guard
from fmsteal.training.trainer import Training
from tests.support.asking import asked, question
from tests.support.composing import composed
from tests.support.simplex import dirichlet, seeds
from tests.support.small_task import TASK as NOISE
from tests.support.small_task import context

TASK = digits(size=16, train_count=200, test=100)
TINY = (
    "backbone@defense.net.backbone=resnet10t", "defense.net.backbone.model=test_resnet", "defense.net.backbone.size=16",
    "recipes.scratch.epochs=12", "recipes.scratch.min_steps=0", "recipes.scratch.batch_size=25",
)  # fmt: skip
FEW = ("defense.outliers.images.count=100",)
NAMES = ("ensemble", "adaptive_misinformation_oe", "misleader")


def made(name: str, *words: str) -> Any:
    few = () if name == "misleader" else FEW
    return build.make(composed(f"defense={name}", *TINY, *few, *words).defense)


class Teacher:
    """A victim that knows the labels, of the width that it is given."""

    def __init__(self, width: int = 10) -> None:
        self.width, self.key = width, "teacher"

    def raw(self, images: Images, ids: Any, ctx: Any) -> Tensor:
        assert images.labels is not None
        return 6 * nn.functional.one_hot(torch.from_numpy(images.labels[ids]), 10).float()


def guard_in(folder: Path, defense: Any, train: Images = TASK.train, width: int = 10) -> Guard:
    victim: Any = Teacher(width)
    return prepare(defense, victim, train, context(folder))


def pixels(images: Images) -> Tensor:
    return torch.from_numpy(np.array(images.pixels[np.arange(len(images))]))


def answer(guard: Any, images: Tensor) -> Tensor:
    rows = torch.full((len(images), guard.width), 1 / guard.width)
    ask = replace(asked(rows, [question(row % 256) for row in range(len(images))]), images=lambda: images)
    y: Tensor = guard.reply(ask).answers
    assert y.isfinite().all() and bool((y >= 0).all()) and torch.allclose(y.sum(1), torch.ones(len(y)), atol=1e-5)
    assert guard.reply(asked(torch.zeros(0, guard.width), [])).answers.shape == (0, guard.width)
    return y


def rows(seed: int, n: int, k: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=3, size=(n, k)))


def softmax(logits: Any) -> Any:
    e = np.exp(np.asarray(logits) - np.asarray(logits).max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@given(seeds, st.integers(2, 6), st.integers(1, 5), st.integers(2, 12))
@settings(max_examples=40)
def test_how_alike_members_are_is_a_loop_over_pairs(seed: int, members: int, n: int, classes: int) -> None:
    p = torch.stack([dirichlet(seed + m, n, classes).double() for m in range(members)])
    for row, value in zip(p.transpose(0, 1).numpy(), compare_members(p).tolist(), strict=True):
        total = sum(
            np.exp(row[a] @ row[b] / np.linalg.norm(row[a]) / np.linalg.norm(row[b]))
            for a in range(members)
            for b in range(a + 1, members)
        )
        assert value == pytest.approx(np.log(total), abs=1e-6)


@given(seeds, st.integers(1, 6), st.integers(2, 12), st.floats(0, 1), st.sampled_from([1.0, 2.0, 6.0]))
@settings(max_examples=40)
def test_losses_are_plain_formulas(seed: int, n: int, k: int, alpha: float, temperature: float) -> None:
    z, v = rows(seed, n, k), rows(seed + 1, n, k)
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, k, n))
    p, q = softmax(z), softmax(v)
    assert float(divergence(z, v)) == pytest.approx(rel_entr(p, q).sum(1).mean(), abs=1e-9)
    assert float(be_unsure(z)) == pytest.approx(-np.log(p).mean(), abs=1e-9)
    soft = rel_entr(softmax(v / temperature), softmax(z / temperature)).sum(1).mean()
    hard = -np.log(p[np.arange(n), labels]).mean()
    wanted = alpha * temperature**2 * soft + (1 - alpha) * hard
    assert float(distill(z, v, labels, alpha, temperature)) == pytest.approx(wanted, abs=1e-8)


def linear(count: int) -> nn.ModuleList:
    torch.manual_seed(0)
    return nn.ModuleList([nn.Sequential(nn.Flatten(), nn.Linear(48, 3)) for _ in range(count)])


def test_a_member_and_its_attacker_get_their_own_losses_gradients() -> None:
    """Of a member: distilled, minus the weight times KL(d || f), f fixed; of its attacker: KL(d || f), d fixed."""
    net, recipe = linear(4), made("misleader").net.recipe
    x, others = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4)
    taught, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    module = MisleadingModule(net, recipe, 0, Views([]), weight=0.4, alpha=0.3, temperature=6.0)
    module.loss((x, torch.cat([taught, labels[:, None]], 1), others))[0].backward()
    for d, f in ((0, 2), (1, 3)):
        found = [net[number][1].weight.grad.clone() for number in (d, f)]  # type: ignore[index, union-attr, operator]
        fixed = [net[number](others).detach() for number in (d, f)]
        own = distill(net[d](x), taught, labels, 0.3, 6.0) - 0.4 * divergence(net[d](others), fixed[1])
        torch.testing.assert_close(found[0], torch.autograd.grad(own, net[d][1].weight)[0])  # type: ignore[index]
        theirs = divergence(fixed[0], net[f](others))
        torch.testing.assert_close(found[1], torch.autograd.grad(theirs, net[f][1].weight)[0])  # type: ignore[index]


def test_the_ensembles_loss_is_its_two_parts() -> None:
    net, recipe = linear(3), made("ensemble").net.recipe
    x, labels, outliers = torch.rand(5, 3, 4, 4), torch.tensor([0, 1, 2, 0, 1]), torch.rand(4, 3, 4, 4)
    loss, logs = DiverseModule(net, recipe, 0, weight=0.7).loss((x, labels, outliers))
    fit = np.mean([-np.log(softmax(one(x).detach())[np.arange(5), labels]).mean() for one in net])
    p = np.stack([softmax(one(outliers).detach()) for one in net])
    unit = p / np.linalg.norm(p, axis=-1, keepdims=True)
    pairs = [np.exp((unit[a] * unit[b]).sum(-1)) for a, b in ((0, 1), (0, 2), (1, 2))]
    alike = np.log(np.sum(pairs, axis=0)).mean()
    assert loss.item() == pytest.approx(fit + 0.7 * alike, abs=1e-5)
    assert float(logs["alike"]) == pytest.approx(alike, abs=1e-5)


def test_the_hash_asks_all_members_and_minds_no_noise() -> None:
    picks, images = ImageHash(5, 0, [TASK.train]), pixels(TASK.test)
    member = picks.pick(images)
    assert torch.equal(torch.cat([picks.pick(image[None]) for image in images[:20]]), member[:20])
    assert torch.equal(ImageHash(5, 0, [TASK.train]).pick(images), member)
    assert len(member.unique()) == 5 and int(member.bincount().max()) < 0.6 * len(images)
    noisy = (images.int() + torch.randint(-1, 2, images.shape)).clip(0, 255).to(torch.uint8)
    assert float((picks.pick(noisy) == member).double().mean()) > 0.8
    assert not torch.equal(ImageHash(5, 1, [TASK.train]).pick(images), member)


@pytest.mark.slow
def test_members_agree_at_home_and_not_abroad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guards: dict[float, Any] = {
        weight: guard_in(tmp_path, made("ensemble", f"defense.weight={weight}", "defense.members=3"))
        for weight in (0.0, 3.0)
    }
    outliers = pixels(made("ensemble").outliers.load(TASK.train, context(tmp_path).store))
    alike = {}
    for weight, guard in guards.items():
        with torch.no_grad():
            p = torch.stack([model(outliers).softmax(1) for model in guard._models])
        alike[weight] = float(compare_members(p).mean())
        y = answer(guard, pixels(TASK.test))
        assert float((y.argmax(1) == torch.from_numpy(TASK.test.labels)).double().mean()) > 0.6  # type: ignore[arg-type]
    assert alike[3.0] < alike[0.0] - 0.1, alike
    member = guard._picks.pick(pixels(TASK.test))
    with torch.no_grad():
        plain = [
            guard._models[int(m)](image[None]).softmax(1) for m, image in zip(member, pixels(TASK.test), strict=True)
        ]
    torch.testing.assert_close(torch.cat(plain), y, rtol=0, atol=1e-4)
    assert torch.equal(guard.serve(pixels(TASK.test)), y)
    assert_kept(tmp_path, monkeypatch, made("ensemble", "defense.weight=3", "defense.members=3"), y)


def assert_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, defense: Any, y: Tensor) -> None:
    """What was trained lies in the store: the same again trains nothing."""

    def train(*args: Any, **options: Any) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(Training, "fit", train)
    assert torch.equal(answer(guard_in(folder, defense), pixels(TASK.test)), y)
    with pytest.raises(Exception, match="it trains"):
        guard_in(folder, defense, TASK.train.subset(np.arange(150)))


@pytest.mark.slow
def test_a_victim_that_was_exposed_to_outliers_is_unsure_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defense = made("adaptive_misinformation_oe", "defense.tau=0.7")
    guard: Any = guard_in(tmp_path, defense)
    outliers = pixels(defense.outliers.load(TASK.train, context(tmp_path).store))
    labels = torch.from_numpy(np.array(TASK.test.labels))
    with torch.no_grad():
        foreign, p, q = (
            model(images).softmax(1).double()
            for model, images in (
                (guard._right, outliers),
                (guard._right, pixels(TASK.test)),
                (guard._wrong, pixels(TASK.test)),
            )
        )
    assert float(foreign.amax(1).mean()) < 0.5 < float(p.amax(1).mean())
    assert float((p.argmax(1) == labels).double().mean()) > 0.6 > 0.3 > float((q.argmax(1) == labels).double().mean())
    y = answer(guard, pixels(TASK.test))
    share = 1 / (1 + np.exp(np.clip(1000 * (p.amax(1, keepdim=True).numpy() - 0.7), -700, 700)))
    np.testing.assert_allclose(y.numpy(), (1 - share) * p.numpy() + share * q.numpy(), atol=2e-3)
    torch.testing.assert_close(guard.serve(pixels(TASK.test)), p, rtol=0, atol=1e-4)  # before it is mixed
    assert_kept(tmp_path, monkeypatch, defense, y)


@pytest.mark.slow
def test_the_misleaders_answer_is_the_mean_of_its_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    defense = made("misleader", "defense.members=2", "recipes.scratch.epochs=8")
    guard: Any = guard_in(tmp_path, defense)
    y = answer(guard, pixels(TASK.test))
    with torch.no_grad():
        plain = sum(model(pixels(TASK.test)).softmax(1) for model in guard._models) / 2
    torch.testing.assert_close(plain, y, rtol=0, atol=1e-4)
    assert torch.equal(guard.serve(pixels(TASK.test)).float(), y)
    assert len(guard._models) == 2
    assert float((y.argmax(1) == torch.from_numpy(TASK.test.labels)).double().mean()) > 0.6  # type: ignore[arg-type]
    assert_kept(tmp_path, monkeypatch, defense, y)


def test_outliers_come_in_the_size_of_the_training_images(tmp_path: Path) -> None:
    found = made("ensemble").outliers.load(TASK.train, context(tmp_path).store)
    assert found.pixels.shape == (100, 3, 16, 16) and found.labels is None
    same = resize(NOISE.train, (32, 32))
    assert same.digest == NOISE.train.digest and same.labels is None
    grey = Images(np.full((3, 3, 8, 8), 77, np.uint8), "grey")
    assert (np.asarray(resize(grey, (5, 6)).pixels) == 77).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_task_that_nothing_can_be_trained_on_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trains networks.*has no labels"):
        guard_in(tmp_path, made(name), TASK.train.unlabelled())
    with pytest.raises(DataError, match="on 10 classes, but the victim's answers have 5"):
        guard_in(tmp_path, made(name), width=5)
    assert not (tmp_path / "cache" / "defenses").exists()
    words = composed(f"defense={name}", "defense.net.adaptation=probe", "defense.net.recipe.solver=convex")
    with pytest.raises(ConfigError, match=r"defense\.net\.recipe\.solver=steps"):
        build.make(words.defense)
    with pytest.raises(ConfigError, match=r"no low-rank updates: defense\.net\.adaptation=full"):
        build.make(composed(f"defense={name}", "defense.net.adaptation=lora").defense)
    for order in (f"+defense@defense.of.b={name}", "+defense@defense.of.a=top_k"), ():
        words_ = order or (f"+defense@defense.of.a={name}", "+defense@defense.of.b=top_k")
        if order:
            with pytest.raises(ConfigError, match=r"defense\.of\.b .* answers by networks of its own"):
                build.make(composed("defense=chain", *words_).defense)
        else:
            assert build.make(composed("defense=chain", *words_).defense).depends == "row"


def test_a_chain_serves_what_its_first_defense_does(tmp_path: Path) -> None:
    words = ("+defense@defense.of.a=misleader", "+defense@defense.of.b=hard_label")
    tiny = [word.replace("defense.net", "defense.of.a.net") for word in TINY]
    defense = build.make(composed("defense=chain", *words, *tiny, "recipes.scratch.epochs=1").defense)
    guard: Any = guard_in(tmp_path, defense)
    served, y = guard.serve(pixels(TASK.test)), answer(guard, pixels(TASK.test))
    assert is_replacing(defense) and find_server(guard) is not None
    assert (
        torch.equal(served.argmax(1), y.argmax(1)) and bool((served.amax(1) < 1).all()) and bool((y.amax(1) == 1).all())
    )
    plain = build.make(composed("defense=chain", "+defense@defense.of.a=top_k").defense)
    assert not is_replacing(plain) and find_server(guard_in(tmp_path, plain)) is None


def test_a_defense_that_says_it_replaces_has_to_say_by_what(tmp_path: Path) -> None:
    class Forgot(NoDefense):
        replaces = True

    with pytest.raises(DefenseError, match="Forgot prepared a RowGuard, which is no guard: it lacks serve"):
        guard_in(tmp_path, Forgot())


def test_options_that_mean_nothing_are_refused() -> None:
    net, outliers, views = made("ensemble").net, made("ensemble").outliers, Views([])
    for options, match in (({"members": 1}, r"defense\.members"), ({"weight": -1.0}, r"defense\.weight")):
        with pytest.raises(ConfigError, match=match):
            Ensemble(net, outliers, **options)  # type: ignore[arg-type]
    for options, match in (
        ({"tau": 2.0}, r"defense\.tau"),
        ({"nu": 0.0}, r"defense\.nu"),
        ({"weight": -1.0}, "weight"),
    ):
        with pytest.raises(ConfigError, match=match):
            ExposedMisinformation(net, outliers, **options)
    for options in ({"members": 0}, {"alpha": 2.0}, {"weight": -1.0}, {"temperature": 0.0}):
        with pytest.raises(ConfigError, match=r"defense\.members|MISLEADER needs"):
            Misleader(net, views, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"defense\.net\.adaptation=full"):
        Misleader(replace(net, adaptation="probe"), views)


def test_what_makes_no_images_is_no_set_of_outliers(tmp_path: Path) -> None:
    outliers = made("ensemble").outliers
    outliers.images = {"_target_": "fmsteal.data.digits.digits"}
    with pytest.raises(ConfigError, match=r"must be a query set, not Task: query@defense\.outliers\.images=procedural"):
        outliers.load(TASK.train, context(tmp_path).store)
    victim: Any = SimpleNamespace(width=10)
    with pytest.raises(ConfigError, match="must be a query set"):
        prepare(Ensemble(made("ensemble").net, outliers), victim, TASK.train, context(tmp_path))
