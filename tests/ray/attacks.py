"""Attacks that end their process, each in its way, and one that waits for another job."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
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


class Greedy(Knockoff):
    """Takes more and more memory, a quarter of a gigabyte at a time, GREED gigabytes in all."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        taken = []
        while len(taken) < 4 * float(os.environ["GREED"]):
            taken.append(np.ones(2**25))
            time.sleep(0.1)
        raise RuntimeError("nobody minded")


class Meets(Knockoff):
    """Writes its GPU into a file of the folder MEETING, and goes on when a second job has."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        place = Path(os.environ["MEETING"])
        (place / str(os.getpid())).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        end = time.monotonic() + 90
        while len(list(place.iterdir())) < 2:
            if time.monotonic() > end:
                raise RuntimeError("nobody came")
            time.sleep(0.05)
        return super().run(oracle, pool, ctx)
