"""Attacks that end their process, each in its way."""

from __future__ import annotations

import os
import signal
import sys

from torch import nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.knockoff import Knockoff
from fmsteal.data.images import Images
from fmsteal.oracle.oracle import Oracle


class Exits(Knockoff):
    """Calls ``sys.exit``."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        sys.exit(3)


class Killed(Knockoff):
    """Is killed as by the kernel when memory is out, whenever it is begun."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().run(oracle, pool, ctx)
