"""Victims and thieves defined by their backbone alone: each file of ``conf/backbone`` is a choice of both groups.

``victim=NAME`` is ``conf/learner/victim.yaml`` with the backbone NAME, ``thief=NAME`` the same with ``thief.yaml``; a
backbone without weights is trained from scratch. A file ``conf/victim/NAME.yaml`` takes precedence. Like any config
without a file, these choices are added to Hydra's store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from fmsteal.base.on_hydra import open_group
from fmsteal.config import later

PART, BASE = "backbone", "learner"  # the group that choices are derived from, and the group of their base config
ROLES = ("victim", "thief")  # groups that have derived choices
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def names(group: str, places: Sequence[Path]) -> list[str]:
    """The choices of a group that have no file in these config folders; empty except for victim and thief."""
    return sorted(_files(PART, places).keys() - _files(group, places).keys()) if group in ROLES else []


def derive(group: str, name: str, places: Sequence[Path]) -> dict[str, Any]:
    """What the file of a derived choice would contain."""
    return _learner(group, name, _files(PART, places))


def store(places: Sequence[Path]) -> None:
    """Put the derived choices of these config folders into Hydra's store, replacing earlier ones.

    Without a folder, as for a sweep's copy of the code, the choices that came with the job stay.
    """
    if not places:
        return
    backbones = _files(PART, places)
    for group in ROLES:
        there = open_group(group)
        for file in [file for file, node in there.items() if getattr(node, "provider", None) == PART]:
            del there[file]
        for name in names(group, places):
            later.store(group, name, partial(_make, group, name, backbones), provider=PART)


@contextmanager
def store_for_block(places: Sequence[Path]) -> Iterator[None]:
    """Like `store`, for the length of a block; the first folder is ours, and nothing happens if it is the only one."""
    if len(places) < 2:
        yield
        return
    before = {group: dict(open_group(group)) for group in ROLES}
    store(places)
    try:
        yield
    finally:
        for group, nodes in before.items():
            open_group(group).clear()
            open_group(group).update(nodes)


def _files(group: str, places: Sequence[Path]) -> dict[str, Path]:
    """The files of a group by name; if several have the same name, the first folder wins, as in Hydra."""
    return {file.stem: file for place in reversed(places) for file in (place / group).glob("*.yaml")}


def _make(group: str, name: str, backbones: Mapping[str, Path]) -> DictConfig:
    return OmegaConf.create(_learner(group, name, backbones))


def _learner(group: str, name: str, backbones: Mapping[str, Path]) -> dict[str, Any]:
    node: dict[str, Any] = {"defaults": [{f"/{PART}@{PART}": name}, f"/{BASE}/{group}@_here_"]}
    return node if _has_weights(name, backbones) else {**node, "adaptation": "scratch"}


def _has_weights(name: str, backbones: Mapping[str, Path], below: frozenset[str] = frozenset()) -> bool:
    """Whether a backbone's file names weights, itself or through its defaults."""
    try:
        node = yaml.load(backbones[name].read_text(), _LOADER)
    except (yaml.YAMLError, OSError, UnicodeDecodeError):  # Hydra reports it if the file is chosen
        return True
    if not isinstance(node, dict) or "weights" in node:
        return isinstance(node, dict) and node["weights"] is not None
    bases = [base for base in node.get("defaults") or () if isinstance(base, str) and base in backbones]
    return any(_has_weights(base, backbones, below | {name}) for base in bases if base not in below | {name})
