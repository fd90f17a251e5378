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
    """Takes more and more memory, a quarter of a gigabyte at a time, GREED in all; a line for each time it is begun."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        with Path(os.environ["BEGUN"]).open("a") as begun:
            begun.write("greedy\n")
        taken = []
        while len(taken) < 4 * float(os.environ["GREED"]):
            taken.append(np.ones(2**25))
            time.sleep(0.1)
        raise RuntimeError("nobody minded")


class Meets(Knockoff):
    """Waits for a second job; writes into the folder MEETING its GPU, and when it came and went."""

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        file, came = Path(os.environ["MEETING"]) / str(os.getpid()), time.monotonic()
        file.write_text("came")
        while len(list(file.parent.iterdir())) < 2:
            if time.monotonic() > came + 90:
                raise RuntimeError("nobody came")
            time.sleep(0.05)
        thief = super().run(oracle, pool, ctx)
        file.write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {came} {time.monotonic()}")
        return thief
