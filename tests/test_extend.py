"""Each recipe of CONTRIBUTING.md is run as it stands there, from a package outside of the repository."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import command, environment
from tests.support.composing import SMALL, SMOKE, TINY
from tests.support.outputs import theft_of_job
from tests.support.warm import Command

DOCUMENT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", DOCUMENT, re.DOTALL | re.MULTILINE))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CHOSEN = ("tracker", "trainer", "victim", "thief")  # groups of `SMALL` that a recipe may choose itself
ENCODER = (  # measured by little: the evaluation of encoders takes longer than all else
    *SMOKE, "attack.recipe.epochs=1", "~evaluation.also.fidelity", "evaluation.heads.linear.iterations=20",
    "evaluation.images=50", "evaluation.downstream.digits.train_count=100", "evaluation.downstream.digits.test=50",
    "data.train_count=100", "data.test=50",
)  # fmt: skip
FOR_ITSELF = (  # a victim that has no recipe, which `experiment=smoke` would shorten
    "budget=100", "query.count=300", "tracker=none", "trainer=cpu", "thief=resnet10t", f"thief.{TINY}",
    "recipes.scratch={epochs: 1, min_steps: 0}",
)  # fmt: skip
BACKBONE = "victim=resnet14t"


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of a language."""
    return [content for language, content in BLOCK.findall(text) if language == kind]


