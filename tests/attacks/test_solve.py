"""Equation solving: against SciPy and scikit-learn, on victims that are heads on public trunks made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.equations import EquationHead, Equations, System
from fmsteal.attacks.selection import random
from fmsteal.attacks.solve import is_better
from fmsteal.attacks.solved_head import find_limit, solve_head, split_rows
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.defenses.base import NoDefense
from fmsteal.defenses.truncation import HardLabel, Rounding, TopK, top_k
from fmsteal.job.parts import Parts
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.classifier import Classifier
from fmsteal.training.inference import compute_outputs
from fmsteal.victims.base import Victim
from tests.attacks.linear_api import CLASSES, LAST, POOL, TRUNK, a_victim, found, weights
from tests.support.an_api import in_front_of
from tests.support.composing import composed
from tests.support.small_task import context


def draw(
    seed: int, n: int, width: int, classes: int = CLASSES, size: float = 1.0
) -> tuple[Tensor, EquationHead, Tensor]:
    """Features of very different sizes, a head, and the float32 softmax of what it says of them."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, width, generator=generator) * torch.logspace(0, -2, width) + 0.3
    weight = torch.randn(classes, width, generator=generator)
    bias = torch.randn(classes, generator=generator)
    return features, EquationHead(weight.double(), bias.double()), (size * (features @ weight.T + bias)).softmax(1)


def without_mean(rows: Tensor) -> Tensor:
    return rows - rows.mean(1, keepdim=True)


@given(st.integers(2, 60), st.integers(1, 40), st.sampled_from([1e-8, 1e-3, 0.1]), st.integers(0, 99))
@settings(max_examples=40)
def test_complete_answers_give_the_ridge_solution(n: int, width: int, penalty: float, seed: int) -> None:
    """Of every class by itself, with scikit-learn; in the dual (n < D) and in the primal."""
    features, _, answers = draw(seed, n, width)
    rows = features.double()
    alpha = penalty * np.linalg.svd((rows - rows.mean(0)).numpy(), compute_uv=False)[0] ** 2
    due = Ridge(alpha, solver="svd").fit(rows.numpy(), without_mean(answers.double().log()).numpy())
    found = System(features).solve(Equations.of(answers), penalty)
    others = draw(seed + 1000, 20, width)[0]
    scale = max(1.0, float(np.abs(due.predict(others.double().numpy())).max()))
    np.testing.assert_allclose(found(others), due.predict(others.double().numpy()), atol=2e-5 * scale)


def test_answers_with_entries_left_out_give_what_a_plain_minimiser_finds() -> None:
    """The objective written out row by row, minimised by L-BFGS."""
    features, _, answers = draw(0, 40, 6)
    answers = torch.where(torch.rand(answers.shape, generator=torch.Generator().manual_seed(1)) < 0.4, 0.0, answers)
    rows, logs = features.double().numpy(), np.log(np.where(answers > 0, answers, 1.0).astype(float))
    known = [np.flatnonzero(row) for row in answers.numpy()]
    penalty = 1e-2
    alpha = penalty * np.linalg.svd(rows - rows.mean(0), compute_uv=False)[0] ** 2

    def objective(flat: np.ndarray) -> float:
        weight, bias = flat[:-CLASSES].reshape(CLASSES, 6), flat[-CLASSES:]
        total = alpha * (weight**2).sum()
        for phi, log, there in zip(rows, logs, known, strict=True):
            if len(there) > 1:
                off = log[there] - (weight @ phi + bias)[there]
                total += ((off - off.mean()) ** 2).sum()
        return float(total)

    start = np.zeros(CLASSES * 7)
    due = minimize(objective, start, method="L-BFGS-B", options={"maxiter": 2000, "maxfun": 10**6, "ftol": 1e-15})
    found = System(features).solve(Equations.of(answers), penalty)
    ours = objective(np.concatenate([found.weight.numpy().ravel(), found.bias.numpy()]))
    assert ours <= due.fun * (1 + 1e-6)
    np.testing.assert_allclose(found.weight, due.x[:-CLASSES].reshape(CLASSES, 6), atol=2e-3)


@pytest.mark.parametrize(("size", "n"), [(1.0, 80), (8.0, 150), (20.0, 400), (50.0, 1500)])
def test_more_equations_than_unknowns_give_the_victims_own_head(size: float, n: int) -> None:
    """Also where most entries of a victim with large logits are 0, or 1."""
    features, head, answers = draw(0, n, 60, size=size)
    assert size < 50 or (answers < 1e-38).double().mean() > 0.6
    solved = solve_head(features, answers, seed=0)
    assert solved.exact
    others = draw(1, 300, 60)[0]
    due = without_mean(size * head(others))
    np.testing.assert_allclose(without_mean(solved.head(others)), due, atol=2e-3 * size)
    assert (solved.head(others).argmax(1) == due.argmax(1)).all()


