"""unprobeable: its probe against scikit-learn's ridge regression and autograd, what training does, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from fmsteal.base.errors import ConfigError, DataError, DefenseError
from fmsteal.config import answers, build
from fmsteal.data.digits import digits
from fmsteal.data.images import Images
from fmsteal.defenses.base import prepare
from fmsteal.defenses.ridge_probe import RidgeProbe, find_lead, relative_lead
from fmsteal.defenses.unprobeable import BATCH, FORMS, RATE, HiddenHead, OwnProbe, Unprobeable
from fmsteal.oracle.guard import Guard
from tests.support.asking import asked, question
from tests.support.composing import composed
from tests.support.public_trunk import head_on_trunk
from tests.support.simplex import dirichlet, seeds
from tests.support.small_task import context

TASK = digits(size=16, train_count=200, test=40)
FEW = ("query@defense.outliers.images=glyphs", "defense.outliers.images.count=100", "defense.outliers.images.seed=7",
       "defense.hidden=32", "defense.epochs=60")  # fmt: skip


def rows(seed: int, n: int, width: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 2 + torch.randn(n, width, generator=draw) * torch.arange(1, width + 1)


def unit_of(x: Tensor) -> float:
    return float(x.double().var(0, correction=0).mean())


@given(seeds, st.integers(3, 60), st.integers(1, 8), st.integers(2, 6), st.sampled_from([1e-3, 1e-2, 1.0]))
@settings(max_examples=40)
def test_the_probes_scores_are_scikit_learns(seed: int, m: int, width: int, classes: int, penalty: float) -> None:
    x, z, y = rows(seed, m, width), rows(seed + 1, 5, width), dirichlet(seed, m, classes).float()
    ridge = Ridge(alpha=penalty * m * unit_of(x), solver="cholesky").fit(x.double().numpy(), y.double().numpy())
    wanted = ridge.predict(z.double().numpy())
    np.testing.assert_allclose(RidgeProbe(x, penalty).scores(z, y).numpy(), wanted, atol=1e-3, rtol=1e-3)


def test_its_gradient_is_that_of_least_squares_by_autograd() -> None:
    """Of the loss with respect to the answers: least squares on rows augmented by the penalty's."""
    x, z, penalty = rows(0, 50, 6).double(), rows(1, 20, 6).double(), 0.05
    labels = torch.arange(20) % 4
    y = dirichlet(2, 50, 4).double().requires_grad_()
    centred, mean = x - x.mean(0), x.mean(0)
    ridge = (penalty * 50 * unit_of(x)) ** 0.5 * torch.eye(6, dtype=torch.float64)
    targets = torch.cat([y - y.mean(0), torch.zeros(6, 4, dtype=torch.float64)])
    weight = torch.linalg.lstsq(torch.cat([centred, ridge]), targets).solution
    plain = (z - mean) @ weight + y.mean(0)
    other = torch.where(F.one_hot(labels, 4).bool(), -torch.inf, plain).max(1).values
    spread = ((plain - plain.mean(1, keepdim=True)) ** 2).mean().sqrt()
    wanted = torch.log1p(torch.exp((plain[torch.arange(20), labels] - other) / spread)).mean()
    given_ = y.detach().float().requires_grad_()
    found = F.softplus(relative_lead(RidgeProbe(x.float(), penalty).scores(z.float(), given_), labels)).mean()
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-4)
    grads = torch.autograd.grad(found, given_)[0].double(), torch.autograd.grad(wanted, y)[0]
    torch.testing.assert_close(*grads, rtol=1e-2, atol=1e-5)


