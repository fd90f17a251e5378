"""DFME: its estimated gradient against autograd's, its queries by hand, its stop at the budget."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.attacks import dfme
from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.dfme import (
    DFME,
    Game,
    Generator,
    disagreement,
    draw_directions,
    forward_differences,
    recover_logits,
    set_training_mode,
    squash,
)
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config import build
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget
from tests.support.colour_api import CLASSES, POOL, QUICK, Colours, killed_and_again, oracle_for, same_weights, steal
from tests.support.composing import composed
from tests.support.small_task import context

LITTLE = ("attack=dfme", "attack.size=16", "attack.width=4", "attack.noise=8")


def white_box(size: int) -> nn.Module:
    """A student that can be differentiated, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    return layers.double()


def objective_of(student: nn.Module, victim: nn.Module) -> object:
    """The generator's objective: what it shows, what is answered, what the student makes of it."""

    def objective(points: Tensor) -> Tensor:
        images = squash(points)
        return disagreement(student(images), recover_logits(victim(images).softmax(1)))

    return objective


def true_gradient(objective: object, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_(True)
    objective(x).sum().backward()  # type: ignore[operator]
    assert x.grad is not None
    return x.grad


def setting(n: int, size: int = 4) -> tuple[object, Tensor]:
    victim = Colours().double()
    x = torch.randn(n, 3, size, size, dtype=torch.double, generator=torch.Generator().manual_seed(n))
    return objective_of(white_box(size), victim), x


@pytest.mark.parametrize("n", [1, 5])
def test_along_a_basis_the_differences_are_the_gradient(n: int) -> None:
    objective, x = setting(n)
    dimension = x[0].numel()
    basis = torch.eye(dimension, dtype=torch.double).view(dimension, 1, *x.shape[1:]).expand(-1, n, -1, -1, -1)
    estimated, values = forward_differences(objective, x, basis, 1e-6)  # type: ignore[arg-type]
    torch.testing.assert_close(estimated, true_gradient(objective, x), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(values, objective(x))  # type: ignore[operator]


def test_along_random_directions_they_are_so_on_average() -> None:
    objective, x = setting(2)
    directions = draw_directions(20_000, x.shape, torch.Generator().manual_seed(0)).double()
    estimated, _ = forward_differences(objective, x, directions, 1e-6)  # type: ignore[arg-type]
    wanted = true_gradient(objective, x)
    error = (estimated - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert error.max() < 0.08  # sqrt(dimension / directions) = 0.05


def test_one_direction_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0], [0.0, -1.0]], dtype=torch.double)
    u = torch.tensor([[[0.6, 0.8], [1.0, 0.0]]], dtype=torch.double)
    calls: list[int] = []

    def squares(points: Tensor) -> Tensor:
        calls.append(len(points))
        return points.square().sum(1)

    estimated, values = forward_differences(squares, x, u, 0.5)
    # f(1.3, 2.4) = 7.45, f(1, 2) = 5: slope 4.9; f(.5, -1) = 1.25, f(0, -1) = 1: slope .5; twice that along u
    torch.testing.assert_close(estimated, torch.tensor([[5.88, 7.84], [1.0, 0.0]], dtype=torch.double))
    torch.testing.assert_close(values, torch.tensor([5.0, 1.0], dtype=torch.double))
    assert calls == [4]


def test_directions_are_of_length_one_for_each_image_and_all_different() -> None:
    u = draw_directions(3, torch.Size([4, 3, 5, 5]), torch.Generator().manual_seed(0))
    torch.testing.assert_close(u.flatten(2).norm(dim=2), torch.ones(3, 4))
    assert len({tuple(row) for row in u.flatten(0, 1).flatten(1).tolist()}) == 12


@given(st.integers(1, 7), st.integers(2, 6), st.integers(0, 99))
@settings(max_examples=30)
def test_logits_come_back_from_probabilities_up_to_their_mean(n: int, classes: int, seed: int) -> None:
    logits = 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        recover_logits(logits.softmax(1)), logits - logits.mean(1, keepdim=True), rtol=1e-3, atol=1e-3
    )
    assert recover_logits(torch.eye(classes)).isfinite().all()  # labels only


@pytest.mark.parametrize(("directions", "student_steps"), [(1, 5), (3, 2)])
def test_steps_and_queries_against_a_plain_loop(directions: int, student_steps: int) -> None:
    attack = DFME(batch=4, directions=directions, student_steps=student_steps)
    for queries in range(1, 120):
        left, plain = queries, []
        while True:
            kind = "generator" if len(plain) % (student_steps + 1) == 0 else "student"
            cost = 4 * (directions + 1) if kind == "generator" else 4
            if cost > left:
                break
            left -= cost
            plain.append((kind, queries - left))
        assert list(attack.steps(Budget(queries))) == plain
    assert sum(cost for _, cost in islice(DFME().costs, 6)) == 1792  # the paper's: 512 and five times 256


@pytest.mark.parametrize(
    ("queries", "used"),
    [(12, 12), (23, 20), (31, 28), (35, 28), (36, 36), (41, 40)],  # 8 for the generator, then five times 4, and again
)
def test_every_query_counts_and_it_stops_where_the_next_step_does_not_fit(
    queries: int, used: int, tmp_path: Path
) -> None:
    thief, oracle = steal(tmp_path, queries, *LITTLE, "attack.batch=4")
    assert oracle.used == len(Ledger(tmp_path / "ledger.bin", "job")) == used
    assert thief.head.out_features == CLASSES and not thief.training


def test_a_budget_without_a_step_for_the_student_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget is 767 queries.*take 768.*attack\.batch"):
        DFME().check(Budget(767), POOL)
    DFME().check(Budget(768), POOL)


