"""The line is that of scikit-learn, its scale that of a plain loop, and it finds a power law that is there."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logit
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from fmsteal.risk.check import validate
from fmsteal.risk.measured import MeasuredCell, read_cells
from fmsteal.risk.model import RiskPoint, choose_fitted, fit, from_evidence, is_exact, to_evidence


def describe(cells: list[MeasuredCell], informed: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rows, targets and victims, written anew."""
    accuracy = [np.log(logit(cell.accuracy) - logit(1 / cell.classes)) for cell in cells]
    columns = [[cell.trunk == "shared" for cell in cells], [np.log(cell.queries / (cell.width + 1)) for cell in cells]]
    due = [np.log(logit(cell.agreement) - logit(1 / cell.classes)) for cell in cells]
    return np.array([*columns, *[accuracy][:informed]], float).T, np.array(due), [cell.victim for cell in cells]


@pytest.mark.parametrize("informed", [True, False])
def test_line_and_scale_are_those_of_scikit_learn(informed: bool) -> None:
    cells = choose_fitted(read_cells())
    rows, due, victims = describe(cells, informed)
    model, line = fit(cells, informed), LinearRegression().fit(rows, due)
    assert model.coefficients == pytest.approx([line.intercept_, *line.coef_])
    off = due - cross_val_predict(LinearRegression(), rows, due, groups=victims, cv=LeaveOneGroupOut())
    squares = [np.mean(off[[one == victim for one in victims]] ** 2) for victim in set(victims)]
    assert model.scale == pytest.approx(np.mean(squares) ** 0.5) and model.groups == len(set(victims))
    assert model.half == pytest.approx(stats.t(len(squares) - 1).ppf(0.95) * model.scale)


@pytest.mark.parametrize("informed", [True, False])
def test_cells_are_predicted_by_other_victims_alone(informed: bool) -> None:
    cells = choose_fitted(read_cells())
    rows, due, victims = describe(cells, informed)
    left = cross_val_predict(LinearRegression(), rows, due, groups=victims, cv=LeaveOneGroupOut())
    shares = [1 / (1 + 9 * math.exp(-math.exp(value))) for value in left]
    found = validate("victim", informed)
    assert [held.expected.agreement for held in found.cells] == pytest.approx(shares)
    measured = [cell.agreement for cell in cells]
    assert found.rank == pytest.approx(stats.spearmanr(shares, measured).statistic)
    assert found.error == pytest.approx(np.abs(np.subtract(shares, measured)).mean())


def test_a_victim_left_out_does_not_decide_its_own_interval() -> None:
    cells = choose_fitted(read_cells())
    name = cells[0].victim
    changed = [replace(cell, agreement=0.3) if cell.victim == name else cell for cell in cells]
    before, after = (validate("victim", True, some) for some in (cells, changed))
    mine = [(a.expected, b.expected) for a, b in zip(before.cells, after.cells, strict=True) if a.cell.victim == name]
    assert all(a == b for a, b in mine) and before.cells[-1].expected != after.cells[-1].expected


@given(st.floats(0.02, 0.999), st.integers(2, 1000))
def test_evidence_is_log_odds_above_chance(share: float, classes: int) -> None:
    if share > 1 / classes + 1e-6:
        assert to_evidence(share, classes) == pytest.approx(logit(share) - logit(1 / classes), abs=1e-9)
        assert from_evidence(to_evidence(share, classes), classes) == pytest.approx(share)
    elif share < 1 / classes:
        with pytest.raises(ValueError, match=f"chance of one class among {classes}"):
            to_evidence(share, classes)


def test_a_power_law_is_found_and_its_intervals_cover() -> None:
    """Of made-up victims: the coefficients within the noise, and 90 % of new victims inside."""
    dice = random.Random(1)
    some = choose_fitted(read_cells())[0]

    def make(count: int, start: int) -> list[MeasuredCell]:
        found = []
        for number in range(start, start + count):
            trunk, accuracy, own = dice.choice(["shared", "other"]), dice.uniform(0.5, 0.97), dice.gauss(0, 0.1)
            for queries in (100, 400, 1100):
                shared = 0.5 * (trunk == "shared")
                z = 0.1 + shared + 0.15 * math.log(queries / 1281) + 0.8 * math.log(to_evidence(accuracy, 10)) + own
                cell = replace(some, victim=str(number), trunk=trunk, accuracy=accuracy, queries=queries, width=1280)
                found.append(replace(cell, agreement=from_evidence(math.exp(z), 10)))
        return found

    model, new = fit(make(120, 0)), make(400, 1000)
    assert model.coefficients == pytest.approx([0.1, 0.5, 0.15, 0.8], abs=0.08)
    expected = [model.predict(RiskPoint(cell.trunk, cell.ratio, 10, cell.accuracy)) for cell in new]
    inside = [one.low <= cell.agreement <= one.high for one, cell in zip(expected, new, strict=True)]
    assert 0.86 < np.mean(inside) < 0.95


def test_solved_heads_are_not_fitted() -> None:
    cells = read_cells()
    exact = [cell for cell in cells if is_exact(cell)]
    assert {cell.queries for cell in exact} == {1300, 5000} and all(cell.agreement == 1 for cell in exact)
    assert not set(exact) & set(choose_fitted(cells))
    assert all(cell.use == "fit" and cell.answers == "soft" for cell in choose_fitted(cells))
