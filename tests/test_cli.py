"""The command line as a person meets it: help, misspellings, missing values. Torch stays out of all of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal import __version__
from fmsteal.base.quoting import quote_override, spell_command
from tests.support.commands import environment

CODE = """
import sys
sys.argv[0] = "fmsteal"
from fmsteal.cli import main
try:
    main()
finally:
    heavy = {"torch", "lightning", "wandb", "timm", "numpy"} & set(sys.modules)
    print("HEAVY", sorted(heavy))
"""


def light(*args: str, cwd: Path) -> tuple[int, str]:
    """Run the command and check that nothing heavy was imported; returns the exit code and all output."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *args], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert "HEAVY []" in done.stdout, done.stdout[-500:] + done.stderr[-2000:]
    assert not list(cwd.iterdir())  # and nothing was written
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "args", [["--help"], ["--cfg", "job"], ["--info", "config"], ["status", "--help"]], ids=" ".join
)
def test_a_reader_that_leaves_early_meets_no_trace(args: list[str], tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)  # as `| head` after its last line
    with os.fdopen(writes, "wb") as gone:
        command = [sys.executable, "-m", "fmsteal", *args]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), stdout=gone, stderr=subprocess.PIPE, timeout=60)
    assert done.stderr.decode() == "" and done.returncode in (0, 141)


START = "import sys; sys.argv[0] = 'fmsteal'; from fmsteal.cli import main; main()"
TYPED = {
    "fmsteal re": {"report", "results", "reuse="},
    "fmsteal budget=1": {"budget=100", "budget=10k", "budget=1k"},
    "fmsteal status ": {"bin"},  # the folders that are there, no settings of a job
    "fmsteal evaluate bin evaluation=oo": {"evaluation=ood"},
}


def test_sub_commands_complete_and_so_do_axes(tmp_path: Path) -> None:
    """In a real Bash, with the completion that `fmsteal -sc install=bash` installs."""
    program = tmp_path / "bin" / "fmsteal"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{START}" "$@"\n')
    program.chmod(0o755)
    script = ['eval "$(fmsteal -sc install=bash)"']
    for typed in TYPED:
        place = f"COMP_LINE='{typed}' COMP_POINT={len(typed)} COMP_CWORD={typed.count(' ')}"
        script += [place, "hydra_bash_completion", 'echo "${COMPREPLY[@]}"']
    env = {**environment(), "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    for (typed, wanted), said in zip(TYPED.items(), done.stdout.splitlines(), strict=True):
        assert wanted <= set(said.split()) and (typed.endswith(" re") or wanted == set(said.split())), (typed, said)


def test_it_says_its_version(tmp_path: Path) -> None:
    code, said = light("--version", cwd=tmp_path)
    assert code == 0 and f"fmsteal {__version__} (Hydra 1." in said


def test_help_lists_the_axes(tmp_path: Path) -> None:
    code, said = light("--help", cwd=tmp_path)
    assert code == 0
    for line in (
        "budget: 0, 100, 10k, 1k",
        "defense: adaptive_misinformation, adaptive_misinformation_oe, b4b, chain, client_limits, credit",
        "sweep: attacks, defenses, encoder_defenses, encoders_ablation_mini, encoders_mini, fm_vs_resnet_mini",
        "sweep/paper: budget_curve, caltech256_fft",
        "sweep/tune: against_defense",
        "fmsteal -m budget=",
        "fmsteal audit i_am_authorised=true victim=...",
        "fmsteal risk victim=...",
    ):
        assert line in said


def test_the_config_is_shown(tmp_path: Path) -> None:
    code, said = light("--cfg", "job", "budget=1k", "defense=hard_label", "seed=3", cwd=tmp_path)
    assert code == 0 and "queries: 1000" in said and "HardLabel" in said and "\nseed: 3" in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["bugdet=1k"], ["no option 'bugdet'", "Did you mean 'budget'", "dry_run, edition, evaluation"]),
        (["defense=hard_labl"], ["defense/hard_labl", "hard_label", "top_k"]),
        (["victim.adaption=full"], ["'victim.adaption'", "Did you mean 'victim.adaptation'", "backbone, recipe"]),
        (["thief.recipe.epoch=3"], ["Did you mean 'thief.recipe.epochs'", "batch_size"]),
        (["seed=abc"], ["seed=abc", "Integer"]),
        (["budget=7k"], ["budget/7k", "2k5"]),
        (["data=image_folder"], ["data.root must be given"]),
        (["sweep=quickstart"], ["run it with -m"]),
        (["-m", "sweep=quickstrat"], ["sweep/quickstrat", "Did you mean 'quickstart'?"]),
        (["data=image_folder", "data.root=birds", "query.root=x"], ["there is no option 'query.root'. 'query' has: "]),
        (["attack/loss=sofft"], ["attack/loss/sofft", "Did you mean 'soft'?"]),
        (["-m", "sweep=paper/cifar10"], ["sweep/paper/cifar10", "cifar10_lp"]),
        (["-m", "sweep=paper/cifar10_lp"], ["query.root must be given"]),
        (["-m", "budget=100,500", "thief=a,b"], ["thief/a", "resnet10t"]),
        (["-m", "budget=100,7k"], ["budget/7k"]),
        (["-m", "sed=1,2"], ["Did you mean 'seed'"]),
        (["defense=null"], ["defense"]),
        (
            ["defense=[rounding,top_k]"],
            ["one choice, not a list", "defense=chain +defense@defense.of.a=rounding +defense@defense.of.b=top_k"],
        ),
        (["-m", "budget=100,[1k,500]"], ["budget is one choice, not a list"]),
        (["notes.why=x"], ["Add it with +notes.why="]),
        (["--cfg", "job", "-m", "seed=1,2"], ["leave out -m"]),
        (["-m", "seed=1,x"], ["seed=x", "Integer"]),
        (["budget=1k,5k"], ["--multirun"]),
        (["budget"], ["budget"]),
        (["-m", "hydra.sweeper.params.budget=100,500"], ["hydra.sweeper.params.budget cannot be swept"]),
        (["seed=0,1", "budget=7k", "-m"], ["budget/7k"]),
        (["a=[1"], ["a=[1"]),
        (["+bogus=1"], ["nothing reads 'bogus'", "+notes.bogus="]),
        (["-m", "+sede=1", "budget=100,500"], ["nothing reads 'sede'", "Did you mean 'seed'"]),
        (
            ["victim.backbone.weights=/my.pth", "victim.adaptation=scratch"],
            ["victim.backbone.weights=/my.pth has no effect with victim.adaptation=scratch", "change victim"],
        ),
        (["thief.recipe.gamma=0.5"], ["thief.recipe.gamma=0.5 has no effect with thief.recipe.schedule=cosine"]),
        (["-m", "seed=range(0,0)"], ["seed=range(0,0) holds no value", "range(0,3) is 0,1,2"]),
        (["-m", "seed=range(3,1)", "budget=1k,500"], ["seed=range(3,1) holds no value"]),
        (["-m", "budget=glob(x*)"], ["budget=glob(x*) holds no value", "There is: 0, 100, 10k, 1k"]),
        (["-m", "thief.recipe.lr=interval(0,1)"], ["interval(0,1) has no end of values", "hydra/sweeper=optuna"]),
        (["metric=test/agrement"], ["Did you mean test/agreement", "test/kl"]),
        (["audit", "victim=resnet10t"], ["An audit asks a model as attackers would", "i_am_authorised=true"]),
        (["audit", "i_am_authorised=true", "attack=solve"], ["an audit sets attack itself: --attacks"]),
        (["risk", "a", "b"], ["One victim at a time, not 2: a, b"]),
        (["risk", "task=embed"], ["answers with embeddings", "fmsteal audit task=embed"]),
        (["attack=dfme", "thief.recipe.epochs=3"], ["thief.recipe.epochs=3 has no effect with attack=dfme"]),
    ],
    ids=" ".join,
)
def test_nonsense_is_named_and_what_there_is_listed(args: list[str], says: list[str], tmp_path: Path) -> None:
    code, said = light(*args, cwd=tmp_path)
    assert code == 1
    for words in says:
        assert words in said, said


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("budget=100", "budget='100'"),
        ("budget=100,500,1k", "budget='100','500',1k"),
        ("budget=1k,2k5", "budget=1k,2k5"),
        ("seed=1,2", "seed=1,2"),
        ("budget.queries=100", "budget.queries=100"),
        ("budget='100'", "budget='100'"),
        ("-m", "-m"),
        ("output=/tmp/josé", 'output="/tmp/josé"'),
        ("data.root=/tmp/a b", "data.root=/tmp/a b"),
    ],
)
def test_numeric_names_of_a_group_are_quoted(given_: str, wanted: str) -> None:
    assert quote_override(given_) == wanted