def commands(text: str) -> list[list[str]]:
    """The commands of a recipe, as words."""
    lines = [line for block in blocks(text, "bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("fmsteal ")]


def shortened(words: list[str]) -> list[str]:
    """What is added to a command so that its job takes seconds, but for what it chooses itself."""
    if "victim=nearest" in words:
        return list(FOR_ITSELF)
    if BACKBONE in words:
        return list(SMOKE)
    if "task=embed" in words:
        return list(ENCODER)
    return [word for word in SMALL if word.split("=")[0] not in CHOSEN or not has(words, word.split("=")[0])]


def has(words: list[str], group: str) -> bool:
    return any(word.startswith(f"{group}=") for word in words)


def env(root: Path) -> dict[str, str]:
    known = environment()
    return {**known, "PYTHONPATH": f"{root}:{known.get('PYTHONPATH', '')}"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package ``theirs``, written from the document."""
    place = tmp_path_factory.mktemp("theirs")
    for text in RECIPES.values():
        for kind in ("python", "yaml"):
            for content in blocks(text, kind):
                file = place / content.partition("\n")[0].removeprefix("# ")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)
    for package in (place / "theirs", place / "theirs" / "conf"):
        (package / "__init__.py").touch()
    return place


def run(root: Path, words: list[str], ok: bool = True) -> str:
    """Run a command in the folder; all it said."""
    done = Command(tuple(words), root, env(root), joined=True)
    said, _ = done.communicate()
    assert (done.returncode == 0) == ok, said
    assert "Traceback" not in said, said
    return said


def latest(root: Path) -> Path:
    """The job that was run last: one that is measured or tracked otherwise has the key of an earlier one."""
    return max((root / "outputs" / "runs").iterdir(), key=lambda job: (job / ".hydra" / "config.yaml").stat().st_mtime)


def identified(job: Path, target: str) -> None:
    """The theft's identity names the class."""
    theft = json.loads((theft_of_job(job).path / "theft.json").read_text())
    assert target in json.dumps(theft["identity"]), theft["identity"]


def asked_twice(job: Path, result: Mapping[str, Any], said: str) -> None:
    rows = theft_of_job(job).ledger.read_bytes().partition(b"\n")[2]
    images = [rows[start + 8 : start + 24] for start in range(0, len(rows), len(rows) // 100)]
    assert len(images) == 100 and len(set(images)) == 50


def charged(job: Path, result: Mapping[str, Any], said: str) -> None:
    assert result["cost"]["cost/defense_usd"] == pytest.approx(0.001 * sum(range(100)))


def measured(job: Path, result: Mapping[str, Any], said: str) -> None:
    assert result["metrics"]["margin/distance"] > 0


def timed(job: Path, result: Mapping[str, Any], said: str) -> None:
    assert re.search(r"epoch 1 took \d+\.\d\d s", said), said


def tracked(job: Path, result: Mapping[str, Any], said: str) -> None:
    assert f"test/agreement {result['metrics']['test/agreement']}" in (job / "summary.txt").read_text()


def knows_shapes(job: Path, result: Mapping[str, Any], said: str) -> None:
    assert result["metrics"]["test/victim_accuracy"] <= 1
    assert (job / "tables" / "test" / "per_class.csv").read_text().count("square") == 1


def knows_digits(job: Path, result: Mapping[str, Any], said: str) -> None:
    assert result["metrics"]["test/victim_accuracy"] > 0.8, "the nearest mean tells digits apart"


def is_the_backbone(job: Path, result: Mapping[str, Any], said: str) -> None:
    identity = json.loads((theft_of_job(job).path / "theft.json").read_text())["identity"]
    for part in (identity["victim"], identity["thief"]):
        assert (part["backbone"]["model"], part["adaptation"], part["backbone"]["size"]) == ("resnet14t", "scratch", 32)
    assert result["axis"]["victim"] == result["axis"]["thief"] == "resnet14t"


EVIDENCE: dict[str, Callable[[Path, Mapping[str, Any], str], None]] = {
    "Add an attack": asked_twice,
    "Add a defense that remembers": charged,
    "Add a data set": knows_shapes,
    "Add a backbone": is_the_backbone,
    "Add a victim": knows_digits,
    "Add a measurement": measured,
    "Add a callback": timed,
    "Add a tracker": tracked,
}
NO_PART = ("Add a measurement", "Add a tracker")  # of a theft's identity
NO_CODE = ("Add a backbone",)
SLOW = (  # like others, or shown by tests of the framework
    "Add an attack in rounds", "Add an attack on an encoder", "Add a strategy of ActiveThief", "Add a backbone",
    "Add an optimizer, or a schedule", "Add a callback", "Add a data set", "Add a measurement", "Add a query set",
    "Add a selection", "Add a defense that remembers",
)  # fmt: skip


def test_there_is_a_recipe_for_everything() -> None:
    assert list(RECIPES) == [
        "Add an attack", "Add an attack in rounds", "Add an attack on an encoder", "Add a selection",
        "Add a strategy of ActiveThief", "Add a loss", "Add a defense", "Add a defense that remembers",
        "Add a data set", "Add a query set", "Add a backbone", "Add a victim", "Add a measurement", "Add a callback",
        "Add a tracker", "Add an optimizer, or a schedule",
    ]  # fmt: skip
    for heading, text in RECIPES.items():
        assert commands(text) and blocks(text, "yaml") and bool(blocks(text, "python")) == (heading not in NO_CODE)


@pytest.mark.parametrize(
    ("heading", "words"),
    [
        pytest.param(heading, words, marks=pytest.mark.slow if heading in SLOW else ())
        for heading, text in RECIPES.items()
        for words in commands(text)
    ],
    ids=str,
)
def test_a_recipe_works_as_it_is_written(heading: str, words: list[str], root: Path) -> None:
    said = run(root, [*words[1:], *shortened(words)])
    job = latest(root)
    result = json.loads((job / "result.json").read_text())
    assert result["cost"]["cost/queries"] == 100
    assert ("hydra.searchpath=" in result["command"]) == any(w.startswith("hydra.searchpath=") for w in words)
    if any(word.startswith("hydra.searchpath=") for word in words) and heading not in NO_PART + NO_CODE:
        identified(job, re.findall(r"_target_: (theirs\.[\w.]+)", blocks(RECIPES[heading], "yaml")[0])[0])
    EVIDENCE.get(heading, lambda *_: None)(job, result, said)


def test_the_names_are_few_documented_and_used() -> None:
    extend = import_module("fmsteal.extend")  # here: it imports torch, which the commands do for themselves
    assert 15 <= len(extend.__all__) <= 20 and list(extend.__all__) == sorted(extend.__all__)
    table = DOCUMENT.partition("| name |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))) == set(
        extend.__all__
    )
    assert imported("fmsteal.extend") == set(extend.__all__)


def test_recipes_need_nothing_else_of_the_package() -> None:
    assert imported("fmsteal") == imported("fmsteal.extend")
    yamls = "".join(content for text in RECIPES.values() for content in blocks(text, "yaml"))
    assert set(re.findall(r"fmsteal\.\w+", yamls)) == {"fmsteal.extend"}


def imported(package: str) -> set[str]:
    """The names that the recipes import from a package, or from modules below it."""
    trees = [ast.parse(content) for text in RECIPES.values() for content in blocks(text, "python")]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
    assert not any(isinstance(n, ast.Import) and n.names[0].name.startswith("fmsteal") for n in found)
    froms = [node for node in found if isinstance(node, ast.ImportFrom)]
    ours = [n for n in froms if n.module == package or (n.module or "").startswith(f"{package}.")]
    return {alias.name for node in ours for alias in node.names}


def test_a_class_that_is_named_through_the_face_is_the_class_itself() -> None:
    from fmsteal.identity import table

    assert table.find("fmsteal.extend.Recipe") is table.find("fmsteal.training.recipe.Recipe") is not None
    assert table.find("fmsteal.extend.Nothing") is None


SEARCH = "hydra.searchpath=[pkg://theirs.conf]"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([SEARCH, "attack=twice", "attack.repeat=3"], "there is no option 'attack.repeat'. Did you mean 'attack.rep"),
        ([SEARCH, "attack=twise"], "\ttwice"),
        ([SEARCH, "thief=resnet41t"], "\tresnet14t"),
        ([SEARCH, BACKBONE, "victim.backbone.sise=1"], "Did you mean 'victim.backbone.size'?"),
        ([SEARCH, BACKBONE, "thief=encoder_resnet10"], ", resnet14t, resnet18"),
        ([SEARCH, "attack=angles"], "theirs.angles.Angles) is made for embeddings"),
        ([SEARCH, "attack=direct"], ", solve_hybrid, top1, trunk_inference, twice. Or choose the other API"),
        ([SEARCH, "defense=uniform", "defense.mos=1"], "Did you mean 'defense.most'?"),
        ([SEARCH, "attack=twice", "attack.repeats=0"], "attack (theirs.twice.Twice) cannot be made: ValueError: repea"),
        (["hydra.searchpath=[pkg://thiers.conf]", "attack=twice"], "there is no package thiers.conf"),
        (["hydra.searchpath=[file:///nowhere]", "attack=twice"], "there is no folder /nowhere"),
        (["hydra.searchpath=[theirs.conf]", "attack=twice"], "a package is pkg://name.conf"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_foreign_choice_is_said_as_of_ours(words: list[str], says: str, root: Path) -> None:
    small = [word for word in SMALL if not has(words, word.split("=")[0])]
    assert says in run(root, [*words, *small], ok=False)


def test_help_lists_the_choices_of_other_packages(root: Path) -> None:
    said = run(root, [SEARCH, "--help"])
    assert re.search(r"^attack: .*\btwice\b", said, re.MULTILINE) and re.search(r"^data: .*\bshapes\b", said, re.M)
    assert all(re.search(rf"^{who}: .*\bresnet14t\b", said, re.MULTILINE) for who in ("backbone", "victim", "thief"))
    plain = run(root, ["--help"])
    assert "twice" not in plain and "resnet14t" not in plain


def test_a_sweep_says_of_all_its_jobs_what_is_wrong_with_one(root: Path) -> None:
    words = ["-m", SEARCH, *SMALL, "attack=twice", "attack.repeats=1,0"]
    said = run(root, words, ok=False)
    assert "theirs.twice.Twice" in said and "repeats must be at least 1" in said, said
    assert not list((root / "outputs").glob("sweeps/*/*-twice-*/result.json"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]],
    ids=str,
)
def test_a_foreign_backbone_is_in_every_process_of_a_sweep(launcher: list[str], root: Path) -> None:
    """By a cold command: joblib starts no workers in a fork server's child."""
    if launcher:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    name = "joblib" if launcher else "plain"
    words = ["-m", SEARCH, *SMOKE, BACKBONE, "thief=resnet14t,resnet10t", f"sweep_id={name}", *launcher]
    cold = subprocess.run(command(*words), cwd=root, env=env(root), text=True, capture_output=True, timeout=500)
    assert cold.returncode == 0, cold.stdout + cold.stderr
    thieves = {
        json.loads(file.read_text())["axis"]["thief"] for file in root.glob(f"outputs/sweeps/{name}/*/result.json")
    }
    assert thieves == {"resnet14t", "resnet10t"}


def test_a_foreign_backbone_is_a_choice_from_python_too_and_leaves_nothing_behind(root: Path) -> None:
    code = """
import fmsteal
from hydra.core.config_store import ConfigStore
from fmsteal.base.errors import ConfigError
words = ["hydra.searchpath=[pkg://theirs.conf]", "victim=resnet14t"]
assert fmsteal.compose(words).victim.backbone.model == "resnet14t"
assert "victim" not in ConfigStore.instance().repo, ConfigStore.instance().repo.keys()
try:
    fmsteal.compose(words[1:])
except ConfigError as error:
    print("REFUSED", error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=env(root), capture_output=True, text=True)
    assert "REFUSED" in done.stdout and "resnet10t" in done.stdout and "resnet14t\n" not in done.stdout, done
