"""Attacks with a fault each: what a job says of them is tested in ``tests/job/test_pipeline.py``."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Oracle
from fmsteal.training.classifier import Classifier


class AsksTooMuch(Knockoff):
    """Asks one question more than it may."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        oracle.ask(np.arange(oracle.budget.queries))
        oracle.ask(np.array([0]))
        return super().run(oracle, pool, ctx)


class Raises(Knockoff):
    """Has a bug."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        super().run(oracle, pool, ctx)
        return {}["nothing"]  # type: ignore[index, no-any-return]


class ReturnsNoModel(Knockoff):
    """Hands out something else."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        super().run(oracle, pool, ctx)
        return "a thief"  # type: ignore[return-value]


class OtherClasses(Knockoff):
    """Its thief knows a class too few."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        thief = super().run(oracle, pool, ctx)
        assert isinstance(thief, Classifier)
        thief.head = nn.Linear(thief.head.in_features, thief.width - 1)
        return thief


class Diverges(Knockoff):
    """Its thief's weights are NaN."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        thief = super().run(oracle, pool, ctx)
        with torch.no_grad():
            for weights in thief.parameters():
                weights.fill_(torch.nan)
        return thief
