"""An attack from somebody else's package, found by ``hydra.searchpath``; and one that fails."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.outputs import only_run, only_theft
from tests.support.warm import Command

ATTACK = '''
from dataclasses import dataclass

from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.selection import Selection
from fmsteal.data.images import Images
from fmsteal.training.classifier import Loss
from fmsteal.oracle.oracle import Budget, Oracle


@dataclass(frozen=True)
class Twice:
    """Asks about every image twice and averages the answers."""

    selection: Selection
    loss: Loss

    def check(self, budget: Budget, pool: Images) -> None:
        """Anything goes."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        ids = self.selection(len(pool), oracle.budget.queries // 2, ctx.seed)
        answers = (oracle.ask(ids) + oracle.ask(ids)) / 2
        return self.end(ctx.fit_thief(pool, ids, answers, self.loss), oracle, ids)

    def end(self, thief, oracle, ids):
        return thief


class Raises(Twice):
    def end(self, thief, oracle, ids):
        return {}["nothing"]


'''
YAML = """# An attack of our own.
defaults:
  - selection: random
  - loss: soft
  - _self_
_target_: theirs.attack.{name}
"""


def steal(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run the attack ``name`` of a package that lies outside of the repository."""
    conf = root / "theirs" / "conf" / "attack"
    conf.mkdir(parents=True)
    for package in (root / "theirs", root / "theirs" / "conf"):
        (package / "__init__.py").touch()
    (root / "theirs" / "attack.py").write_text(ATTACK)
    (conf / "own.yaml").write_text(YAML.format(name=name))
    env = environment()
    env["PYTHONPATH"] = f"{root}:{env.get('PYTHONPATH', '')}"
    return Command(("hydra.searchpath=[pkg://theirs.conf]", "attack=own", *SMALL), root, env).done()


def test_an_attack_of_another_package_is_an_attack_like_any_other(tmp_path: Path) -> None:
    done = steal(tmp_path, "Twice")
    assert done.returncode == 0, done.stderr
    result = json.loads((only_run(tmp_path) / "result.json").read_text())
    assert result["axis"]["attack"] == "own" and result["cost"]["cost/queries"] == 100


def test_an_attack_that_fails_is_named_and_leaves_its_ledger(tmp_path: Path) -> None:
    done = steal(tmp_path, "Raises")
    says = "theirs.attack.Raises: it failed after 100 queries (KeyError: 'nothing')"
    assert done.returncode == 1 and says in done.stderr and "Traceback" not in done.stderr, done.stderr
    folder = only_run(tmp_path)
    assert not (folder / "result.json").exists()
    failure = json.loads((folder / "failure.json").read_text())
    assert "-own-" in failure["job_key"] and "Traceback" in failure["traceback"]
    record = 4 + 4 + 16 + 4 + 4 * 10
    assert len(only_theft(tmp_path).ledger.read_bytes().partition(b"\n")[2]) == 100 * record
