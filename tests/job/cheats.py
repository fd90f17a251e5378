"""Attacks that cheat, as somebody else's package might: each asks honestly as well."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.data.images import Images
from fmsteal.oracle.index import Counts, Index
from fmsteal.oracle.oracle import Budget, Oracle

MORE = 20  # images that are looked at beyond the budget


def reached(start: Any, depth: int = 9) -> list[Any]:
    """What can be reached from an object through the closures of functions."""
    found, seen, level = [], set(), [start]
    for _ in range(depth):
        cells = [c for f in level for c in (getattr(f, "__closure__", None) or ())]
        level = [c.cell_contents for c in cells if id(c) not in seen]
        seen |= {id(c) for c in cells}
        found += level
    return found


class Honest(Knockoff):
    """Asks, and looks at nothing else."""


class Cheat(Knockoff):
    """Cheats once it has asked; its thief is the honest one's."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        thief = super().run(oracle, pool, ctx)
        self.cheat(oracle, pool)
        return thief

    def cheat(self, oracle: Oracle, pool: Images) -> None:
        raise NotImplementedError


class AsksThroughClosure(Cheat):
    """Finds what answers pool images in the closures of its oracle."""

    def cheat(self, oracle: Oracle, pool: Images) -> None:
        shown = oracle._pool_images(np.arange(MORE))
        assert shown.raw(list(range(MORE))).shape == (MORE, oracle.width)


class ShowsThroughClosure(Cheat):
    """The same with images of its own."""

    def cheat(self, oracle: Oracle, pool: Images) -> None:
        images = torch.rand(MORE, 3, 16, 16)
        assert oracle._own_images(images).raw(list(range(MORE))).shape == (MORE, oracle.width)


class AsksAfterFailure(Cheat):
    """Has a block fail, so that the account might stay open, then asks past it."""

    def cheat(self, oracle: Oracle, pool: Images) -> None:
        object.__setattr__(oracle.budget, "queries", 10**6)
        with contextlib.suppress(Exception):
            oracle.ask_images(torch.rand(2, 3, 0, 0))
        object.__setattr__(oracle.budget, "queries", 100)
        oracle._pool_images(np.arange(MORE)).raw(list(range(MORE)))


class ReplacesAllowance(Knockoff):
    """Puts a larger budget in place of its own."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        larger = Budget(oracle.budget.queries + MORE)
        oracle._allowance = lambda: larger
        return super().run(oracle, pool, ctx)


class ChangesBudget(Knockoff):
    """Changes the number in its frozen budget."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        object.__setattr__(oracle.budget, "queries", oracle.budget.queries + MORE)
        return super().run(oracle, pool, ctx)


class EmptiesLedger(Knockoff):
    """Has its ledger forget that anything was asked, on the disk and in memory, and asks for as much again."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        oracle.ask(np.arange(oracle.left))
        os.truncate(oracle._ledger.path, 0)
        oracle._ledger._index, oracle._ledger._size = Index(), 0
        oracle._asked = Counts()
        return super().run(oracle, pool, ctx)


class TruncatesLedger(Cheat):
    """Takes the last answers off its ledger."""

    def cheat(self, oracle: Oracle, pool: Images) -> None:
        path = oracle._ledger.path
        record = 28 + 4 * oracle.width
        os.truncate(path, path.stat().st_size - MORE * record)


class _OfVictim(Cheat):
    """Finds the victim's model, and has it answer."""

    find: Callable[[Oracle], list[nn.Module]]

    def cheat(self, oracle: Oracle, pool: Images) -> None:
        images = torch.from_numpy(np.array(pool.pixels[np.arange(MORE)]))
        for model in self.find(oracle):
            self.ask(model, images)

    def ask(self, model: nn.Module, images: Tensor) -> None:
        model(images)


def models_of(things: list[Any]) -> list[nn.Module]:
    """The models of the victims among some objects, each once: those of earlier jobs may be there still."""
    return list({id(x): x.model for x in things if type(x).__name__ == "Victim" and x.digest}.values())


class FindsByGarbageCollector(_OfVictim):
    """Among all objects that there are."""

    def find(self, oracle: Oracle) -> list[nn.Module]:
        return models_of(gc.get_objects())


class FindsInClosures(_OfVictim):
    """In the closures of its oracle."""

    def find(self, oracle: Oracle) -> list[nn.Module]:
        return models_of(reached(oracle._pool_images))


class CallsForward(FindsByGarbageCollector):
    """Gets round the hook of the model as a whole."""

    def ask(self, model: nn.Module, images: Tensor) -> None:
        model.forward(images)


class CheatsOnce(Knockoff):
    """Asks for answers that it takes off its ledger, in its first run alone, and is honest in the next."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        thief = super().run(oracle, pool, ctx)
        mark = oracle._ledger.path.with_name("seen")
        if not mark.exists():
            mark.touch()
            os.truncate(oracle._ledger.path, 0)
        return thief
