"""What goes wrong in an attack, or with its thief, is said in its name, and leaves the ledger whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.errors import AttackError, BudgetExceeded, DataError
from fmsteal.job.pipeline import run
from fmsteal.job.publish import JobInfo
from fmsteal.job.steal import blame_attack, name_attack
from fmsteal.records.folders import TheftFolder
from tests.support.colour_api import oracle_for
from tests.support.composing import SMALL, composed
from tests.support.small_task import context


@pytest.mark.parametrize(
    ("raised", "kind", "says"),
    [
        (BudgetExceeded("3 questions asked"), BudgetExceeded, "theirs.Own: 3 questions asked"),
        (AttackError("it returned str"), AttackError, "theirs.Own: it returned str"),
        (DataError("no such file"), DataError, "no such file"),
        (KeyError("nothing"), AttackError, r"theirs.Own: it failed after 0 queries \(KeyError: 'nothing'\)"),
    ],
)
def test_an_attack_is_named(raised: Exception, kind: type[Exception], says: str, tmp_path: Path) -> None:
    with (
        pytest.raises(kind, match=f"^{says}"),
        name_attack("theirs.Own"),
        blame_attack(oracle_for(context(tmp_path), 5)),
    ):
        raise raised


KEY = "job-0123456789abcdef"


def job_config(*overrides: str) -> DictConfig:
    """The config of a small job as it reaches the pipeline: without the ``hydra`` node."""
    cfg = composed(*SMALL, *overrides)
    return OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the jobs of this file find one victim."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("attack", "kind", "says"),
    [
        ("AsksTooMuch", BudgetExceeded, "budget"),
        ("Raises", AttackError, "it failed after 100 queries"),
        ("ReturnsNoModel", AttackError, "it returned str"),
        ("OtherClasses", AttackError, "10"),
        ("Diverges", AttackError, "not finite"),
    ],
)
def test_an_attack_that_misbehaves_ends_its_job_and_leaves_its_ledger(
    attack: str, kind: type[Exception], says: str, cache: Path, tmp_path: Path
) -> None:
    target = f"tests.support.misbehaving.{attack}"
    cfg = job_config("budget='100'", f"attack._target_={target}", f"cache={cache}", f"output={tmp_path}")
    with pytest.raises(kind, match=f"^{target}: .*{says}"):
        run(cfg, JobInfo(KEY, tmp_path / "job", {}, "", "victim"))
    theft = TheftFolder(tmp_path / "thefts" / KEY)
    assert not (tmp_path / "job" / "result.json").exists() and not theft.seal.exists()
    header, _, records = theft.ledger.read_bytes().partition(b"\n")
    assert f"{KEY[-16:]} against " in header.decode()
    record = 4 + 4 + 16 + 4 + 4 * 10
    assert len(records) == 100 * record
