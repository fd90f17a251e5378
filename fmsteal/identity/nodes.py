"""What counts in a config node: stable names, options not at their default, contents instead of paths."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fmsteal.config.local import find_code, is_path
from fmsteal.identity import foreign, table
from fmsteal.identity.rules import Condition

SPECIAL = {"_target_", "_partial_", "_recursive_", "_convert_"}  # keys that tell Hydra how to make an object


@dataclass(frozen=True)
class Idle:
    """A setting that has no effect.

    Attributes:
        key: dotted key of the setting, from the config's root.
        owner: dotted path of the node whose class declares it idle.
        name: stable name of that class.
        condition: values of that node's options, or of others (with ``/``), that make it idle; empty if always.
    """

    key: str
    owner: str
    name: str
    condition: Condition

    @property
    def reason(self) -> str:
        """Why the setting has no effect: ``victim.adaptation=scratch``, or ``attack=dfme``."""
        keys = {name: name[1:] if name.startswith("/") else f"{self.owner}.{name}" for name in self.condition}
        said = [f"{keys[name]}={_spelt(value)}" for name, value in self.condition.items()]
        return " and ".join(said) or f"{self.owner}={self.name}"

    def covers(self, key: str) -> bool:
        """Whether this setting is ``key`` or contains it."""
        return key == self.key or key.startswith(f"{self.key}.")


def find_idle(value: Any, path: str = "", root: Any = None) -> Iterator[Idle]:
    """The settings below a node (plain, resolved) that have no effect, according to the classes in the table.

    A class's rule for another group (``root`` has them all) applies only if that group is also made by a class of ours.
    """
    root = value if root is None else root
    if isinstance(value, dict):
        yield from _find_own_idle(value, path, root)
    for key, child in _children(value):
        yield from find_idle(child, f"{path}.{key}" if path else key, root)


def _find_own_idle(node: dict[str, Any], path: str, root: Any) -> Iterator[Idle]:
    entry = table.find(node.get("_target_", ""))
    if entry is None:
        return
    for name, condition in entry.ignores.items():
        met = {other: _met(node, root, other) for other in condition}
        if not all(_meets(met[other], wanted) for other, wanted in condition.items()):
            continue
        if not name.startswith("/"):
            yield Idle(f"{path}.{name}" if path else name, path, entry.name, met)
        elif _is_ours(root.get(name[1:].partition(".")[0])):
            yield Idle(name[1:], path, entry.name, met)


def keep_effective(value: Any, path: str, ignored: frozenset[str], content: Callable[[str], str]) -> Any:
    """The parts of a node (plain, resolved) that count.

    Args:
        value: the node, or a value in it.
        path: its dotted key from the config's root.
        ignored: dotted keys that have no effect, see `find_idle`.
        content: replaces a path by a digest of what is there.

    Returns:
        For a node with a ``_target_``, its stable ``name``, its ``version`` if it was raised, and the options that
        differ from their default. Everything else is unchanged, except that whole floats become ints.
    """
    if isinstance(value, dict):
        known = _known(value["_target_"]) if "_target_" in value else _PLAIN
        found = dict(known.head)
        for key, child in value.items():
            inside = f"{path}.{key}" if path else str(key)
            if key in SPECIAL or key in known.machine or inside in ignored:
                continue
            counted = keep_effective(child, inside, ignored, content)
            if key not in known.defaults or not are_same(counted, known.defaults[key]):
                found[f"{key}_" if key in known.head else str(key)] = counted
        return found
    if isinstance(value, list):
        return [keep_effective(child, f"{path}.{i}", ignored, content) for i, child in enumerate(value)]
    return _keep_leaf(value, path, content)


def _keep_leaf(value: Any, path: str, content: Callable[[str], str]) -> Any:
    if code := find_code(path, value):
        return foreign.describe(code).head
    return content(value) if is_path(path, value) else to_whole(value)


def to_whole(value: Any) -> Any:
    """Turn a whole float into an int: ``100.0`` and ``100`` are the same."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def are_same(one: Any, other: Any) -> bool:
    """Whether two plain values are the same; ``true`` is not ``1``."""
    if isinstance(one, dict | list):
        return type(one) is type(other) and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    return type(one) is type(other) and bool(one == other)


@dataclass(frozen=True)
class _Known:
    head: Mapping[str, Any]
    defaults: Mapping[str, Any]
    machine: frozenset[str] = frozenset()


_PLAIN = _Known({}, {})


@functools.cache
def _known(target: str) -> _Known:
    entry = table.find(target)
    if entry is None:
        found = foreign.describe(target)
        return _Known(found.head, {name: _normal(value) for name, value in found.defaults.items()})
    version = {"version": entry.version} if entry.version != 1 else {}
    defaults = {name: _normal(value) for name, value in entry.defaults.items()}
    return _Known({"name": entry.name, **version}, defaults, frozenset(entry.machine))


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _normal(v) for k, v in value.items()}
    return [_normal(v) for v in value] if isinstance(value, list) else to_whole(value)


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((str(key), child) for key, child in value.items())
    elif isinstance(value, list):
        yield from ((str(i), child) for i, child in enumerate(value))


def _option(node: Any, name: str) -> Any:
    """An option of a node by its dotted name; its default if it is not given."""
    first, _, rest = name.partition(".")
    if not isinstance(node, dict):
        return None
    if first not in node:
        return _known(node["_target_"]).defaults.get(first) if "_target_" in node and not rest else None
    return _option(node[first], rest) if rest else to_whole(node[first])


def _met(node: Any, root: Any, name: str) -> Any:
    """The value of the option that a condition names: in the node, or from the root if the name begins with ``/``."""
    return _option(root, name[1:]) if name.startswith("/") else _option(node, name)


def _meets(value: Any, wanted: Any) -> bool:
    return any(are_same(value, one) for one in wanted) if isinstance(wanted, list) else are_same(value, wanted)


def _is_ours(node: Any) -> bool:
    return isinstance(node, dict) and table.find(node.get("_target_", "")) is not None


def _spelt(value: Any) -> str:
    """A value as written on a command line."""
    return str(value) if isinstance(value, str) else json.dumps(value)