def test_the_student_comes_nearer_and_the_curves_are_kept(tmp_path: Path) -> None:
    overrides = (*LITTLE, "attack.batch=16", "attack.student_lr=0.02", "attack.generator_lr=1e-5")
    thief, _ = steal(tmp_path, 16 * 7 * 20, *overrides)
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    losses = [float(value) for x_name, _, name, value in rows if name == "attack/loss" and x_name == "attack/queries"]
    assert {name for _, _, name, _ in rows} == {"attack/loss", "attack/disagreement"}
    assert len(losses) > 50 and np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])
    assert all(p.isfinite().all() for p in thief.parameters())


def test_the_generator_steps_up_the_disagreement(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    attack = DFME(size=8, batch=32, noise=8, width=8, directions=8, generator_lr=3e-3)
    game = Game(attack, oracle_for(ctx, 10**6), AttackContext(build.make(composed(*QUICK).thief), ctx))
    values = [game.generator_step() for _ in range(15)]
    assert np.mean(values[-3:]) > 1.05 * np.mean(values[:3])


def test_a_frozen_trunk_stays_as_it_is(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    thief = build.make(composed("thief=efficientnet_lite0", "thief.backbone.size=32").thief)
    start = thief.build(CLASSES).backbone.state_dict()
    oracle = oracle_for(ctx, 12)
    stolen = DFME(size=8, batch=4, noise=4, width=4).run(oracle, POOL, AttackContext(thief, ctx))
    assert all(torch.equal(v, start[k]) for k, v in stolen.backbone.state_dict().items())
    assert not torch.equal(stolen.head.weight, thief.build(CLASSES).head.weight)
    set_training_mode(stolen)
    assert stolen.head.training and not any(part.training for part in stolen.backbone.modules())


def test_a_killed_attack_asks_the_same_again(tmp_path: Path) -> None:
    whole, again = killed_and_again(tmp_path, 60, 20, *LITTLE, "attack.batch=4")
    assert same_weights(whole, again)


@pytest.mark.parametrize("directions", [1, 4])
def test_the_generators_gradient_is_the_published_codes(
    directions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a plain loop: the mean over directions of d (L(x + eps u) - L(x)) / eps u, over (classes x batch)."""
    ctx = context(tmp_path)
    attack = DFME(size=8, batch=4, noise=8, width=4, directions=directions, epsilon=0.01)
    game = Game(attack, oracle_for(ctx, 10**6), AttackContext(build.make(composed(*QUICK).thief), ctx))
    seen: dict[str, Tensor] = {}
    plain = nn.Module.register_full_backward_hook
    plain(game.generator, lambda module, given, out: seen.update(slope=out[0].clone()))
    drawn = dfme.draw_directions
    monkeypatch.setattr(dfme, "draw_directions", lambda *a: seen.setdefault("u", drawn(*a)))
    shown_to = game.generator.forward
    monkeypatch.setattr(game.generator, "forward", lambda z: seen.setdefault("x", shown_to(z)))
    game.generator_step()
    x, u, student = seen["x"].detach(), seen["u"], game.student.eval()

    def loss(points: Tensor) -> Tensor:
        images = (points.tanh() + 1) / 2
        p = Colours()(images).softmax(1).log()
        return -(student(images) - (p - p.mean(1, keepdim=True))).abs().mean(1)

    want = torch.zeros_like(x)
    with torch.no_grad():
        for j in range(directions):
            for i in range(4):
                rise = float(loss(x[i : i + 1] + 0.01 * u[j, i])[0] - loss(x[i : i + 1])[0])
                want[i] += 192 * rise / 0.01 * u[j, i] / directions / (CLASSES * 4)
    torch.testing.assert_close(seen["slope"], want, rtol=0.05, atol=2e-3 * float(want.abs().max()))


def test_images_of_the_published_range_are_cifars_standardised_pixels() -> None:
    attack = build.make(composed("attack=dfme_standardised").attack)
    raw = torch.randn(5, 3, 8, 8)
    images = squash(raw, attack.centre, attack.spread)
    mean, std = (torch.tensor(side).view(1, 3, 1, 1) for side in ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]))
    torch.testing.assert_close((images - mean) / std, raw.tanh())
    torch.testing.assert_close(squash(raw), (raw.tanh() + 1) / 2)
    for wrong in ({"centre": [0.5, 0.5, 0.2]}, {"spread": [0.5, 0.5]}, {"spread": [0.5, 0.5, 0.0]}):
        with pytest.raises(ConfigError, match=r"attack\.centre and attack\.spread are three numbers"):
            DFME(**wrong)  # type: ignore[arg-type]


def test_images_are_made_in_the_size_asked_for_and_between_0_and_1() -> None:
    images = squash(Generator(7, 4, 20)(torch.randn(3, 7)))
    assert images.shape == (3, 3, 20, 20) and 0 <= images.min() < 0.4 and 0.6 < images.max() <= 1


def test_a_student_that_diverges_is_named(tmp_path: Path) -> None:
    with pytest.raises(AttackError, match=r"student's loss became .*attack\.student_lr"):
        steal(tmp_path, 200, *LITTLE, "attack.batch=4", "attack.student_lr=1e30")


@pytest.mark.parametrize("option", ["size=30", "batch=1", "directions=0", "epsilon=0.0"])
def test_options_that_make_no_sense_are_refused(option: str) -> None:
    name, value = option.split("=")
    with pytest.raises(ConfigError, match=rf"attack\..*{name}"):
        DFME(**{name: type(getattr(DFME(), name))(float(value))})
