"""What a command line asks of an audit, and what is refused before anything is composed."""

from __future__ import annotations

import re

import pytest

from fmsteal.audit.request import make_request
from fmsteal.audit.shelf import NONE, ShelfChoice
from fmsteal.base.errors import ConfigError

YES = "i_am_authorised=true"


@pytest.mark.parametrize(
    "words", [[], ["victim=resnet10t"], ["i_am_authorised=false"], ["i_am_authorised="], [YES, "i_am_authorised=no"]]
)
def test_a_target_that_nobody_answers_for_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"i_am_authorised=true\. Nothing was asked"):
        make_request(words)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("attack=solve", "--attacks knockoff,solve"),
        ("attack/loss=hard", "--attacks"),
        ("attack.validation=0.2", "--attacks 'solve thief=resnet10t'"),
        ("defense=prada", "--defenses prada,rounding"),
        ("+defense@defense.of.a=top_k", "--defenses"),
        ("budget=1k", "--ladder 100,1000"),
        ("budget.queries=7", "--ladder"),
        ("seed=3", "--seeds N"),
        ("sweep_id=mine", "--name NAME"),
        ("dry_run=true", "--plan"),
        ("force=true", "leave it out"),
        ("reuse=false", "leave it out"),
        ("hydra.sweeper.mixed=true", "leave it out"),
        ("hydra/sweeper=optuna", "leave it out"),
        ("victim=a,b", "one target"),
        ("outputs/runs/x", "no override"),
    ],
)
def test_what_an_audit_sets_itself_is_refused_with_what_to_type_instead(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as refused:
        make_request([YES, word])
    assert word in str(refused.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"queries": 0}, "--queries must be more than 0"),
        ({"usd": -1.0}, "--usd must be more than 0"),
        ({"usd": float("nan")}, "--usd must be more than 0"),
        ({"ladder": "100,x"}, "--ladder takes numbers"),
        ({"ladder": "0,100"}, "--ladder takes numbers"),
        ({"attacks": ["knockoff,,solve"]}, "--attacks takes names"),
        ({"attacks": ["attack=solve"]}, "--attacks takes names"),
        ({"attacks": ["solve seed=3"]}, "an audit sets seed itself"),
        ({"defenses": ["gaussian budget.queries=3"]}, "an audit sets budget.queries itself"),
        ({"attacks": ["solve top1"]}, "--attacks solve,top1"),
        ({"attacks": ["solve", "solve"]}, "names solve twice"),
        ({"defenses": [" "]}, "--defenses takes names"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        make_request([YES], **options)  # type: ignore[arg-type]


def test_choices_may_have_options_of_their_own() -> None:
    request = make_request(
        [YES, "budget.usd_per_1000=2", "victim.headers={Authorization: 'a,b'}"],
        ["knockoff,top1", "solve thief=resnet10t"], ["none,prada", "gaussian defense.sigma=0.2"], "1000,100,1_00", 3,
    )  # fmt: skip
    assert request.target == ("budget.usd_per_1000=2", "victim.headers={Authorization: 'a,b'}")
    assert request.attacks == (ShelfChoice("knockoff"), ShelfChoice("top1"), ShelfChoice("solve", ("thief=resnet10t",)))
    assert request.defenses == (NONE, ShelfChoice("prada"), ShelfChoice("gaussian", ("defense.sigma=0.2",)))
    assert request.ladder == (100, 1000)
    assert request.attacks[-1].label == "solve (thief=resnet10t)"


def test_what_is_asked_decides_the_name_and_where_it_is_written_does_not() -> None:
    names = [
        make_request([YES, *words], ladder=ladder, queries=queries).sweep_id
        for words, ladder, queries in (
            ([], None, None),
            (["output=/a", "cache=/b", "tracker=wandb", "trainer=cpu", "hydra/launcher=joblib"], None, None),
            (["victim=resnet10t"], None, None), ([], "100", None), ([], None, 500),
        )
    ]  # fmt: skip
    assert names[0] == names[1] and len(set(names)) == 4
    assert make_request([YES], name="mine").sweep_id == "mine"