def test_more_equations_than_unknowns_can_leave_a_class_open() -> None:
    """All of them hold, but they foretell no others: that is no victim's head."""
    features, _, answers = draw(0, 600, 60, size=50.0)
    equations = Equations.of(answers)
    assert equations.count > 2 * 61 * (CLASSES - 1)
    least = System(features).solve(equations, 1e-12)
    assert equations.residuals(least(features)).abs().max() < 1e-3
    assert not solve_head(features, answers, seed=0).exact


def test_a_clamp_would_lose_the_head() -> None:
    """Entries of 1e-12 in the place of those that are too small to know."""
    features, head, answers = draw(0, 1500, 60, size=50.0)
    others = draw(1, 300, 60)[0]
    due = head(others).argmax(1)
    clamped = solve_head(features, answers.clamp(min=1e-12), seed=0)
    assert not clamped.exact and (clamped.head(others).argmax(1) == due).double().mean() < 0.97


def test_features_of_another_trunk_leave_equations_that_do_not_hold() -> None:
    _, _, answers = draw(0, 200, 60)
    other = draw(5, 200, 60)[0]
    solved = solve_head(other, answers, seed=0)
    assert not solved.exact and solved.residual > 0.9


def test_the_held_out_fifth_decides_and_all_rows_are_fitted() -> None:
    features, _, answers = draw(0, 40, 60)
    noisy = (answers.log() + torch.randn(answers.shape, generator=torch.Generator().manual_seed(2))).softmax(1)
    solved, (train, held) = solve_head(features, noisy, seed=3), split_rows(40, 3)
    assert len(held) == 8 and sorted([*train, *held]) == list(range(40))
    found = {}
    for penalty in (1e-12, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1):
        part = System(features[train]).solve(Equations.of(noisy[train]), penalty)
        found[penalty] = float((without_mean(noisy[held].double().log()) - without_mean(part(features[held]))).norm())
    assert solved.penalty == min(found, key=lambda p: found[p]) > 1e-8
    due = System(features).solve(Equations.of(noisy), solved.penalty)
    torch.testing.assert_close(solved.head.weight, due.weight)


@given(st.integers(0, 999), st.integers(2, 8), st.integers(1, 5))
@settings(max_examples=40)
def test_answers_that_are_no_equations_are_noticed(seed: int, classes: int, decimals: int) -> None:
    answers = draw(seed, 30, 4, classes)[2]
    assert find_limit(answers) is None
    assert find_limit(torch.round(answers, decimals=decimals)) in [
        *(f"rounded to {d} decimals" for d in range(decimals + 1)),
        "labels",
    ]
    assert find_limit(top_k(answers, 1)) == find_limit(top_k(answers, 1, renormalise=True)) == "labels"
    if classes > 2:
        for renormalise in (False, True):
            assert find_limit(top_k(answers, classes - 1, renormalise)) == "truncated"
        assert str(find_limit(answers * 0.9)).startswith("no probabilities")


def test_a_saturated_softmax_is_not_taken_for_a_truncated_one() -> None:
    answers = draw(0, 100, 20, size=60.0)[2]
    assert (answers == 0).any() and find_limit(answers) is None


def test_one_is_better_than_another_only_beyond_chance() -> None:
    hits = torch.zeros(40, dtype=torch.bool)
    one, two = hits.clone(), hits.clone()
    one[:10] = True
    assert is_better(one, hits) and not is_better(hits, one) and not is_better(one, one)
    two[5:14] = True  # 5 against 4
    assert not is_better(one, two)


def stolen(
    folder: Path, attack: str, queries: int, *words: str, defense: Any = None, trunk: int = 1, size: float = 1.0
) -> tuple[Any, AttackContext, Oracle, Victim]:
    """The thief of an attack on a head on trunk 1, the thief's own trunk being ``trunk``."""
    folder.mkdir(exist_ok=True)
    spec = BackboneSpec("test_resnet", str(weights(folder, 1)), 16)
    victim, ctx = a_victim(spec, size), context(folder)
    given = (*TRUNK, f"thief.backbone.weights={weights(folder, trunk)}", "thief.recipe.epochs=3", *words)
    cfg = composed(*given, f"attack={attack}")
    oracle = in_front_of(victim, POOL, ctx, queries, defense or NoDefense())
    handed = AttackContext(build.make(cfg.thief), ctx)
    return build.make(cfg.attack).run(oracle, POOL, handed), handed, oracle, victim


