"""How ActiveThief's strategies choose, beside plain loops: k-center, DeepFool, entropy, margin."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fmsteal.attacks import strategies
from fmsteal.attacks.deepfool import distances, distances_of_code
from fmsteal.attacks.kcenter import pick_farthest_first
from fmsteal.attacks.strategies import Round, entropy, margin, pick_lowest
from fmsteal.base.errors import ConfigError


def greedy(rows: list[list[float]], centres: list[list[float]], count: int) -> list[int]:
    """k-center as the textbook has it: every distance again at each pick."""
    picks: list[int] = []
    for _ in range(count):
        best, farthest = -1, -1.0
        for i, row in enumerate(rows):
            if i in picks:
                continue
            covered = [*centres, *(rows[p] for p in picks)]
            nearest = min((sum((a - b) ** 2 for a, b in zip(row, c, strict=True)) for c in covered), default=math.inf)
            if nearest > farthest:  # of equal ones the first stays
                best, farthest = i, nearest
        picks.append(best)
    return picks


@given(st.integers(1, 25), st.integers(0, 6), st.integers(1, 4), st.integers(0, 9999), st.booleans(), st.data())
@settings(max_examples=150)
def test_kcenter_picks_what_a_plain_loop_picks(
    n: int, m: int, width: int, seed: int, grid: bool, data: st.DataObject
) -> None:
    count = data.draw(st.integers(0, n))
    random = np.random.default_rng(seed)
    points = random.integers(0, 4, (n + m, width)) / 4 if grid else random.random((n + m, width))  # a grid has ties
    rows, centres = points[:n], points[n:]
    picks = pick_farthest_first(torch.from_numpy(rows), torch.from_numpy(centres), count)
    assert picks.tolist() == greedy(rows.tolist(), centres.tolist(), count)


def test_kcenter_tells_sure_rows_apart() -> None:
    sure = torch.tensor([[1.0, 0.0], [1 - 1e-5, 1e-5], [1 - 3e-5, 3e-5], [1 - 2e-5, 2e-5]])
    picks = pick_farthest_first(sure, sure[:1], 4)
    assert picks.tolist() == greedy(sure.double().tolist(), sure[:1].double().tolist(), 4) == [2, 1, 3, 0]


def test_many_centres_are_gone_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, centres = torch.rand(50, 3), torch.rand(40, 3)
    whole = pick_farthest_first(rows, centres, 10)
    monkeypatch.setattr("fmsteal.attacks.kcenter.HELD", 150)
    np.testing.assert_array_equal(pick_farthest_first(rows, centres, 10), whole)
    with pytest.raises(ValueError, match="51 rows cannot be picked from 50"):
        pick_farthest_first(rows, centres, 51)


class Small(nn.Module):
    """A small smooth network whose boundaries are curved."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Softplus(), nn.Flatten(), nn.Linear(96, classes)
            )
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return 4 * self.layers(images)


def textbook(model: nn.Module, image: Tensor, steps: int, classes: int, overshoot: float) -> float:
    """DeepFool on one image, class by class (algorithm 2 of the paper)."""
    order = model(image[None])[0].argsort(descending=True)[:classes].tolist()
    x, total = image.clone(), torch.zeros_like(image)
    for _ in range(steps):
        x = (image + (1 + overshoot) * total).requires_grad_()
        f = model(x[None])[0]
        if int(f.argmax()) != order[0]:
            break
        best, step = math.inf, torch.zeros_like(image)
        (own,) = torch.autograd.grad(f[order[0]], x, retain_graph=True)
        for k in order[1:]:
            (other,) = torch.autograd.grad(f[k], x, retain_graph=True)
            w, gap = other - own, float((f[k] - f[order[0]]).detach().abs())
            length = float(w.norm())
            if gap / length < best:
                best, step = gap / length, gap / length**2 * w
        total = total + step.detach()
    return float(((1 + overshoot) * total).norm())