NAMES = st.sampled_from(["100", "1k", "7", "1e3", "a_b", "2.5"])


@given(st.one_of(st.text(max_size=30), st.lists(NAMES, min_size=1).map(lambda n: f"budget={','.join(n)}")))
def test_quoting_is_idempotent(word: str) -> None:
    assert quote_override(quote_override(word)) == quote_override(word)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (["fmsteal", "budget=100", "seed=3"], "fmsteal budget=100 seed=3"),
        (["fmsteal", "-m", "budget=100,500,1k", "thief=a,b"], "fmsteal -m budget=100,500,1k thief=a,b"),
        (["fmsteal", "+notes.why='100'"], "fmsteal \"+notes.why='100'\""),  # text that looks like a number stays text
        (["fmsteal", "data.root='/a b'"], "fmsteal \"data.root='/a b'\""),
        (["fmsteal", "output=/tmp/josé"], "fmsteal 'output=/tmp/josé'"),
        (["fmsteal", "-m", "seed=range(3)", "~tracker"], "fmsteal -m 'seed=range(3)' '~tracker'"),
        (["fmsteal", "+notes.x='$HOME `a` \"b\"'"], 'fmsteal "+notes.x=\'\\$HOME \\`a\\` \\"b\\"\'"'),
    ],
)
def test_a_command_is_shown_as_one_would_type_it(typed: list[str], shown: str) -> None:
    assert spell_command([quote_override(word) for word in typed]) == shown


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
SETTINGS = st.builds("{}={}".format, st.sampled_from(["budget", "+notes.x", "output", "attack.k"]), WORDS)


@settings(max_examples=3)
@given(st.lists(st.one_of(WORDS, SETTINGS, NAMES.map("budget={}".format)), min_size=30, max_size=60))
def test_a_shell_reads_the_words_again(typed: list[str]) -> None:
    words = [quote_override(word) for word in typed]
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {spell_command(words)}"], capture_output=True, check=True)
    assert [quote_override(word) for word in done.stdout.decode().split("\0")[:-1]] == words
