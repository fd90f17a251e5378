from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import FmstealError
from fmsteal.report.commands.report import main
from fmsteal.report.read.components import Factors, estimate_components
from fmsteal.report.read.study import Study
from fmsteal.report.show.variance import tabulate_variance
from tests.support.job_folders import done


def subsets(k: int) -> Iterator[Factors]:
    for size in range(k + 1):
        yield from combinations(range(k), size)


def by_symmetric_sums(values: np.ndarray) -> dict[Factors, float]:
    """The same from products of pairs of figures, without any mean square (Koch 1967).

    Of two that have exactly the levels of A in common, the product is on average mu^2 + sum of s_B over B within A.
    """
    average = {}
    for shared in subsets(values.ndim):
        products = [
            values[a] * values[b]
            for a, b in product(product(*map(range, values.shape)), repeat=2)
            if tuple(x for x in range(values.ndim) if a[x] == b[x]) == shared
        ]
        average[shared] = float(np.mean(products))
    return {
        a: sum((-1) ** (len(a) - len(b)) * average[b] for b in subsets(values.ndim) if set(b) <= set(a))
        for a in subsets(values.ndim)
        if a
    }


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (4, 3, 2), (2, 3, 2, 2)])
def test_components_are_those_of_symmetric_sums(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(sum(shape)).normal(0.8, 0.1, shape)
    values += np.random.default_rng(1).normal(0, 0.2, (shape[0], *[1] * (len(shape) - 1)))
    found, want = estimate_components(values), by_symmetric_sums(values)
    assert found.keys() == want.keys() and list(found) == sorted(found, key=lambda a: (len(a), a))
    assert all(found[a] == pytest.approx(want[a], abs=1e-12) for a in want)


def test_components_are_unbiased() -> None:
    random, truth = np.random.default_rng(0), {(0,): 4.0, (1,): 1.0, (2,): 0.0, (0, 1): 0.5, (0, 1, 2): 0.25}
    shape, found = (4, 3, 3), []
    for _ in range(1500):
        values = np.zeros(shape)
        for axes, variance in truth.items():
            size = [n if axis in axes else 1 for axis, n in enumerate(shape)]
            values = values + random.normal(0, variance**0.5, size)
        found.append(estimate_components(values))
    for axes in found[0]:
        estimates = np.array([each[axes] for each in found])
        assert abs(estimates.mean() - truth.get(axes, 0.0)) < 4 * estimates.std() / len(found) ** 0.5


@pytest.mark.parametrize("values", [np.ones((3, 1)), np.array([[1.0, np.nan], [1.0, 1.0]]), np.array(1.0)])
def test_components_need_a_whole_grid(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two of each factor"):
        estimate_components(values)


def crossed(folder: Path, attack: str = "a", skip: tuple[int, ...] | None = None) -> None:
    """Victims, pools and thieves, three of each; the victim makes the most of the difference, the pool none."""
    for victim, pool, thief in product(range(3), repeat=3):
        if (victim, pool, thief) == skip:
            continue
        seeds = {"victim.seed": victim, "query.seed": pool, "thief.seed": -1}
        kept = {name: seed for name, seed in seeds.items() if seed}  # a default is no setting
        share = 0.5 + 0.1 * victim + 0.02 * thief + 0.001 * (-1) ** (victim + thief)
        done(folder, f"{attack}-{victim}-{pool}-{thief}", share, kept, seed=thief, attack=attack)


def test_a_crossed_sweep_tells_victim_pool_and_thief_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crossed(tmp_path)
    table = tabulate_variance(Study.of([tmp_path]), "test/agreement")
    said = {row[-4]: row[-3:] for row in table.rows}
    assert list(said) == [
        "victim", "pool", "thief and questions", "victim x pool", "victim x thief and questions",
        "pool x thief and questions", "rest (victim x pool x thief and questions)",
    ]  # fmt: skip
    assert float(said["victim"][0]) == pytest.approx(0.1, abs=0.002) and said["victim"][2] == "3"
    assert said["pool"][:2] == ["0.0000", "0%"] and float(said["thief and questions"][0]) == pytest.approx(
        0.02, abs=0.002
    )
    main(["report", str(tmp_path), "--variance", "--formats", "md,tex"])
    assert "where the variance of agreement comes from" in capsys.readouterr().out
    assert "| victim | 0.1" in (tmp_path / "report" / "variance.md").read_text()
    assert r"\toprule" in (tmp_path / "report" / "variance.tex").read_text()


def test_a_grid_that_is_too_small_is_refused_by_name(tmp_path: Path) -> None:
    for seed in range(3):
        done(tmp_path, f"s{seed}", 0.5 + seed / 10, {"victim.seed": -1, "query.seed": -1}, seed=seed)
    with pytest.raises(SystemExit, match=r"no grid is large enough\. of what seeds decide .*questions alone varies"):
        main(["report", str(tmp_path), "--variance", "--formats", "md"])
    assert not (tmp_path / "report").exists()
    done(tmp_path / "one", "j", 0.5)
    with pytest.raises(FmstealError, match=r"nothing varies; fmsteal -m data\.seed=0,1,2"):
        tabulate_variance(Study.of([tmp_path / "one"]), "test/agreement")


def test_a_torn_grid_is_left_out_by_name_beside_a_whole_one(tmp_path: Path) -> None:
    crossed(tmp_path, "a", skip=(1, 2, 0))
    with pytest.raises(FmstealError, match=r"1 of 3 x 3 x 3 combinations .*victim 1, pool 2, thief and questions 0"):
        tabulate_variance(Study.of([tmp_path]), "test/agreement")
    crossed(tmp_path, "b")
    table = tabulate_variance(Study.of([tmp_path]), "test/agreement")
    assert {row[0] for row in table.rows} == {"b"} and "Left out: attack a: 1 of 3 x 3 x 3" in table.notes[1]
