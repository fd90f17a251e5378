"""The floating-point operations and the disk that jobs need. Imports torch only where a network has to be counted.

What is counted: the training of victims and thieves (forward and backward: three forward passes), the features of
frozen trunks, the victim's answers, and both models on the test images. What jobs share through the store is counted
once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.store import digest
from fmsteal.identity.keys import flatten, identity, resolve_groups
from fmsteal.sweep.sizes import PoolSize, TaskSize, find_pool_size, find_task_size

TRAINED = 3  # forward passes that a step costs for each image: one forward, and about two backward
Settings = Mapping[str, Any]


class Network:
    """A victim's or thief's network, counted when it is first asked for.

    Attributes:
        trunk: digest of the trunk, under which its features are shared; "" if it is trained itself.
        model: timm's name of it.
        counted: whether it can be counted; "" until it was tried.
    """

    def __init__(self, node: DictConfig) -> None:
        self._backbone = node.backbone
        self.model = str(OmegaConf.select(node, "backbone.model"))
        whole = digest([flatten(OmegaConf.to_container(node.backbone, resolve=True))])[:16]
        self.trunk = whole if OmegaConf.select(node, "adaptation") == "probe" else ""
        self._flops: float | None = None
        self._width = 0

    @property
    def flops(self) -> float:
        """The operations of one image's forward pass; 0 if they cannot be counted."""
        if self._flops is None:
            from fmsteal.sweep.flops import count  # imports torch

            self._flops, self._width = count(self._backbone) or (0.0, 0)
        return self._flops

    def find_width(self, cache: Path) -> int:
        """The numbers in an image's features: as the cache holds them, else counted; 0 if neither is possible."""
        for file in cache.glob(f"features/{self.model}-*/*.npy"):
            try:
                return int(np.load(file, mmap_mode="r").shape[1])
            except Exception:  # a damaged file can fail in many ways
                continue
        return self._width if self.flops else 0