@pytest.mark.parametrize(("classes", "looked_at"), [(2, None), (5, None), (5, 3)])
@pytest.mark.parametrize("n", [1, 7, 40])
def test_deepfool_finds_what_the_textbook_finds_image_by_image(n: int, classes: int, looked_at: int | None) -> None:
    model, images = Small(classes, seed=n), torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(n))
    found = distances(model, images, steps=20, classes=looked_at)
    wanted = torch.tensor([textbook(model, image, 20, looked_at or classes, 0.02) for image in images])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert found.argsort().tolist() == wanted.argsort().tolist()
    assert all(p.grad is None for p in model.parameters()) and not found.requires_grad


def as_coded(model: nn.Module, image: Tensor, steps: int, looked_at: int) -> float:
    """ActiveThief's form on one image: on the softmax, the gap not divided by the slope twice, every step taken."""
    order = model(image[None])[0].argsort(descending=True)[:looked_at].tolist()
    total = torch.zeros_like(image)
    for _ in range(steps):
        x = (image + 1.01 * total).clamp(0, 1).requires_grad_()
        p = model(x[None])[0].softmax(0)
        slopes = [torch.autograd.grad(p[k], x, retain_graph=True)[0] for k in order]
        ways = [slope - slopes[0] for slope in slopes[1:]]
        scores = [float((p[k] - p[order[0]]).abs() / w.norm()) for k, w in zip(order[1:], ways, strict=True)]
        best = min(range(len(scores)), key=lambda j: scores[j])
        total = total + scores[best] * ways[best]
    return float(((image + 1.01 * total).clamp(0, 1) - image).square().sum())


@pytest.mark.parametrize("looked_at", [None, 3])
@pytest.mark.parametrize("n", [1, 9])
def test_the_form_of_activethiefs_code_image_by_image(n: int, looked_at: int | None) -> None:
    model, images = Small(5, seed=n), torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(n))
    found = distances_of_code(model, images, steps=20, classes=looked_at)
    wanted = torch.tensor([as_coded(model, image, 20, looked_at or 5) for image in images])
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    assert not found.requires_grad and all(p.grad is None for p in model.parameters())
    assert distances_of_code(nn.Sequential(nn.Flatten(), nn.Linear(48, 1)), images).isinf().all()


def test_deepfool_stops_where_its_steps_are_used_up() -> None:
    model, images = Small(4, seed=3), torch.rand(20, 3, 4, 4)
    for steps in (1, 2):
        wanted = torch.tensor([textbook(model, image, steps, 4, 0.02) for image in images])
        torch.testing.assert_close(distances(model, images, steps=steps), wanted, rtol=1e-4, atol=1e-4)


def test_deepfool_reaches_the_plane_between_two_linear_classes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    images = torch.rand(9, 3, 4, 4)
    layer: Any = model[1]
    w, b = (layer.weight[0] - layer.weight[1]).detach(), float(layer.bias[0].detach() - layer.bias[1].detach())
    exact = (images.flatten(1) @ w + b).abs() / w.norm()
    torch.testing.assert_close(distances(model, images, overshoot=0.02), 1.02 * exact, rtol=1e-4, atol=1e-5)


def test_what_no_perturbation_changes_is_infinitely_far() -> None:
    class Bright(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            level = images.mean(dim=(1, 2, 3)).clamp(min=0.5)  # dark images give a constant
            return torch.stack([1 - level, level - 0.2], dim=1)

    images = torch.tensor([0.1, 0.7, 0.2]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    found = distances(Bright(), images)
    assert found.isinf().tolist() == [True, False, True]
    assert distances(nn.Sequential(nn.Flatten(), nn.Linear(48, 1)), images).isinf().all()


@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 9999))
@settings(max_examples=60)
def test_entropy_and_margin_against_plain_loops(n: int, classes: int, seed: int) -> None:
    rows = torch.softmax(20 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed)), dim=1)
    rows[0] = torch.eye(classes)[0]
    for row, h, gap in zip(rows.tolist(), entropy(rows), margin(rows), strict=True):
        assert float(h) == pytest.approx(-sum(p * math.log(p) for p in row if p > 0), abs=1e-5)
        first, second = sorted(row, reverse=True)[:2]
        assert float(gap) == pytest.approx(first - second, abs=1e-6)


