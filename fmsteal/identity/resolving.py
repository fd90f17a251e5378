"""Resolves groups of a config to plain values, once for all jobs that have the same group.

In a sweep of a thousand jobs most groups are the same in most jobs, apart from the seed, and resolving a group costs
more than everything else done with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from fmsteal.identity.parsing import parse_once

SEED = -(2**61) + 1  # replaces the seed in cached groups
MOST = 4096  # largest number of cached groups
_REFERENCE = re.compile(r"\$\{\s*(\.*)([^.}:\s\[$]*)")
_RESOLVER = re.compile(r"\$\{\s*[A-Za-z_][\w.]*\s*:")

_kept: dict[str, Any] = {}


def resolve(cfg: DictConfig, name: str) -> Any:
    """A group of ``cfg`` as plain values, all interpolations resolved; the caller may change the containers.

    Raises:
        OmegaConfBaseException: a value is missing, or depends on a missing one.
    """
    key = _key(cfg, name)
    if key is None:
        return _resolve(cfg, name)
    if key not in _kept:
        if len(_kept) >= MOST:
            _kept.clear()
        _kept[key] = _with_seed(cfg, name)
    kept = _kept[key]
    return _resolve(cfg, name) if kept is None else _copy(kept, cfg.seed)


def _resolve(cfg: DictConfig, name: str) -> Any:
    with parse_once():
        return OmegaConf.to_container(cfg[name], resolve=True, throw_on_missing=True)


def _with_seed(cfg: DictConfig, name: str) -> Any:
    """The group with `SEED` in place of the seed; None if the seed is part of a string."""
    seed = cfg.seed
    with read_write(cfg):
        cfg.seed = SEED
        try:
            found = _resolve(cfg, name)
        finally:
            cfg.seed = seed
    return None if any(isinstance(leaf, str) and str(SEED) in leaf for leaf, _ in _leaves(found, 0)) else found


def _copy(value: Any, seed: int) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner, seed) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copy(inner, seed) for inner in value]
    return seed if type(value) is int and value == SEED else value


def _key(cfg: DictConfig, name: str) -> str | None:
    """Everything that a group's values depend on, except the seed; None if its text does not show that."""
    raw: dict[str, Any] = {}
    todo = [name]
    while todo:
        root = todo.pop()
        if root in raw or root == "seed":
            continue
        node = cfg._get_node(root)
        raw[root] = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else _plain(node)
        for leaf, depth in _leaves(raw[root], 1):
            if not isinstance(leaf, str) or "${" not in leaf:
                continue
            if _RESOLVER.search(leaf):
                return None
            for dots, word in _REFERENCE.findall(leaf):
                if len(dots) >= depth:  # it reaches the root
                    return None
                if not dots and word:
                    todo.append(word)
    try:
        return json.dumps([name, raw], sort_keys=True)
    except TypeError:  # values that JSON cannot hold
        return None


def _plain(node: Any) -> Any:
    return None if node is None else node._value()


def _leaves(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    """Each plain value with its depth."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, depth + 1)
    else:
        yield value, depth
