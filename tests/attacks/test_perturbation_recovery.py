"""BESA: shadow encoders tell which defense an encoder's API has, and teach a network to undo it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.defense_detection import MetaClassifier, describe_answers
from fmsteal.attacks.entry_generator import SEEN, EntryGenerator, describe_entries, to_unit
from fmsteal.attacks.perturbation_recovery import PerturbationRecovery, expect_crosswise
from fmsteal.attacks.shadow_encoders import draw_shadow
from fmsteal.attacks.simulation import Simulation
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.data.images import Ids, Images
from fmsteal.data.loader import TensorLoader
from fmsteal.defenses.base import RowDefense
from fmsteal.defenses.embeddings import FeatureNoise, FeatureTopK
from fmsteal.oracle.guard import Ask
from fmsteal.oracle.oracle import Budget
from fmsteal.training.classifier import SupervisedModule
from fmsteal.training.recipe import Recipe
from fmsteal.victims.base import Victim
from tests.attacks import embedding_api
from tests.support.an_api import in_front_of
from tests.support.composing import composed
from tests.support.small_task import context

WIDTH, ROWS = 96, 320
IDS = np.arange(ROWS)
POOL = Images(np.zeros((ROWS, 3, 2, 2), np.uint8), "pool")
FROZEN = ("task=embed", "thief=encoder_efficientnet_lite0_probe", "thief.backbone.size=32", "attack=besa")
SMALL = (
    "attack.recovery.shadows=6", "attack.recovery.pairs=2", "attack.recovery.entries=4000",
    "attack.recovery.restorer.epochs=10",
)  # fmt: skip
TOP_5 = "+attack.recovery.candidates.top_k_5={_target_: fmsteal.defenses.embeddings.FeatureTopK, k: 5}"


@cache
def world() -> tuple[Tensor, Tensor]:
    """Public features, and a target's embeddings: a ReLU layer on a part of what the features are made of."""
    random = torch.Generator().manual_seed(0)
    causes = torch.randn(ROWS, 24, generator=random)
    public = (causes @ torch.randn(24, 128, generator=random)).clamp(min=0)
    own = 0.5 * torch.randn(ROWS, 24, generator=random)
    return public, ((causes + own) @ torch.randn(24, WIDTH, generator=random) + 4).clamp(min=0)


class Known(AttackContext):
    """An attacker whose public features are those of the made-up world."""

    def public_features(self, pool: Images, ids: Ids, trunk: object = None) -> Tensor:
        return world()[0][torch.from_numpy(ids)]


def an_attack(*words: str) -> PerturbationRecovery:
    found = build.make(composed(*FROZEN, *SMALL, *words).attack).recovery
    assert isinstance(found, PerturbationRecovery)
    return found


def known(folder: Path) -> Known:
    return Known(build.make(composed(*FROZEN).thief), context(folder))


def cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one, other).mean())


@pytest.mark.parametrize("name", ["top_k_5", "noise_05", "offset"])
def test_a_defense_is_detected_and_recovered_embeddings_are_nearer(name: str, tmp_path: Path) -> None:
    """With the API's own random numbers, of a target that is no shadow."""
    recovery, attacker, clean = an_attack(TOP_5), known(tmp_path), world()[1]
    answers = Simulation(recovery.candidates[name], WIDTH, POOL, 77, "embeddings").answer(clean, IDS)
    copies = recovery.prepare(POOL, WIDTH, attacker)
    chances = recovery.detect(answers, world()[0], IDS, copies, 0)
    assert max(chances, key=chances.__getitem__) == name and sum(chances.values()) == pytest.approx(1)
    found = recovery.restore(answers, world()[0], IDS, copies[name], attacker)
    before, after = cosine(answers, clean), cosine(found, clean)
    print(f"{name}: cosine {before:.3f} -> {after:.3f}")
    torch.testing.assert_close(found.norm(dim=1), torch.ones(ROWS))
    assert after > before + 0.02


