"""Options for some choices of an axis alone: each job of a sweep gets those that are for its own."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fmsteal.base import on_hydra
from fmsteal.base.errors import ConfigError
from fmsteal.base.quoting import spell
from fmsteal.identity.keys import hash_of
from fmsteal.sweep.grid import SweepJob, check_jobs, expand
from fmsteal.sweep.overrides import preview
from tests.support.composing import composed, hash_now
from tests.sweep.of_sweeps import sweep

SEED = "seed=0"


def cells(only: Any, *arguments: str) -> list[SweepJob]:
    spelt = re.sub(r"'([^':]+)':", r"\1:", spell(only))  # Hydra's grammar has no quotes around keys
    with sweep(f"hydra.sweeper.only={spelt}") as (loader, master):
        return list(check_jobs(loader, master, expand(loader, arguments)).jobs)


def added(cell: SweepJob, arguments: tuple[str, ...]) -> list[str]:
    names = {word.partition("=")[0] for word in arguments}
    return [word for word in cell.overrides if word.partition("=")[0] not in names]


def test_a_job_gets_the_options_of_its_own_choices_and_is_the_job_that_it_is_alone() -> None:
    words = ("attack=knockoff,activethief,activethief_margin", "budget='100'")
    only = {"attack": {"activethief*": {"attack.rounds": 4}, "activethief_margin": {"attack.rounds": 5}}}
    found = cells(only, *words)
    assert [added(cell, words) for cell in found] == [[], ["attack.rounds=4"], ["attack.rounds=5"]]
    assert hash_of(found[1].key) == hash_now("attack=activethief attack.rounds=4 budget='100'")


def test_axes_are_groups_or_values_and_so_are_options() -> None:
    words = ("thief.adaptation=probe,full", "attack=knockoff,copycat")
    only = {
        "thief.adaptation": {"full": {"thief.recipe.epochs": 3, "thief.recipe.augment": {"flip": 0.5}}},
        "attack": {"knockoff": {"attack/loss": "hard"}},
    }
    found = cells(only, *words)
    hard, more = "attack/loss='hard'", ["thief.recipe.epochs=3", "thief.recipe.augment={flip:0.5}"]
    assert [added(cell, words) for cell in found] == [[hard], [], [*more, hard], more]
    assert found[0].axis["attack_loss"] == "hard"
    recipe = composed(*found[2].overrides).thief.recipe
    assert (recipe.epochs, recipe.augment.flip, recipe.augment.shift) == (3, 0.5, 0.0)


def test_an_axis_that_is_not_swept_counts_by_what_all_jobs_have() -> None:
    (one,) = cells({"victim": {"resnet1*": {"victim.recipe.epochs": 2}}}, "victim=resnet10t")
    assert one.overrides == ("victim=resnet10t", "victim.recipe.epochs=2")


def test_what_is_given_for_a_job_comes_first() -> None:
    only = {"attack": {"activethief": {"attack.rounds": 4, "attack.every": 2}}}
    found = cells(only, "attack=activethief", "attack.rounds=2,3")
    assert [added(cell, ("attack=", "attack.rounds=")) for cell in found] == [["attack.every=2"]] * 2
    again = cells(only, *found[0].overrides)
    assert again == [found[0]]  # as a recorded job is measured again


STUDY = ("sweep=attacks", "query.root=/not/there", SEED, "budget='100'")


def test_the_study_of_attacks_gives_activethief_its_rounds_and_dfal_its_candidates() -> None:
    names = ("knockoff", "activethief_random", "activethief", "activethief_dfal", "activethief_dfal_kcenter", "jbda")
    words = (f"attack={','.join(names)}", *STUDY)
    with sweep() as (loader, master):
        found = check_jobs(loader, master, expand(loader, words)).jobs
    dfal = ["attack.rounds=4", "attack.strategy.candidates=500", "attack.strategy.classes=3"]
    assert {cell.axis["attack"]: added(cell, words) for cell in found} == dict(
        zip(names, ([], dfal[:1], dfal[:1], dfal, dfal, []), strict=True)
    )


def test_a_study_that_is_narrowed_keeps_its_options() -> None:
    with sweep() as (loader, master):
        (only,) = check_jobs(loader, master, expand(loader, ("attack=knockoff", *STUDY))).jobs
    assert added(only, ("attack=", *STUDY)) == []


REFUSED = {
    "a choice": (
        {"attack": {"activethief*": {"attack.rounds": 4}, "dfme": {"attack.batch": 8}}},
        r"only\.attack: 'dfme' is no choice of this sweep, whose attack is knockoff, activethief\.",
    ),
    "an axis": ({"atack": {"knockoff": {"seed": 1}}}, r"only\.atack: 'knockoff' is no choice .* whose atack is None"),
    "an option": (
        {"attack": {"activethief": {"attack.round": 4}}},
        r"no option 'attack\.round'\. Did you mean 'attack\.rounds'\?(?s:.*)job attack=activethief",
    ),
    "another's option": ({"attack": {"knockoff": {"attack.rounds": 4}}}, r"no option 'attack\.rounds'"),
    "no options": ({"attack": {"activethief": 4}}, r"only is for choices of an axis"),
    "no choices": ({"attack": "activethief"}, r"only is for choices of an axis"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_for_no_job_or_no_option_of_one_is_refused_by_name(case: str) -> None:
    only, says = REFUSED[case]
    with pytest.raises(ConfigError, match=says):
        cells(only, "attack=knockoff,activethief", SEED)


def test_the_command_line_says_so_too_and_the_first_job_is_shown_with_it() -> None:
    from fmsteal import cli

    words = ["-m", "attack=activethief,knockoff", "hydra.sweeper.only={attack:{activethief*:{attack.rounds:3}}}"]
    args = on_hydra.parse(words)
    assert preview(args).attack.rounds == 3
    other = on_hydra.parse(words[:2])
    assert cli.name_sweep(args) != cli.name_sweep(other), "these are other jobs"
