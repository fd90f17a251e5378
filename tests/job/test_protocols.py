"""A part that cannot do what is asked of it is refused before anything is trained, by its own name."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.base.errors import ConfigError, VictimError
from fmsteal.data.images import Images, Task
from fmsteal.job import protocols
from fmsteal.job.parts import Parts
from fmsteal.oracle.oracle import Budget
from fmsteal.victims.base import Victim
from tests.support.composing import SMALL, composed

HERE = "tests.job.test_protocols"
POOL = Images.of(np.zeros((4, 3, 2, 2), np.uint8))
TASK = Task(*2 * [Images.of(np.zeros((4, 3, 2, 2), np.uint8), np.array([0, 1, 0, 1]), ("a", "b"))])


class Nothing:
    """Has no method at all."""


class Forgets:
    def run(self, oracle: Any, ctx: Any) -> nn.Module:
        return nn.Identity()


class Checks:
    def check(self, budget: Budget) -> None: ...

    def run(self, oracle: Any, pool: Any, ctx: Any) -> nn.Module:
        return nn.Identity()


class Refuses(Checks):
    def check(self, budget: Budget, pool: Images) -> None:  # type: ignore[override]
        raise ValueError("too many questions")


class Makes:
    answers: ClassVar[str] = "probabilities"

    def __init__(self, made: Any = None) -> None:
        self.made = made

    def prepare(self, task: Task, ctx: Any) -> Any:
        if self.made is None:
            raise KeyError("weights")
        return self.made


class Numbers:
    """As a data set of PyTorch."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.zeros(3, 2, 2), place


def alone(pool: int) -> np.ndarray:
    return np.arange(pool)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["attack={_target_: HERE.Nothing}"], "attack (HERE.Nothing) has no method run(oracle, pool, ctx)."),
        (
            ["attack={_target_: HERE.Forgets}"],
            "attack (HERE.Forgets): run is called with (oracle, pool, ctx), but it t",
        ),
        (["attack={_target_: HERE.Checks}"], "attack (HERE.Checks): check is called with (budget, pool), but it takes"),
        (["attack.selection={_target_: HERE.alone, _partial_: true}"], "attack.selection is called with (pool, count,"),
        (["victim={_target_: HERE.Nothing}"], "victim (HERE.Nothing) has no method prepare(task, ctx)."),
        (["defense={_target_: HERE.Nothing}"], "defense (HERE.Nothing) has no method prepare(victim, train, ctx)."),
        (["tracker={_target_: HERE.Nothing}"], "tracker (HERE.Nothing) has no method open(run)."),
        (["thief={_target_: HERE.Nothing}"], "thief (HERE.Nothing) is no "),
        (["evaluation={_target_: HERE.Forgets}"], "evaluation (HERE.Forgets) has no name"),
        (["evaluation.also={x: {_target_: HERE.Nothing}}"], "evaluation.also.x (HERE.Nothing) has no method run(pair,"),
        (["trainer.callbacks=[{_target_: HERE.Nothing}]"], "trainer.callbacks.0 (HERE.Nothing) is no lightning"),
    ],
    ids=str,
)
def test_the_part_that_lacks_something_is_named(words: list[str], says: str) -> None:
    cfg = composed(*SMALL)
    for word in words:
        key, _, value = word.replace("HERE", HERE).partition("=")
        replace(cfg, key, value)
    with pytest.raises(ConfigError) as caught:
        Parts.of(cfg)
    assert says.replace("HERE", HERE) in str(caught.value)


def replace(cfg: Any, key: str, value: str) -> None:
    """Put something else at a key, instead of merging the two."""
    from omegaconf import OmegaConf, open_dict

    with open_dict(cfg):
        OmegaConf.update(cfg, key, OmegaConf.create(f"x: {value}").x, merge=False)


def test_an_attack_need_not_check_and_what_its_check_raises_is_said_in_its_name() -> None:
    protocols.check_attack(Forgets(), Budget(1), POOL)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"attack \({HERE}\.Refuses\) refuses .*: ValueError: too many questions"):
        protocols.check_attack(Refuses(), Budget(1), POOL)


def test_a_data_set_of_pytorch_is_no_task_and_the_message_says_how_to_read_it() -> None:
    assert protocols.require_task(TASK, "x") is TASK and protocols.require_images(POOL, "x") is POOL
    with pytest.raises(ConfigError, match=r"data \(x\.Y\) gave a .*Numbers, not a Task .*data=dataset"):
        protocols.require_task(Numbers(), "x.Y")
    with pytest.raises(ConfigError, match=r"query \(x\.Y\) gave a .*Numbers, not Images .*query=dataset"):
        protocols.require_images(Numbers(), "x.Y")
    with pytest.raises(ConfigError, match=r"not a Task .*given by query="):
        protocols.require_task(POOL, "x")
    with pytest.raises(ConfigError, match=r"not Images .*query=task"):
        protocols.require_images(TASK, "x")
    with pytest.raises(ConfigError, match=r"gave a builtins\.int, not a Task"):
        protocols.require_task(3, "x")


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, rf"victim \({HERE}\.Makes\) could not be prepared \(KeyError: 'weights'\)"),
        (nn.Identity(), r"prepare\(task, ctx\) gave a torch\.nn\..*Identity, not a Victim"),
        (Victim("v", nn.Identity()), r"its model \(.*Identity\) has no attribute width"),
    ],
)
def test_a_maker_that_makes_no_victim_is_named(made: Any, says: str) -> None:
    with pytest.raises(VictimError, match=says):
        protocols.make_victim(Makes(made), TASK, None)  # type: ignore[arg-type]
