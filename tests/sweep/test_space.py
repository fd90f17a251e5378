from __future__ import annotations

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.sweep.space import Parameter, Space, read_space
from tests.sweep.of_sweeps import sweep


def space(*arguments: str) -> Space:
    with sweep() as (loader, _):
        return read_space(loader, arguments)


def test_each_kind_of_override_is_a_kind_of_values() -> None:
    found = space(
        "attack.a=interval(0.5,2)", "attack.b=tag(log,interval(1e-4,1e-1))", "attack.c=int(interval(1,8))",
        "attack.d=range(1,8,3)", "attack.e=range(0.1,0.45,0.1)", "attack/loss=soft,hard", "budget='100','500'",
        "data=digits",
    )  # fmt: skip
    assert found.parameters == (
        Parameter("attack.a", "float", 0.5, 2.0),
        Parameter("attack.b", "float", 1e-4, 1e-1, log=True),
        Parameter("attack.c", "int", 1, 8),
        Parameter("attack.d", "int", 1, 7, 3.0),
        Parameter("attack.e", "float", 0.1, 0.4, 0.1),
        Parameter("attack/loss", "choice", choices=("soft", "hard")),
        Parameter("budget", "choice", choices=("'100'", "'500'")),
    )
    assert (found.fixed, found.seeds) == (("data=digits",), ())


def test_a_trial_has_a_job_for_each_seed_and_seeds_are_not_searched() -> None:
    found = space("attack.a=interval(0,1)", "seed=range(0,3)", "data=digits")
    assert found.seeds == (0, 1, 2) and [p.key for p in found.parameters] == ["attack.a"]
    assert found.jobs([0.123456]) == [["data=digits", "attack.a=0.1235", f"seed={seed}"] for seed in range(3)]
    assert space("attack.a=interval(0,1)", "seed=4").jobs([1.0]) == [["seed=4", "attack.a=1.0"]]


def test_what_is_given_later_counts() -> None:
    found = space(
        "attack.a=interval(0,1)", "attack.b=1,2", "attack.a=0.5", "attack.b=interval(3,4)", "seed=0,1", "seed=7"
    )
    assert found.parameters == (Parameter("attack.b", "float", 3.0, 4.0),)
    assert (set(found.fixed), found.seeds) == ({"attack.a=0.5", "seed=7"}, ())


def test_both_ends_all_choices_and_a_number_between_are_checked() -> None:
    found = space(
        "attack.a=interval(1,3)", "attack/loss=soft,hard,temperature", "attack.n=int(interval(1,9))", "seed=0,1"
    )
    tried = [{word.split("=")[0]: word.split("=")[1] for word in job} for job in found.samples()]
    assert {job["attack.a"] for job in tried} == {"1.0", "2.236", "3.0"}
    assert {job["attack/loss"] for job in tried} == {"soft", "hard", "temperature"}
    assert {job["attack.n"] for job in tried} == {"1", "9"} and {job["seed"] for job in tried} == {"0", "1"}
    assert len(tried) == 2 + 2 + 2 + 1


def test_rounding_does_not_leave_the_interval() -> None:
    narrow = Parameter("a", "float", 0.123456, 0.123459)
    assert narrow.word(0.123457) == "a=0.123459" and narrow.word(0.0) == "a=0.123456"


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("seed=interval(0,3)", r"seed=interval\(0,3\).*averages over them.*seed=0,1,2"),
        ("seed=a,b", r"averages over them"),
        ("attack.a=interval(2,1)", r"attack\.a=interval\(2,1\).*the smaller one"),
        ("attack.a=tag(log,interval(0,1))", r"its first number is above 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(argument: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        space(argument)