class Known:
    """Stands for an attack's context whose thief is known: a number and a softmax row for each image."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.measured = rows, list[int]()

    def logits(self, thief: Any, pool: Any, ids: Any) -> Tensor:
        return self.rows[ids].log()

    def per_image(self, thief: Any, pool: Any, ids: Any, measure: Any) -> Tensor:
        self.measured += ids.tolist()
        assert measure.keywords == {"steps": 7, "classes": 4}
        return margin(self.rows[ids])


def turn(rows: Tensor, asked: int) -> tuple[Round, Any]:
    order, known = np.random.default_rng(5).permutation(len(rows)), Known(rows)
    ctx: Any = known
    pool: Any = None
    return Round(pool, order[:asked], order[asked:], nn.Identity, ctx, np.random.default_rng(0)), known


ROWS = torch.softmax(3 * torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), dim=1)


def test_uncertain_images_come_first() -> None:
    now, _ = turn(ROWS, 10)
    by = {int(i): (-float(entropy(ROWS[i : i + 1])), float(margin(ROWS[i : i + 1]))) for i in now.unasked}
    assert strategies.by_entropy(now, 6).tolist() == sorted(by, key=lambda i: by[i][0])[:6]
    assert strategies.by_margin(now, 6).tolist() == sorted(by, key=lambda i: by[i][1])[:6]
    assert pick_lowest(np.array([4, 9, 2]), torch.tensor([1.0, 0.0, 1.0]), 2).tolist() == [9, 4]


def test_kcenter_starts_from_what_was_asked() -> None:
    now, _ = turn(ROWS, 10)
    wanted = greedy(ROWS[now.unasked].double().tolist(), ROWS[now.asked].double().tolist(), 8)
    assert strategies.by_kcenter(now, 8).tolist() == now.unasked[wanted].tolist()


@pytest.mark.parametrize(("candidates", "scored"), [(None, 30), (100, 30), (12, 12), (3, 6)])
def test_deepfool_is_run_on_some_of_the_pool(candidates: int | None, scored: int) -> None:
    now, known = turn(ROWS, 10)
    chosen = strategies.by_dfal(now, 6, candidates, steps=7, classes=4)
    assert len(known.measured) == len(set(known.measured)) == scored and set(known.measured) <= set(now.unasked)
    assert chosen.tolist() == sorted(known.measured, key=lambda i: float(margin(ROWS[i : i + 1])))[:6]


@pytest.mark.parametrize(("factor", "candidates", "scored"), [(1, None, 30), (3, None, 30), (50, None, 30), (3, 9, 9)])
def test_kcenter_on_the_shortlist_of_dfal(factor: int, candidates: int | None, scored: int) -> None:
    now, known = turn(ROWS, 10)
    chosen = strategies.by_dfal_kcenter(now, 6, factor, candidates, steps=7, classes=4)
    assert len(known.measured) == scored
    ranked = sorted(known.measured, key=lambda i: float(margin(ROWS[i : i + 1])))
    shortlist = np.array(ranked[: 6 * factor])
    wanted = greedy(ROWS[shortlist].double().tolist(), ROWS[now.asked].double().tolist(), 6)
    assert chosen.tolist() == shortlist[wanted].tolist()


def test_the_codes_shortlist_is_as_long_as_the_budget() -> None:
    now, known = turn(ROWS, 10)
    now = replace(now, budget=17)
    chosen = strategies.by_dfal_kcenter(now, 6, None, None, steps=7, classes=4)
    shortlist = np.array(sorted(known.measured, key=lambda i: float(margin(ROWS[i : i + 1])))[:17])
    wanted = greedy(ROWS[shortlist].double().tolist(), ROWS[now.asked].double().tolist(), 6)
    assert chosen.tolist() == shortlist[wanted].tolist() and len(known.measured) == 30


def test_a_strategys_forms_are_two() -> None:
    now, _ = turn(ROWS, 10)
    with pytest.raises(ConfigError, match=r"attack\.strategy\.form must be one of paper, code, not codes"):
        strategies.by_dfal(now, 6, form="codes")  # type: ignore[arg-type]
