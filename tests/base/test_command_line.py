"""The words of a command are passed on as such; nothing of the process is rewritten."""

from __future__ import annotations

import sys

import pytest

from fmsteal import cli
from fmsteal.base.command_line import record_words, spell_continuing
from fmsteal.base.on_hydra import parse
from fmsteal.face.borrowing import borrow_hydra


def test_the_command_that_goes_on_is_as_it_was_typed_and_does_nothing_again() -> None:
    with record_words(["-m", "--config-dir=conf", "force=true", "budget='100','500'", "quiet=true", "seed=0,1"]):
        assert spell_continuing() == "fmsteal -m --config-dir=conf budget=100,500 seed=0,1"
        with record_words(["-m", "hydra.sweeper.of='a b'"]):
            assert spell_continuing() == """fmsteal -m "hydra.sweeper.of='a b'\""""
        assert spell_continuing().endswith("seed=0,1")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cfg", "job", "-q", "seed=3", "budget=100", "--package", "budget"], "queries: 100"),
        (["--cfg", "job", "-q", "seed=3"], "quiet: true"),
        (["evaluate", "--help"], "usage: fmsteal evaluate"),
        (["status", "--help"], "usage: fmsteal status"),
    ],
    ids=" ".join,
)
def test_words_are_taken_in_place_of_those_of_the_process(
    words: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", argv := ["another", "--of", "its=own"])
    given = list(words)
    try:
        with borrow_hydra():
            cli.main(words)
    except SystemExit as end:
        assert not end.code
    assert says in capsys.readouterr().out
    assert words == given and sys.argv is argv and argv == ["another", "--of", "its=own"]


def test_a_sweep_is_named_beside_its_other_overrides() -> None:
    for words, place in (
        (["-m", "seed=0,1", "budget=100", "--config-dir=conf"], 3),
        (["--config-dir=conf", "-m", "seed=0,1"], 3),
        (["-m"], 1),
    ):
        named = [*words[:place], "sweep_id=mine", *words[place:]]
        assert parse(named).overrides[-1] == "sweep_id=mine"
        found = list(cli._insert_name(words, parse(words)))
        assert found[place].startswith("sweep_id=sweep-") and found[:place] + found[place + 1 :] == words
    words = ["-m", "seed=0,1", "sweep_id=mine"]
    assert cli._insert_name(words, parse(words)) == words
