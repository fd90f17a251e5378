"""A defense from somebody else's package that remembers, charges, delays, flags, refuses and widens, in a real job."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.outputs import only_run, only_theft
from tests.support.wandb_file import offline_runs
from tests.support.warm import Command

DEFENSE = '''
import torch

from fmsteal.defenses.base import RowDefense, RowGuard
from fmsteal.oracle.guard import Ask, Reply


class Meter:
    """Counts what it has answered, and says so beside the answer."""

    def __init__(self, width):
        self.width, self.count = width + 1, 0

    def reply(self, ask: Ask) -> Reply:
        counts = self.count + 1 + torch.arange(len(ask.questions))
        return Reply(
            torch.cat([ask.answers, counts[:, None] / 1000], dim=1),
            log=[b"+"] * len(counts),
            usd=torch.full((len(counts),), 0.01),
            seconds=(counts > 90) * 0.5,
            flags={"late": counts > 80},
        )

    def fold(self, questions, log):
        self.count += len(log)


class Metered:
    depends = "all"

    def prepare(self, victim, train, ctx):
        assert len(train) > 0 and train.labels is not None
        return Meter(victim.width)


class Gate(RowGuard):
    def reply(self, ask):
        return Reply(ask.answers, refused=torch.arange(len(ask.questions)) < 3)


class Refusing(RowDefense):
    def prepare(self, victim, train, ctx):
        return Gate(self, victim.width)


class Narrow(RowDefense):
    def protect(self, answers, ask):
        return answers[:, :3]
'''
ATTACK = '''
from dataclasses import dataclass

from fmsteal.attacks.knockoff import Knockoff
from fmsteal.base.errors import Refused


@dataclass(frozen=True)
class Patient(Knockoff):
    """Learns from the first ten numbers of each answer, and goes on after a refusal."""

    def transfer_set(self, oracle, ids, seed):
        try:
            return ids, oracle.ask(ids)[:, :10]
        except Refused as refusal:
            return ids[refusal.answered], refusal.answers
'''
OF_ATTACK = """# An attack of our own.
defaults:
  - selection: random
  - loss: soft
  - _self_
_target_: theirs.attack.Patient
"""
OF_DEFENSE = """# A defense of our own.
_target_: theirs.defense.{name}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The override by which these jobs share their victim."""
    return f"cache={tmp_path_factory.mktemp('cache')}"


def steal(root: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Steal past the defense ``name`` of a package that lies outside of the repository."""
    conf = root / "theirs" / "conf"
    for group in ("attack", "defense"):
        (conf / group).mkdir(parents=True)
    for package in (root / "theirs", conf):
        (package / "__init__.py").touch()
    (root / "theirs" / "attack.py").write_text(ATTACK)
    (root / "theirs" / "defense.py").write_text(DEFENSE)
    (conf / "attack" / "patient.yaml").write_text(OF_ATTACK)
    (conf / "defense" / "own.yaml").write_text(OF_DEFENSE.format(name=name))
    env = environment()
    env["PYTHONPATH"] = f"{root}:{env.get('PYTHONPATH', '')}"
    small = [word for word in SMALL if word != "tracker=none"]
    return Command(("hydra.searchpath=[pkg://theirs.conf]", *words, *small), root, env).done()


def test_what_a_defense_charged_delayed_and_flagged_is_in_the_result_and_in_wandb(cache: str, tmp_path: Path) -> None:
    done = steal(tmp_path, "Metered", cache, "defense=own", "attack=patient")
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    cost = json.loads((folder / "result.json").read_text())["cost"]
    wanted = {"cost/queries": 100, "cost/defense_usd": 1.0, "cost/delay_seconds": 5.0, "cost/flags/late": 20.0}
    assert {name: cost[name] for name in wanted} == pytest.approx(wanted)
    assert cost["cost/usd"] == pytest.approx(1.0 + 100 * 0.0015, abs=1e-6) and "cost/refused" not in cost
    record = 4 + 4 + 16 + 4 + 4 * 11
    assert len(only_theft(tmp_path).ledger.read_bytes().partition(b"\n")[2]) == 100 * record, "the answers are wider"
    assert only_theft(tmp_path).defense_log.is_file()
    (run,) = offline_runs(tmp_path)
    assert {name: run.summary[name] for name in wanted} == pytest.approx(wanted)
    assert run.summary["api/width"] == json.loads((folder / "result.json").read_text())["width"] == 11


@pytest.mark.slow
def test_an_attack_may_go_on_after_a_refusal(cache: str, tmp_path: Path) -> None:
    done = steal(tmp_path, "Refusing", cache, "defense=own", "attack=patient")
    assert done.returncode == 0, done.stderr
    cost = json.loads((only_run(tmp_path) / "result.json").read_text())["cost"]
    assert cost["cost/queries"] == 97 and cost["cost/refused"] == 3
    (run,) = offline_runs(tmp_path)
    assert (run.summary["cost/queries"], run.summary["cost/refused"]) == (97, 3)


@pytest.mark.slow
def test_one_that_does_not_go_on_ends_with_the_defenses_name(cache: str, tmp_path: Path) -> None:
    done = steal(tmp_path, "Refusing", cache, "defense=own")
    assert done.returncode == 1 and "theirs.defense.Refusing refused 3 of 100 questions" in done.stderr, done.stderr


@pytest.mark.slow
def test_a_defense_that_breaks_its_contract_is_named_before_anything_is_counted(cache: str, tmp_path: Path) -> None:
    done = steal(tmp_path, "Narrow", cache, "defense=chain", "+defense@defense.of.a=top_k", "+defense@defense.of.b=own")
    says = "theirs.defense.Narrow returned (100, 3) where (100, 10) was due"
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not only_theft(tmp_path).ledger.exists()