@pytest.mark.slow
def test_the_meta_classifier_is_right_on_shadows_that_it_did_not_learn_from() -> None:
    recovery, (public, _) = an_attack(), world()
    copies = {name: Simulation(defense, WIDTH, POOL, 5, "embeddings") for name, defense in recovery.candidates.items()}

    def sets(seeds: range) -> list[tuple[str, Tensor]]:
        shadows = [draw_shadow(public[:64], WIDTH, seed) for seed in seeds]
        return [(name, copy.answer(shadow, IDS[:64])) for shadow in shadows for name, copy in copies.items()]

    judge = MetaClassifier(sets(range(16)), 0)
    held_out = sets(range(100, 108))
    chances = [(name, judge.judge([answers])) for name, answers in held_out]
    right = [max(found, key=found.__getitem__) == name for name, found in chances]
    print(f"right on {sum(right)} of {len(right)}")
    assert np.mean(right) > 0.8


def test_answers_that_look_undefended_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recovery, attacker, clean = an_attack(), known(tmp_path), world()[1]
    monkeypatch.setattr(MetaClassifier, "judge", lambda self, sets: {"none": 0.6, "offset": 0.4})
    found = recovery.recover(clean, IDS, POOL, recovery.prepare(POOL, WIDTH, attacker), attacker)
    assert found is clean and [metric.name for metric in attacker.found] == ["attack/detected/none", "attack/turned"]


def test_a_generator_without_hidden_layers_is_least_squares(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(3)
    seen = torch.randn(400, SEEN, generator=random) * torch.arange(1, SEEN + 1) + 2
    due = seen @ torch.randn(SEEN, 1, generator=random) + 1 + 0.1 * torch.randn(400, 1, generator=random)
    recipe = Recipe(epochs=150, batch_size=400, optimizer="adam", lr=0.1)
    net = SupervisedModule(EntryGenerator(seen, []), F.mse_loss, recipe, 0)
    fitted = known(tmp_path).train(net, TensorLoader(seen, due, 400, 0))
    ones = np.column_stack([seen.numpy(), np.ones(400)])
    solved = np.linalg.lstsq(ones, due.numpy(), rcond=None)[0]
    np.testing.assert_allclose(fitted(seen).detach().numpy(), ones @ solved, atol=0.02 * float(due.std()))


def test_an_entry_is_described_as_the_docstring_says() -> None:
    random = np.random.default_rng(0)
    y = np.where(random.random((4, 5)) < 0.3, 0, random.normal(size=(4, 5))).astype(np.float32)
    m = random.normal(size=(4, 5)).astype(np.float32)
    found = describe_entries(torch.from_numpy(y), torch.from_numpy(m)).numpy()
    r = np.sqrt((y**2).mean())
    for i in range(4):
        for j in range(5):
            row, column = y[i], y[:, j]
            due = [y[i, j], m[i, j], min(abs(row[row != 0])), column.mean(), column.std(ddof=1)]
            due = [*(number / r for number in due), (column == 0).mean()]
            np.testing.assert_allclose(found[i, j], due, rtol=1e-4, atol=1e-6)


@given(st.integers(2, 9), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_shadows_and_descriptions_are_finite_and_know_no_order(rows: int, d: int, width: int, seed: int) -> None:
    features = torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, d))).float()
    shadow = draw_shadow(features, width, seed)
    assert shadow.shape == (rows, width) and bool(shadow.isfinite().all())
    assert torch.equal(shadow, draw_shadow(features, width, seed))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(width))
    described = describe_answers(shadow)
    assert np.isfinite(described).all()
    np.testing.assert_allclose(describe_answers(shadow[:, order]), described, rtol=1e-6, atol=1e-6)
    assert bool(describe_entries(shadow, shadow.flip(0)).isfinite().all())


@pytest.mark.parametrize("shown", [torch.zeros(4, 3), torch.ones(4, 3)])
def test_answers_that_say_nothing_are_no_reason_to_fail(shown: Tensor) -> None:
    assert np.isfinite(describe_answers(shown)).all()
    assert bool(describe_entries(shown, shown).isfinite().all()) and bool(to_unit(shown).isfinite().all())


