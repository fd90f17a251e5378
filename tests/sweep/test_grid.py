from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.identity.keys import job_key
from fmsteal.job import parts
from fmsteal.sweep import grid as grids
from fmsteal.sweep import record
from tests.support.composing import composed
from tests.sweep.of_sweeps import grid

QUICK = ("tracker=none", "trainer=cpu", "victim=resnet10t", "thief=resnet10t", "budget='100'")


def test_every_job_has_the_key_it_has_alone_and_victims_are_shared() -> None:
    found = grid(*QUICK, "defense=none,hard_label", "seed=0,1", "victim.seed=0", "query.count=500,600")
    assert len(found.jobs) == 8 and len({job.victim for job in found.jobs}) == 1
    for job in found.jobs:
        cfg = composed(*job.overrides)
        assert job.key == job_key(cfg, cfg.hydra.runtime.choices) and job.folder.name == job.key
        assert (job.queries, job.usd, job.finished, job.victim_ready) == (100, 0.15, False, False)
    assert "query.count" not in found.fixed and "seed" not in found.fixed and found.fixed["budget.queries"] == 100


@pytest.mark.parametrize(
    "axis",
    ["victim.seed=0,1", "data.seed=0,1", "victim.recipe.epochs=3,4", "trainer.lightning.precision=32-true,bf16-mixed",
     "victim=resnet10t,efficientnet_lite0", "seed=0,1"],
)  # fmt: skip
def test_what_makes_the_victim_makes_its_key(axis: str) -> None:
    assert len({job.victim for job in grid(*QUICK, axis).jobs}) == 2


@pytest.mark.parametrize(
    "axis",
    ["thief.recipe.epochs=3,4", "query.seed=0,1", "budget='100','500'", "attack=knockoff,copycat",
     "defense=none,hard_label", "trainer.inference_batch=8,16", "evaluation=classify,ood"],
)  # fmt: skip
def test_what_only_the_thief_is_made_of_does_not(axis: str) -> None:
    assert len({job.victim for job in grid(*QUICK, axis).jobs}) == 1


def test_a_job_that_is_asked_for_twice_runs_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        found = grid(*QUICK, "seed=0,0", "trainer.inference_batch=8,16")
    assert (len(found.jobs), found.repeated, found.idle) == (1, 3, [])
    assert found.merged == "3 of 4 combinations are the same as others" and found.merged in caplog.text
    assert grid(*QUICK, "seed=0,1").merged == ""


def test_a_setting_without_effect_is_named_and_makes_no_job_of_its_own() -> None:
    found = grid(*QUICK, "thief.backbone.weights=null,/my.pth", "thief.adaptation=scratch", "seed=0,1")
    assert (len(found.jobs), found.repeated) == (2, 2)
    assert found.idle == ["thief.backbone.weights has no effect with thief.adaptation=scratch"]
    assert "2 of 4 combinations are the same as others (thief.backbone.weights has" in found.merged


def test_a_choice_and_the_values_that_it_stands_for_are_one_job_of_one_victim() -> None:
    small = ("tracker=none", "trainer=cpu", "thief=resnet10t", "budget='100'")
    found = grid(*small, "victim=efficientnet_lite0,efficientnet_lite0_96", "victim.backbone.size=96")
    assert (len(found.jobs), found.repeated) == (1, 1)
    found = grid(*small, "victim=efficientnet_lite0,efficientnet_lite0_96", "victim.backbone.size=96", "seed=0,1")
    assert len(found.jobs) == 2 and len({job.victim for job in found.jobs}) == 1, "a probe's minimum has no seed"


def test_folders_of_one_name_are_two_jobs(tmp_path: Path) -> None:
    for name in "pq":
        (tmp_path / name / "imgs" / "wren").mkdir(parents=True)
        (tmp_path / name / "imgs" / "wren" / f"{name}.png").touch()
    roots = ",".join(str(tmp_path / name / "imgs") for name in "pq")
    assert len(grid(*QUICK, "query=image_folder", f"query.root={roots}").jobs) == 2


def test_each_evaluation_is_checked_though_it_makes_no_job_of_its_own() -> None:
    assert len(grid(*QUICK, "evaluation=classify,ood").jobs) == 1
    with pytest.raises(ConfigError, match=r"(?s)evaluation\.k='five' does not fit.*evaluation\.k=five"):
        grid(*QUICK, "evaluation.k=5,five")