@given(seeds, st.floats(0.1, 10))
@settings(max_examples=30)
def test_the_lead_minds_no_scale(seed: int, scale: float) -> None:
    scores, labels = torch.randn(9, 5, generator=torch.Generator().manual_seed(seed)), torch.arange(9) % 5
    for row, label, lead in zip(scores.tolist(), labels.tolist(), find_lead(scores, labels).tolist(), strict=True):
        assert lead == pytest.approx(row[label] - max(s for k, s in enumerate(row) if k != label), abs=1e-6)
    torch.testing.assert_close(
        relative_lead(scale * scores + 3, labels), relative_lead(scores, labels), atol=1e-3, rtol=1e-3
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_batchs_gradient_is_on_average_that_of_all_answers(form: str) -> None:
    """The value is exact; the mean over a partition of the public images is the gradient of the whole."""
    torch.manual_seed(0)
    x, z = rows(0, 40, 6), rows(1, 8, 6)
    head = HiddenHead(6, 5, 3)
    head.standardise(z)
    weight: Tensor = head.layers[0].weight  # type: ignore[assignment]

    def scores_of(shown: Tensor) -> tuple[Tensor, Tensor]:
        own = OwnProbe(head, x, 0.01, FORMS[form])
        scores = own.scores(z, shown)
        return scores, torch.autograd.grad(scores.square().mean(), weight)[0]

    whole, wanted = scores_of(torch.arange(40))
    torch.testing.assert_close(whole, RidgeProbe(x, 0.01).scores(z, FORMS[form](head(x))))
    parts = [scores_of(shown) for shown in torch.randperm(40).split(10)]
    for scores, _ in parts:
        torch.testing.assert_close(scores, whole)
    torch.testing.assert_close(torch.stack([grad for _, grad in parts]).mean(0), wanted, rtol=1e-4, atol=1e-6)


def test_answers_that_are_not_shown_are_those_of_before() -> None:
    head, x, z = HiddenHead(6, 5, 3), rows(0, 40, 6), rows(1, 8, 6)
    own = OwnProbe(head, x, 0.01, FORMS["probabilities"])
    before = head(x).softmax(1).detach()
    with torch.no_grad():
        head.layers[2].bias.add_(torch.tensor([1.0, 0.0, -1.0]))  # type: ignore[operator, union-attr]
    shown = torch.tensor([3, 17])
    after = before.index_copy(0, shown, head(x).softmax(1).detach()[shown])
    torch.testing.assert_close(own.scores(z, shown).detach(), RidgeProbe(x, 0.01).scores(z, after))


def made(*words: str) -> Unprobeable:
    found: Unprobeable = build.make(composed("defense=unprobeable", *FEW, *words).defense)
    return found


def victim_of(classes: int = 10, frozen: bool = True) -> Any:
    """A victim on a public trunk that has not been trained: it does not answer."""
    model = head_on_trunk(classes)
    if not frozen:
        model.frozen = None
    return SimpleNamespace(width=classes, model=model, key="untrained")


def guard_in(folder: Path, defense: Unprobeable, train: Images = TASK.train, **more: Any) -> Guard:
    return prepare(defense, victim_of(**more), train, context(folder))


def no_images() -> Images:
    return Images(np.zeros((0, 3, 8, 8), np.uint8), "none")


def pixels(images: Images) -> Tensor:
    return torch.from_numpy(np.array(images.pixels[np.arange(len(images))]))


def answer(guard: Guard, images: Tensor) -> Tensor:
    anything = torch.full((len(images), guard.width), 1 / guard.width)
    ask = replace(asked(anything, [question(row % 256) for row in range(len(images))]), images=lambda: images)
    y = guard.reply(ask).answers
    assert torch.allclose(y.sum(1), torch.ones(len(y)), atol=1e-5) and bool((y >= 0).all())
    return y


def two_domains(images: int, public: int, width: int = 24, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Features of training images, their labels, and features of public images: mixtures of the same, but elsewhere."""
    draw = torch.Generator().manual_seed(0)
    kinds, labels = torch.randn(classes, width, generator=draw), torch.arange(images) % classes
    z = kinds[labels] + 0.5 * torch.randn(images, width, generator=draw)
    x = 0.7 * torch.randn(public, classes, generator=draw) @ kinds + 0.5 * torch.randn(public, width, generator=draw)
    z[:, 0] += 3
    x[:, 0] -= 3
    return z, labels, x


@pytest.mark.parametrize("form", FORMS)
def test_a_probe_of_its_answers_fails_and_its_users_are_served(form: str, tmp_path: Path) -> None:
    """The probe is scikit-learn's. Without a weight it succeeds."""
    (z, labels, x), right = two_domains(1000, 400), {}
    for weight in (0.0, 1.0):
        defense = Unprobeable(made().outliers, weight=weight, form=form, hidden=32, epochs=60)  # type: ignore[arg-type]
        head = defense.train(z, labels, x, 4, context(tmp_path))
        y = FORMS[form](head(x))
        scores = Ridge(alpha=0.01 * len(x) * unit_of(x)).fit(x.numpy(), y.numpy()).predict(z.numpy())
        right[weight] = float((torch.from_numpy(scores).argmax(1) == labels).double().mean())
        assert float((head(z).argmax(1) == labels).double().mean()) > 0.95
    assert right[0.0] > 0.8 and right[1.0] < 0.1, right


def test_its_rate_falls_to_zero_with_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Told(torch.optim.lr_scheduler.CosineAnnealingLR):
        def step(self, epoch: int | None = None) -> None:
            super().step(epoch)
            rates.append(self.get_last_lr()[0])

    monkeypatch.setattr(torch.optim.lr_scheduler, "CosineAnnealingLR", Told)
    z, labels, x = two_domains(BATCH + 1, 40)
    Unprobeable(made().outliers, hidden=8, epochs=3).train(z, labels, x, 4, context(tmp_path))
    steps = [RATE * (1 + np.cos(np.pi * step / 6)) / 2 for step in range(7)]  # 3 epochs of 2 batches, and the first
    np.testing.assert_allclose(rates, steps, atol=1e-9)


def test_without_a_weight_it_is_a_plain_head(tmp_path: Path) -> None:
    """Its answers depend on no public image: neither on which there are, nor on the probe."""
    images = pixels(TASK.test)
    wanted = answer(guard_in(tmp_path, made("defense.weight=0")), images)
    words = ("defense.penalty=1", "defense.form=logs")
    assert torch.equal(answer(guard_in(tmp_path, made("defense.weight=0", *words)), images), wanted)
    assert float((wanted.argmax(1).numpy() == TASK.test.labels).mean()) > 0.4


def test_blocks_of_any_size_get_the_same_rows_and_what_was_trained_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, images = guard_in(tmp_path, made()), pixels(TASK.test)
    y = answer(guard, images)
    for size in (1, 7, 512):
        assert torch.equal(torch.cat([answer(guard, part) for part in images[:9].split(size)]), y[:9])
    assert torch.equal(answer(guard_in(tmp_path / "anew", made()), images), y)  # trained again, the same to the bit
    assert guard.reply(asked(torch.zeros(0, 10), [])).answers.shape == (0, 10)

    def train(*args: Any, **options: Any) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(Unprobeable, "train", train)
    assert torch.equal(answer(guard_in(tmp_path, made()), images), y)
    for other in (made("defense.weight=2"), made("defense.seed=1"), made("defense.outliers.images.seed=1")):
        with pytest.raises(DefenseError, match="it trains"):
            guard_in(tmp_path, other)
    with pytest.raises(DefenseError, match="it trains"):
        guard_in(tmp_path, made(), TASK.train.subset(np.arange(150)))


def test_what_it_cannot_defend_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"frozen pretrained trunk, but this victim is no such model.*adaptation=probe"
    ):
        guard_in(tmp_path, made(), frozen=False)
    nobody: Any = SimpleNamespace(width=10, key="nobody")
    with pytest.raises(ConfigError, match="frozen pretrained trunk"):
        prepare(made(), nobody, TASK.train, context(tmp_path))
    with pytest.raises(DataError, match=r"trains networks.*has no labels"):
        guard_in(tmp_path, made(), TASK.train.unlabelled())
    with pytest.raises(DataError, match="on 10 classes, but the victim's answers have 5"):
        guard_in(tmp_path, made(), classes=5)
    none = made()
    none.outliers.images = {"_target_": "tests.defenses.test_unprobeable.no_images"}
    with pytest.raises(DataError, match=r"defense\.outliers\.images holds no images"):
        guard_in(tmp_path, none)
    assert not (tmp_path / "cache" / "defenses").exists()
    with pytest.raises(ConfigError, match=r"defense \(.*Unprobeable\) is made for probabilities"):
        answers.check(composed("task=embed", "defense=unprobeable"))
    with pytest.raises(ConfigError, match=r"defense\.of\.b .* answers by networks of its own"):
        build.make(
            composed("defense=chain", "+defense@defense.of.a=top_k", "+defense@defense.of.b=unprobeable").defense
        )


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("weight=-1", r"defense\.weight must be 0 or more, and finite, not -1"),
        ("weight=inf", r"defense\.weight must be 0 or more, and finite, not inf"),
        ("penalty=0", r"defense\.penalty must be above 0, and finite, not 0"),
        ("hidden=0", r"defense\.hidden and defense\.epochs must be at least 1, not 0 and"),
        ("epochs=0", r"defense\.hidden and defense\.epochs must be at least 1, not 32 and 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made(f"defense.{word}")