def test_what_is_expected_of_an_answer_did_not_see_it() -> None:
    public, clean = world()
    expected = expect_crosswise(public, clean, 0)
    changed = clean.clone()
    changed[0] += 1000
    assert torch.equal(expect_crosswise(public, changed, 0)[0], expected[0])
    assert cosine(expected, clean) > 0.7


class Folding(RowDefense):
    """Answers with half as many numbers."""

    def width(self, victim: int) -> int:
        return victim // 2

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        return answers[:, : answers.shape[1] // 2]


@pytest.mark.parametrize("attack", ["besa", "besa_direct"])
def test_what_cannot_be_undone_is_refused_before_a_query_is_paid(attack: str, tmp_path: Path) -> None:
    words = (*FROZEN[:-1], "attack=besa") if attack == "besa" else (*embedding_api.QUICK, "attack=besa_direct")
    cfg, ctx = composed(*words), context(tmp_path)
    made = build.make(cfg.attack)
    made.recovery.candidates["folding"] = Folding()
    oracle = in_front_of(Victim("brightness", embedding_api.Brightness(), "embeddings"), embedding_api.POOL, ctx, 40)
    with pytest.raises(ConfigError, match=r"Folding turns 6 entries of an embedding into 3 numbers"):
        made.run(oracle, embedding_api.POOL, AttackContext(build.make(cfg.thief), ctx))
    assert oracle.used == 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("+attack.recovery.candidates.b={_target_: fmsteal.defenses.b4b.B4B}",), r"B4B cannot be simulated by an"),
        (
            ("+attack.recovery.candidates.p={_target_: fmsteal.defenses.truncation.TopK, k: 1}",),
            r"candidates\.p .*TopK\) is a defense of probabilities",
        ),
        (("attack.recovery.shadows=0",), r"attack\.recovery\.shadows must be at least 1, not 0"),
        (("attack.recovery.rows=7",), r"attack\.recovery\.rows must be at least 8"),
        (("attack.recovery.hidden=[3,0]",), r"attack\.recovery\.hidden must be at least 1"),
        (("+attack.recovery.restorer.label_smoothing=0.1",), r"label_smoothing has no effect on the generator"),
    ],
)
def test_bad_options_are_refused_when_the_attack_is_made(words: tuple[str, ...], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build.make(composed(*FROZEN, *words).attack)


def test_one_candidate_is_none() -> None:
    recipe = Recipe(epochs=1, batch_size=8, optimizer="adam", lr=0.1)
    with pytest.raises(ConfigError, match="must name two defenses or more"):
        PerturbationRecovery(candidates={"none": FeatureNoise(0.1)}, restorer=recipe)


def test_too_small_a_budget_is_refused() -> None:
    attack = build.make(composed(*FROZEN).attack)
    attack.check(Budget(8), POOL)
    with pytest.raises(ConfigError, match=r"answers to 8 images or more, and the budget is for 7"):
        attack.check(Budget(7), POOL)


class Bright(nn.Module):
    """A target of 24 numbers that depend on the image's colours."""

    width = 24

    def forward(self, images: Tensor) -> Tensor:
        x = images.float() / 255 if images.dtype == torch.uint8 else images
        return F.adaptive_avg_pool2d(x, (4, 2)).flatten(1)


def test_the_thief_learns_from_recovered_answers_and_no_query_is_added(tmp_path: Path) -> None:
    one = "{_target_: fmsteal.defenses.embeddings.FeatureTopK, k: 3}"
    cfg = composed(*FROZEN, *SMALL, f"+attack.recovery.candidates.three={one}")
    ctx, attack = context(tmp_path), build.make(cfg.attack)
    oracle = in_front_of(Victim("bright", Bright(), "embeddings"), embedding_api.POOL, ctx, 60, FeatureTopK(3))
    attacker = AttackContext(build.make(cfg.thief), ctx)
    thief = attack.run(oracle, embedding_api.POOL, attacker)
    assert oracle.used == 60 and thief(torch.zeros(2, 3, 16, 16)).shape == (2, 24)
    assert [metric.name for metric in attacker.found] == ["attack/detected/three", "attack/turned"]
    assert attacker.found[1].value < 0.999