def agreement(thief: nn.Module, victim: Victim, ctx: AttackContext) -> float:
    job = ctx._job()
    both = [compute_outputs(model, POOL, LAST, job).argmax(1) for model in (thief, victim.model)]
    return float((both[0] == both[1]).double().mean())


@pytest.mark.parametrize("size", [1.0, 12.0])
def test_the_attack_takes_the_whole_victim(tmp_path: Path, size: float) -> None:
    thief, ctx, oracle, victim = stolen(tmp_path, "solve", 400, size=size)
    assert oracle.used == 400 and found(ctx)["attack/solved"] == 1 and found(ctx)["attack/residual"] < 1e-3
    assert isinstance(thief, Classifier) and thief.frozen is not None
    assert agreement(thief, victim, ctx) == 1


@pytest.mark.parametrize("defense", [HardLabel(), Rounding(2), TopK(2), TopK(3, renormalise=True)])
def test_what_is_no_equation_is_fitted_as_ever(tmp_path: Path, defense: Any) -> None:
    """Top-2 leaves one equation an answer, fewer than unknowns; the thief is the one that Knockoff trains."""
    thief, ctx, _, _ = stolen(tmp_path / "a", "solve", 60, defense=defense)
    plain, _, _, _ = stolen(tmp_path / "b", "knockoff", 60, defense=defense)
    assert found(ctx)["attack/solved"] == 0
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(thief.state_dict()[name], value, rtol=0, atol=0)


def test_truncated_answers_that_determine_the_head_are_solved(tmp_path: Path) -> None:
    thief, ctx, _, victim = stolen(tmp_path, "solve", 400, defense=TopK(4))
    assert found(ctx)["attack/solved"] == 1 and agreement(thief, victim, ctx) == 1


def test_another_trunk_than_the_victims_is_fitted(tmp_path: Path) -> None:
    """Once solving fits its noise: the answers are as many as the features."""
    _, ctx, _, _ = stolen(tmp_path, "solve", 90, "thief.recipe.lr=0.01", "thief.recipe.epochs=30", trunk=2, size=3.0)
    assert found(ctx)["attack/residual"] > 0.3


@pytest.mark.parametrize("queries", [1, 4, 5])
def test_a_handful_of_answers(tmp_path: Path, queries: int) -> None:
    thief, ctx, oracle, _ = stolen(tmp_path, "solve", queries)
    assert oracle.used == queries and "attack/solved" in found(ctx)
    assert all(p.isfinite().all() for p in thief.parameters())


def test_a_trained_trunk_gets_a_solved_head_where_that_is_better(tmp_path: Path) -> None:
    """The head of an undertrained thief is solved for on its features; the trunk is the trained one in any case."""
    words = ("thief.adaptation=full", "thief.recipe.lr=1e-6", "thief.recipe.batch_size=32")
    thief, ctx, oracle, victim = stolen(tmp_path / "a", "solve_hybrid", 200, *words)
    plain, _, _, _ = stolen(tmp_path / "b", "knockoff", 200, *words)
    assert oracle.used == 200 and found(ctx)["attack/solved"] == 1
    for name, value in plain.backbone.state_dict().items():
        torch.testing.assert_close(thief.backbone.state_dict()[name], value, rtol=0, atol=0)
    asked = random(len(POOL), 200, 0)
    due = without_mean(compute_outputs(victim.model, POOL, asked, ctx._job()).double())
    off = [(without_mean(compute_outputs(t, POOL, asked, ctx._job()).double()) - due).norm() for t in (thief, plain)]
    assert off[0] < 0.9 * off[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attack=solve", "thief.adaptation=full"), "thief.adaptation=full trains the trunk.*thief.adaptation=probe"),
        (("attack=solve", "thief=resnet10t"), "thief.adaptation=scratch"),
        (("attack=trunk_inference", "thief=resnet10t"), "thief.adaptation=scratch"),
        (("attack=solve_hybrid",), "thief.adaptation=probe keeps it frozen.*attack=solve"),
        (("attack=solve", "task=embed"), "made for probabilities"),
        (
            ("attack=trunk_inference", "attack.candidates.efficientnet_lite0.weights=/none.pth"),
            "efficientnet_lite0 cannot",
        ),
        (("attack=trunk_inference", "attack.gain=0.5"), "attack.gain"),
    ],
)
def test_what_cannot_work_is_refused_when_the_job_is_composed(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Parts.of(composed(*words))
