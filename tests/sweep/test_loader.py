from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.environment import find_origin
from fmsteal.base.errors import ConfigError
from fmsteal.identity.keys import settings
from fmsteal.sweep.frozen import configs
from fmsteal.sweep.grid import compose_jobs, expand
from tests.sweep.of_sweeps import sweep

AXES = (
    "experiment=smoke",
    "task=classify,embed",
    "attack=activethief,cont_steal",
    "victim=simclr_resnet10",
    "thief=encoder_resnet10",
    "evaluation=encoder",
    "budget='100'",
    "seed=0",
    "victim.seed=5,7",
    "+notes.why=x",
    "~query.seed",
)


def container(cfg: DictConfig) -> object:
    return OmegaConf.to_container(cfg, resolve=False)


def test_jobs_are_composed_as_hydra_composes_them() -> None:
    with sweep() as (shared, master):
        jobs = expand(shared, AXES)
        plain = GlobalHydra.instance().config_loader()
        assert len(jobs) == 2 * 2 * 2
        for _ in range(2):  # the second time everything is known already
            for job, (overrides, cfg) in zip(jobs, compose_jobs(shared, master, jobs), strict=True):
                expected = plain.load_sweep_config(master, job)
                again = shared.load_sweep_config(master, job)
                assert overrides == job and container(again) == container(expected)
                del cfg["hydra"].overrides, expected["hydra"].overrides  # values are set without being listed there
                del cfg["hydra"].job.override_dirname, expected["hydra"].job.override_dirname
                assert container(cfg) == container(expected)


def test_a_defaults_list_that_looks_at_other_choices_is_composed_as_by_hydra(tmp_path: Path) -> None:
    theirs = tmp_path / "defense"
    theirs.mkdir()
    (theirs / "follows.yaml").write_text("defaults:\n  - top_k\n  - /tracker@beside: ${tracker}\n  - _self_\n")
    with sweep(f"hydra.searchpath=['file://{tmp_path}']") as (shared, master):
        job = ["tracker=none", "defense=follows"]
        expected = GlobalHydra.instance().config_loader().load_sweep_config(master, job)
        assert expected.defense.beside == expected.tracker
        assert container(shared.load_sweep_config(master, job)) == container(expected)


def test_one_job_leaves_no_trace_in_the_next() -> None:
    with sweep() as (loader, master):
        first = loader.load_sweep_config(master, ["attack=knockoff"])
        before = container(first)
        OmegaConf.update(first, "victim.recipe.epochs", 99)
        first.thief.backbone.size = 7
        assert container(loader.load_sweep_config(master, ["attack=knockoff"])) == before


def test_a_file_of_somebody_elses_folder_is_found_and_frozen(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / "attack"
    theirs.mkdir(parents=True)
    (theirs / "own.yaml").write_text("defaults: [knockoff, _self_]\nselection: {seed: 3}\n")
    with sweep(f"hydra.searchpath=['file://{theirs.parent}']") as (loader, master):
        job = next(compose_jobs(loader, master, [["attack=own"]]))[1]
        frozen = configs(loader, tmp_path / "frozen")
        (theirs / "own.yaml").write_text("nonsense: [")
        shipped = pickle.loads(pickle.dumps(frozen))  # as a launcher ships it
        again = shipped.load_sweep_config(master, ["attack=own"])
        assert settings(again) == settings(job) and again.attack.selection.seed == 3
        sources = {s.path for s in shipped.get_sources() if s.scheme() == "file"}
        assert all(Path(path).is_relative_to(tmp_path / "frozen") for path in sources)
        assert (
            str(theirs.parent) in {find_origin(path) for path in sources} and find_origin("/elsewhere") == "/elsewhere"
        )


def test_the_same_configs_again_are_the_same_copy_and_others_are_not(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / "attack"
    theirs.mkdir(parents=True)
    copies = []
    for seed in (3, 3, 4):
        (theirs / "own.yaml").write_text(f"selection: {{seed: {seed}}}\n")
        with sweep(f"hydra.searchpath=['file://{theirs.parent}']") as (loader, _):
            frozen = configs(loader, tmp_path / "frozen")
            copies.append({s.path for s in frozen.get_sources() if s.scheme() == "file"})
    assert copies[0] == copies[1] and len(copies[0] & copies[2]) == 1  # our own conf
    assert len(list((tmp_path / "frozen").iterdir())) == 3


def test_what_cannot_be_composed_names_the_job() -> None:
    with sweep() as (loader, master), pytest.raises(ConfigError, match=r"budget/7k(?s:.*)This is job seed=0 budget=7k"):
        list(compose_jobs(loader, master, expand(loader, ["seed=0", "budget='100',7k"])))
