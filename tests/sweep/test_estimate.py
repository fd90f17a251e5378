"""What a sweep is expected to take: by finished jobs where there are any, else counted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.base.store import write_json
from fmsteal.config.schema import Stage
from fmsteal.identity.kinds import name_theft_kind, name_victim_kind
from fmsteal.sweep import plan as shown
from fmsteal.sweep.estimate import Estimate, estimate
from fmsteal.sweep.grid import Grid, SweepJob, check_jobs, expand
from fmsteal.sweep.measured import expect
from fmsteal.sweep.stages import SweepPlan
from tests.support.composing import SMALL, composed
from tests.sweep.of_sweeps import sweep

NET = 12345.0  # seconds that only a finished job can have told


@pytest.fixture
def planned(tmp_path: Path) -> Iterator[Any]:
    """A function that makes the estimate of a sweep below ``tmp_path``, and its plan."""

    def make(*arguments: str, hydra: tuple[str, ...] = ()) -> tuple[Estimate, SweepPlan]:
        words = (*SMALL, f"output={tmp_path}", "sweep_id=s", "dry_run=true", *hydra)
        with sweep(*words) as (loader, master):
            grid = check_jobs(loader, master, expand(loader, [*words[:-1], "dry_run=true", *arguments]))
            plan = SweepPlan(grid, Stage.all)
            return estimate(plan, master), plan

    yield make


def finish(root: Path, job: SweepJob, seconds: float, measurements: float = 1.0, **more: Any) -> None:
    """A finished job of another sweep with the settings of a planned one."""
    folder = root / "sweeps" / "before" / job.key
    folder.mkdir(parents=True)
    cost = {"cost/seconds": seconds + measurements, "cost/queries": job.queries}
    known = {"job_key": job.key, "axis": job.axis, "settings": dict(job.settings), "asked": job.asked, "cost": cost}
    parts = {"victim": 0.0, "measurements": measurements}
    write_json(folder / "result.json", {"schema": 2, **known, "seconds": parts, "device": "cpu", **more})


def note_victim(root: Path, job: SweepJob, seconds: float) -> None:
    (root / "cache" / "prepared").mkdir(parents=True)
    note = {"kind": name_victim_kind(job.settings), "seconds": seconds, "place": "victims/gone"}
    write_json(root / "cache" / "prepared" / "0123456789abcdef.json", note)


def test_a_kind_is_all_that_decides_the_time() -> None:
    def kinds(*words: str) -> tuple[str, str]:
        from fmsteal.identity.keys import settings

        known = settings(composed(*SMALL, *words))
        return name_theft_kind(known), name_victim_kind(known)

    thief, victim = kinds()
    for same in ("seed=3", "budget.queries=60", "thief.recipe.lr=1e-4", "thief.recipe.weight_decay=0", "vary=all"):
        assert kinds(same) == (thief, victim), same
    for other in ("thief.recipe.epochs=9", "attack=jbda", "defense=top_k", "thief.backbone.size=64", "query=noise"):
        assert kinds(other)[0] != thief and kinds(other)[1] == victim, other
    assert kinds("victim.recipe.epochs=9") == (thief, kinds("victim.recipe.epochs=9")[1])
    assert kinds("victim.recipe.epochs=9")[1] != victim


@pytest.mark.parametrize(
    ("known", "queries", "due"),
    [
        ({100: [4.0, 6.0]}, 100, 5.0),
        ({100: [5.0]}, 300, 15.0),
        ({100: [5.0]}, 50, 5.0),
        ({100: [5.0], 300: [9.0]}, 200, 7.0),
        ({100: [5.0], 300: [9.0]}, 500, 13.0),
        ({100: [5.0], 300: [9.0], 400: [19.0]}, 500, 21.0),
        ({100: [9.0], 200: [5.0]}, 500, 5.0),
        ({100: [1.0], 200: [9.0]}, 10, 0.0),
    ],
)
def test_other_budgets_are_reached_on_a_line(known: dict[int, list[float]], queries: int, due: float) -> None:
    assert expect(known, queries) == pytest.approx(due)


def test_a_plan_takes_the_times_of_finished_jobs_and_counts_no_network(
    planned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = ("budget.queries=50,100", "defense=none,top_k", "victim.seed=0")
    _, before = planned(*axes, "seed=0")
    for number, job in enumerate(before.grid.jobs, 1):
        finish(tmp_path, job, 10.0 * number)
    plain = before.grid.jobs[0]
    note_victim(tmp_path, plain, 60.0)
    monkeypatch.setitem(sys.modules, "fmsteal.sweep.flops", None)  # importing it, which imports torch, fails
    found, plan = planned(*axes, "seed=1,2")
    by = {(job.axis["defense"], job.queries): found.jobs[job.key] for job in plan.grid.jobs}
    assert {job.axis["seed"] for job in plan.grid.jobs} == {1, 2} and len(found.jobs) == 8
    assert (by["none", 50].seconds, by["none", 50].source) == (11.0, "measured")
    assert [by[name].seconds for name in (("top_k", 50), ("none", 100), ("top_k", 100))] == [21.0, 31.0, 41.0]
    assert by["none", 50].device == "CPU" and found.finished == 4
    assert [each.seconds for each in found.victims.values()] == [60.0]
    assert found.victims[plain.victim].source == "measured"


def test_measured_times_of_like_jobs_are_scaled(planned: Any, tmp_path: Path) -> None:
    _, before = planned("defense=top_k", "defense.k=3", "budget.queries=50", "seed=0")
    finish(tmp_path, before.grid.jobs[0], 10.0)
    found, plan = planned("defense=top_k", "defense.k=1,3", "budget.queries=100", "seed=0")
    assert {each.source for each in found.jobs.values()} == {"scaled"} and len(found.jobs) == 2
    assert [found.jobs[job.key].seconds for job in plan.grid.jobs] == [21.0, 21.0]


def test_times_of_another_device_do_not_count(planned: Any, tmp_path: Path) -> None:
    _, before = planned("seed=0")
    finish(tmp_path, before.grid.jobs[0], NET, device="cuda")
    (expected,) = planned("seed=1")[0].jobs.values()
    assert expected.source == "arithmetic" and expected.device == "CPU"


def test_what_no_job_tells_is_counted_at_the_stated_rate(planned: Any) -> None:
    words = ("seed=0", "budget.queries=64", "thief.recipe.epochs=5", "thief.recipe.min_steps=0")
    found, _ = planned(*words)
    (job,), (victim,) = found.jobs.values(), found.victims.values()
    assert {job.source, victim.source} == {"arithmetic"} and found.rate["CPU"] == 0.05
    from fmsteal.config import build
    from fmsteal.sweep.flops import count

    cfg = composed(*SMALL, *words)
    size, learner = count(cfg.thief.backbone), build.make(cfg.victim)
    assert size is not None
    train, test = 1797 - cfg.data.test, cfg.data.test
    train = cfg.data.train_count or train
    steps = learner.recipe.for_steps(-(-train // learner.recipe.batch_size))
    assert victim.seconds == pytest.approx(3 * size.flops * train * steps.epochs / 0.05e12)
    assert job.seconds == pytest.approx(size.flops * (64 + 3 * 64 * 5 + 2 * test) / 0.05e12)
    slow = planned(*words, hydra=("hydra.sweeper.teraflops=0.01",))[0]
    assert next(iter(slow.jobs.values())).seconds == pytest.approx(5 * job.seconds)
    assert found.images == 3 * 32**2 * (1797 - cfg.data.test + test + cfg.query.count) and found.features == 0


def test_a_rate_that_is_none_is_refused(planned: Any) -> None:
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.teraflops=-1 is no rate"):
        planned("seed=0", hydra=("hydra.sweeper.teraflops=-1",))


def many(plan: SweepPlan, axes: dict[str, int]) -> SweepPlan:
    """A plan of the same job with every combination of so many choices on each axis."""
    job, jobs = plan.grid.jobs[0], [plan.grid.jobs[0]]
    for axis, number in axes.items():
        jobs = [replace(one, axis={**one.axis, axis: f"{axis}{i}"}) for one in jobs for i in range(number)]
    numbered = [replace(one, key=f"{job.key}{i}") for i, one in enumerate(jobs)]
    return SweepPlan(Grid(numbered, {}), Stage.all)


def test_a_large_plan_is_a_short_table(planned: Any, capsys: pytest.CaptureFixture[str]) -> None:
    _, plan = planned("seed=0")
    large = many(plan, {"seed": 5, "victim": 3, "attack": 12, "defense": 4})
    shown.show_plan(large, Path("s"), Estimate())
    said = capsys.readouterr().out
    assert "Folded: attack (12). dry_run=full shows every job." in said and said.count("\n") < 40
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if "victim0" in line]
    assert len(rows) == 4 and {row[0] for row in rows} == {"victim0"} and {row[4] for row in rows} == {"60"}
    shown.show_plan(large, Path("s"), Estimate(), full=True)
    assert capsys.readouterr().out.count("│ steal ") == 720


@pytest.mark.parametrize(
    ("hours", "text"), [(0, "0"), (0.0042, "0.0042"), (0.36, "0.36"), (12.54, "12.5"), (1240.2, "1,240")]
)
def test_hours_have_two_or_three_digits(hours: float, text: str) -> None:
    assert shown.format_hours(hours) == text