def test_a_whole_float_is_taken_for_a_number_of_things() -> None:
    found = grid("tracker=none", "trainer=cpu", "victim=resnet10t", "thief=resnet10t", "budget.queries=100,100.0")
    assert [job.queries for job in found.jobs] == [100]
    with pytest.raises(ConfigError, match=r"budget\.queries=100\.5 does not fit"):
        grid(*QUICK, "budget.queries=100.5")


def test_a_part_that_nothing_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"nothing reads 'bugdet'\. Did you mean 'budget'"):
        grid(*QUICK, "+bugdet=1")


@pytest.mark.parametrize(
    ("axes", "says"),
    [
        (("seed=0,1", "thief.adaptation=scratch,froben"), r"(?s)froben.*seed=0 .*thief\.adaptation=froben"),
        (("budget='100','500'", "query.count=100,1000"), r"(?s)500 queries.*100 images.*query\.count=100"),
        (("seed=0,1", "victim.seed=0,1,none"), r"(?s)victim\.seed.*This is job .*victim\.seed=none"),
        (("seed=0,-1",), r"(?s)negative.*This is job .*seed=-1\nNo job was run"),
        (("defense=none,top_k", "+defense.kk=1"), r"(?s)no option 'kk'.*defense=none"),
        (("victim=resnet10t,imagenet_efficientnet_lite0",), r"(?s)embeddings.*victim=imagenet"),
        (("attack=knockoff,dfme",), r"(?s)100 queries.*DFME.*attack=dfme"),
        (("seed=0,1", "data=digits,image_folder"), r"(?s)data.root must be given.*data=image_folder"),
    ],
)
def test_a_job_that_cannot_run_is_named_wherever_it_is_in_the_grid(axes: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        grid(*QUICK, *axes)


def test_only_a_combination_that_is_wrong_is_found_too() -> None:
    """No axis alone is wrong: each choice is fine beside the first choice of the others."""
    with pytest.raises(
        ConfigError, match=r"(?s)500 queries.*budget=500 query\.count=100$|500 queries.*query.count=100"
    ):
        grid(*QUICK, "budget='100','500'", "query.count=1000,100")


def test_parts_that_were_checked_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    true = parts.Parts.of.__func__  # type: ignore[attr-defined]
    spied = classmethod(lambda cls, cfg: (looked_at.append(cfg.seed), true(cls, cfg))[1])
    monkeypatch.setattr(parts.Parts, "of", spied)
    found = grid(*QUICK, "defense=none,hard_label,top_k,rounding", "attack=knockoff,copycat,top1", "seed=0,1")
    assert len(found.jobs) == 24 and len(looked_at) == 1 + 3 + 2, "and one seed is as good as another"


def test_composing_needs_no_torch_and_finished_jobs_are_not_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        grids.results, "find_finished", lambda folder, key, cfg: {"job_key": key} if cfg.seed == 0 else None
    )
    checked = []
    monkeypatch.setattr(grids, "_check", checked.append)
    assert [job.finished for job in grid(*QUICK, "seed=0").jobs] == [True] and checked == []
    assert [job.finished for job in grid(*QUICK, "seed=0,1").jobs] == [True, False] and len(checked[0]) == 1
    assert [job.finished for job in grid(*QUICK, "seed=0", "force=true").jobs] == [False]


@pytest.mark.parametrize("seeds", [("0", "1"), ("1", "0"), ("0,1", "2"), ("3", "0,1,2")])
def test_a_sweep_grows_by_seeds_that_vary_everything(seeds: tuple[str, str], tmp_path: Path) -> None:
    """Settings that follow the seed, as the split does with vary=all, make no other sweep of it."""
    first, more = (grid(*QUICK, "vary=all", f"seed={seed}") for seed in seeds)
    assert "data.seed" in first.varied and "data.seed" not in first.fixed
    record.write(tmp_path, first, "fmsteal -m", {})
    record.require_same(tmp_path, more)
    other = grid(*QUICK, "vary=all", f"seed={seeds[1]}", "query.count=700")
    with pytest.raises(ConfigError, match=r"query\.count: .*, now 700"):
        record.require_same(tmp_path, other)