class WorkCount:
    """The work of a sweep's jobs, from the configs of those that have a part unlike any before.

    Attributes:
        unknown: what is not counted, in words, since its size or network is not known.
    """

    def __init__(self, configs: Sequence[DictConfig], cache: Path) -> None:
        """Look at the networks and the sizes that ``configs`` name; widths are looked for in ``cache``."""
        self.unknown: set[str] = set()
        self._cache = cache
        self._networks: dict[str, Network] = {}
        self._steps: dict[str, tuple[int, int, int, int]] = {}
        self._tasks: dict[str, TaskSize | None] = {}
        self._pools: dict[str, PoolSize | None] = {}
        self._shared: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
        for cfg in configs:
            self._look_at(cfg)

    def _look_at(self, cfg: DictConfig) -> None:
        values = resolve_groups(cfg)
        settings = flatten(identity(cfg, values))
        task = self._tasks.setdefault(name_part(settings, "data"), find_task_size(values["data"]))
        self._pools.setdefault(name_part(settings, "query"), find_pool_size(values["query"], task))
        for who in ("victim", "thief"):
            if isinstance(OmegaConf.select(cfg[who], "backbone"), DictConfig):
                self._networks.setdefault(_name_network(settings, who), Network(cfg[who]))
            for part, key in ((who, f"{who}.recipe"), ("attack", "attack.recipe")):
                if (recipe := OmegaConf.select(cfg, key)) is not None:
                    known = [OmegaConf.select(recipe, name) or default for name, default in _STEPS.items()]
                    self._steps.setdefault(name_part(settings, part), tuple(map(int, known)))  # type: ignore[arg-type]

    def steal(self, settings: Settings, queries: int, seed: Any) -> float:
        """The operations of a theft: answers, features, and one training of the thief on all of them."""
        thief, victim = self._network(settings, "thief"), self._network(settings, "victim")
        source, queries, most = self._pool(settings, queries)
        flops = 0.0
        if victim is not None:
            whose = victim.trunk or name_part(settings, "victim", seeds=True)
            flops += victim.flops * self._pay((whose, *source), seed, queries, most)
        if thief is None:
            return flops
        if thief.trunk:
            return flops + thief.flops * self._views(settings) * self._pay((thief.trunk, *source), seed, queries, most)
        return flops + TRAINED * thief.flops * queries * self._passes(settings, "thief", queries)

    def measure(self, settings: Settings) -> float:
        """The operations of showing the test images to victim and thief."""
        task, total = self._task(settings), 0.0
        for who in ("victim", "thief"):
            if task is None or (network := self._network(settings, who)) is None:
                continue
            whose = network.trunk or (name_part(settings, "victim", seeds=True) if who == "victim" else "")
            shared = (whose, name_part(settings, "data"), "test")
            total += network.flops * (self._pay(shared, "", task.test) if whose else task.test)
        return total

    def prepare(self, settings: Settings) -> float:
        """The operations of making a victim."""
        task, victim = self._task(settings), self._network(settings, "victim")
        if task is None or victim is None:
            return 0.0
        if victim.trunk:
            return victim.flops * self._pay((victim.trunk, name_part(settings, "data"), "train"), "", task.train)
        return TRAINED * victim.flops * task.train * self._passes(settings, "victim", task.train)

    def keep_features(self, settings: Settings, queries: int, seed: Any) -> int:
        """The bytes of the thief's features of the images it asks about, except those that an earlier job keeps."""
        thief = self._network(settings, "thief")
        if thief is None or not thief.trunk:
            return 0
        source, queries, most = self._pool(settings, queries)
        fresh = self._pay((thief.trunk, *source, "bytes"), seed, queries, most) * self._views(settings)
        return 4 * fresh * thief.find_width(self._cache) if fresh else 0

    def keep_images(self, settings: Settings) -> int:
        """The bytes of a job's decoded images, except those that an earlier job keeps."""
        task, pool = self._task(settings), self._pools.get(name_part(settings, "query"))
        total = 0
        if task is not None:
            fresh = self._pay((name_part(settings, "data"), "bytes"), "", task.train + task.test)
            total += 3 * task.side**2 * fresh
        if pool is not None:
            total += 3 * pool.side**2 * self._pay((name_part(settings, "query", seeds=True), "bytes"), "", pool.images)
        return total

    def _pay(self, what: tuple[str, ...], seed: Any, rows: int, most: int | None = None) -> int:
        """How many of ``rows`` rows, out of ``most``, no earlier job has made.

        With one seed a larger choice holds every smaller one; those of different seeds are taken to share nothing.
        """
        known = self._shared[what]
        before = known.get(str(seed), 0)
        left = rows if most is None else most - sum(known.values())
        fresh = max(0, min(rows - before, left))
        known[str(seed)] = before + fresh
        return fresh

    def _pool(self, settings: Settings, queries: int) -> tuple[tuple[str, ...], int, int | None]:
        """What names the query set's rows, how many of them a job asks about at most, and how many there are."""
        pool = self._pools.get(name_part(settings, "query"))
        if pool is None:
            self.unknown.add("query sets of unknown size")
        name = (name_part(settings, "query", seeds=True), "pool")
        return (name, queries, None) if pool is None else (name, min(queries, pool.images), pool.images)

    def _network(self, settings: Settings, who: str) -> Network | None:
        found = self._networks.get(_name_network(settings, who))
        if found is None:
            self.unknown.add(f"{who}s without a backbone")
        return found

    def _task(self, settings: Settings) -> TaskSize | None:
        found = self._tasks.get(name_part(settings, "data"))
        if found is None:
            self.unknown.add("data sets of unknown size")
        return found

    def _recipe(self, settings: Settings, who: str) -> tuple[int, int, int, int]:
        own = self._steps.get(name_part(settings, who))
        of_attack = self._steps.get(name_part(settings, "attack")) if who == "thief" else None
        return of_attack or own or (1, 0, 1, 0)

    def _passes(self, settings: Settings, who: str, images: int) -> int:
        """How often a training passes over its ``images`` images."""
        epochs, least, batch, _ = self._recipe(settings, who)
        return max(epochs, math.ceil(least / math.ceil(images / batch))) if images else 0

    def _views(self, settings: Settings) -> int:
        return max(1, self._recipe(settings, "thief")[3])


_STEPS = {"epochs": 1, "min_steps": 0, "batch_size": 1, "views": 0}  # a recipe's options, with what stands for none


def name_part(settings: Settings, part: str, seeds: bool = False) -> str:
    """A digest of what identifies a part of a job, with or without its seeds; a seed that is left out is 0."""
    own = {k: v for k, v in settings.items() if k.partition(".")[0] == part}
    return digest({k: v for k, v in own.items() if k.rpartition(".")[2] != "seed" or (seeds and v)})[:16]


def _name_network(settings: Settings, who: str) -> str:
    return name_part({k: v for k, v in settings.items() if not k.startswith(f"{who}.recipe")}, who)
