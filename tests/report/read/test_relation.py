from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import spearmanr

from fmsteal.records.results import Result
from fmsteal.report.read.relation import correlate_ranks, find_relations
from fmsteal.report.read.study import Study
from fmsteal.report.show.table import show_relations
from tests.support.job_folders import result

NAMES = ("test/cka_unbiased", "test/trunk_cka_unbiased", "test/victim_accuracy", "test/victim_entropy")


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sixth of the bootstrap's time."""
    monkeypatch.setattr("fmsteal.report.read.relation.RESAMPLED", 300)


def sweep(budgets: tuple[int, ...] = (500, 5000), victims: int = 6, seeds: int = 2) -> list[Result]:
    random = np.random.default_rng(0)
    found = []
    for queries in budgets:
        for v in range(victims):
            for seed in range(seeds):
                cka = 0.1 * v + 0.01 * seed
                agreement = cka**2 if queries == 500 else 0.9 - cka / 2
                job = result(agreement, seed, victim=f"v{v}", budget=str(queries), queries=queries)
                figures = dict(zip(NAMES, (cka, float(random.random()), 0.5, float(v % 2)), strict=True))
                found.append({**job, "metrics": {**job["metrics"], **figures}})
    return found


def test_cells_are_ranked_at_equal_budget() -> None:
    found = {(r.metric, r.queries): r for r in find_relations(Study.of_results(sweep()))}
    assert found["test/cka_unbiased", 500].rho == pytest.approx(1)
    assert found["test/cka_unbiased", 5000].rho == pytest.approx(-1), "another budget, another relation"
    assert found["test/cka_unbiased", 500].cells == 6
    assert not any(metric == "test/victim_accuracy" for metric, _ in found), "it is the same everywhere"
    one = [r for r in sweep() if r["budget"] == 500 and r["axis"]["seed"] == 0]
    other = [r for r in sweep() if r["budget"] == 500 and r["axis"]["seed"] == 1]
    means = [
        tuple((a["metrics"][m] + b["metrics"][m]) / 2 for m in ("test/trunk_cka_unbiased", "test/agreement"))
        for a, b in zip(one, other, strict=True)
    ]
    assert found["test/trunk_cka_unbiased", 500].rho == pytest.approx(spearmanr(*zip(*means, strict=True)).statistic)


def test_what_differs_by_rounding_has_one_rank() -> None:
    jobs = sweep(budgets=(500,), seeds=1)
    for place, job in enumerate(jobs):
        job["metrics"]["test/cka_unbiased"] = (0.5, 1.0, 1.0)[place % 3] - place * 1e-16
    plain = [
        {**j, "metrics": {**j["metrics"], "test/cka_unbiased": round(j["metrics"]["test/cka_unbiased"])}} for j in jobs
    ]
    assert find_relations(Study.of_results(jobs))[0].rho == find_relations(Study.of_results(plain))[0].rho


def test_too_few_cells_or_figures_say_nothing() -> None:
    assert find_relations(Study.of_results(sweep(victims=4))) == []
    assert find_relations(Study.of_results([result(0.1 * v, victim=f"v{v}") for v in range(9)])) == []
    assert find_relations(Study.of_results([])) == []


def test_the_interval_knows_that_cells_share_victims() -> None:
    random, missed = np.random.default_rng(1), 0
    names = [f"v{v}" for v in range(12) for _ in range(4)]
    for _ in range(40):  # a figure of the victim alone, and an agreement that depends on the victim, but not on it
        figure, effect = random.standard_normal(12), random.standard_normal(12)
        agreement = effect.repeat(4) + 0.3 * random.standard_normal(48)
        rho, interval = correlate_ranks(figure.repeat(4), agreement, names)
        assert interval is not None and interval[0] <= rho <= interval[1]
        missed += not interval[0] <= 0 <= interval[1]
    assert missed <= 8, "taken for 48 independent cells, it misses in every third case"


def test_few_victims_give_no_interval() -> None:
    assert correlate_ranks([1, 2, 3, 4], [1, 2, 4, 3], list("aabb")) == (pytest.approx(0.8), None)
    assert all((r.interval is None) == (r.cells < 5) for r in find_relations(Study.of_results(sweep())))


def test_they_are_shown_below_the_table() -> None:
    out = StringIO()
    show_relations(Study.of_results(sweep()), Console(file=out, width=120))
    assert "what correlates with agreement" in out.getvalue() and "+1.00" in out.getvalue()
    silent = StringIO()
    show_relations(Study.of_results([result(0.5)]), Console(file=silent))
    assert silent.getvalue() == ""
