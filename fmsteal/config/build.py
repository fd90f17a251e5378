"""Turns config nodes into objects: the only caller of `hydra.utils.instantiate`, and the check that runs before it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterator
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from typeguard import TypeCheckError, check_type

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.config.local import is_path
from fmsteal.config.moved import find_current

_WORDS = {int: "a number", float: "a number", bool: "true or false"}
_SPECIAL = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
RUNTIME = {"store", "task"}  # parameters that no config gives: the pipeline adds them


def make(node: DictConfig, **runtime: Any) -> Any:
    """Instantiate a config node, passing on only those ``runtime`` values that its target takes.

    Raises:
        ConfigError: a class or function of another package failed; the message names it.
    """
    try:
        return _make(_counted(node), **runtime)
    except FmstealError:
        raise
    except Exception as error:
        blamed = _blame(node, error)
        if blamed is None:
            raise
        raise blamed from error


def _blame(node: DictConfig, error: Exception) -> ConfigError | None:
    """The error to report when making a node failed in a class of another package; None if the class is ours."""
    key, cause = "", error
    while isinstance(cause, InstantiationException) and isinstance(cause.__cause__, Exception):
        found = re.search(r"full_key: (\S+)", str(cause))
        key, cause = found[1] if found else key, cause.__cause__
    inner = dict(find_targets(node))
    whole = str(node._get_full_key(None) or "")
    key = re.sub(r"\[(\d+)\]", r".\1", key)  # index into a list
    at = key.removeprefix(f"{whole}.") if key not in ("", whole) else ""
    target = inner[at]._target_ if at in inner else node.get("_target_", "")
    if not target or target.partition(".")[0] == __name__.partition(".")[0]:
        return None
    return ConfigError(f"{key or whole or 'config'} ({target}) cannot be made: {type(cause).__name__}: {cause}")


def _make(node: DictConfig, **runtime: Any) -> Any:
    if "_target_" in node:
        takes = inspect.signature(locate(node._target_, "config")).parameters
        runtime = {k: v for k, v in runtime.items() if k in takes}
    try:
        if runtime:  # passed in a separate call, as Hydra would turn them into configs
            return hydra.utils.instantiate(node, _convert_="all", _partial_=True)(**runtime)
        return hydra.utils.instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, FmstealError):
            raise cause from None
        raise


def check(cfg: DictConfig) -> None:
    """Check every target's options against its signature, before anything runs.

    Raises:
        ConfigError: a target does not exist, or an option is unknown, missing or of the wrong type. The message names
            the key, and lists the options of the target if one is unknown.
    """
    _refuse_environment(cfg)
    for path, node in find_targets(cfg, follow=True):
        target = locate(node._target_, path)
        values = OmegaConf.to_container(node, resolve=True, throw_on_missing=False)
        assert isinstance(values, dict)
        options = {str(k): v for k, v in values.items() if k not in _SPECIAL}
        _check_options(path, node, target, options)


def find_targets(node: Any, path: str = "", *, follow: bool = False) -> Iterator[tuple[str, DictConfig]]:
    """Every node with a ``_target_``, with its dotted path; ``follow`` includes nodes that an option refers to."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        skipped = () if path else ("hydra", "recipes")  # recipes are checked where they are used
        children: list[tuple[str, Any]] = [(str(k), node._get_node(k)) for k in node if k not in skipped]
    elif isinstance(node, ListConfig):
        children = [(str(i), node._get_node(i)) for i in range(len(node))]
    else:
        return
    for key, child in children:
        if follow and child is not None and child._is_interpolation():
            child = child._maybe_dereference_node()
        yield from find_targets(child, f"{path}.{key}" if path else key, follow=follow)


def _refuse_environment(cfg: DictConfig) -> None:
    """Refuse a variable's value below ``victim``: it would be resolved into every file that holds the config.

    Raises:
        ConfigError: there is one; the message says what to write.
    """
    victim = cfg._get_node("victim", validate_access=False)
    plain = OmegaConf.to_container(victim, resolve=False) if isinstance(victim, DictConfig) else {}
    for key, value in _leaves(plain, "victim"):
        if isinstance(value, str) and (found := re.search(r"\$\{\s*oc\.env\s*:\s*([^,}\s]*)", value)):
            raise ConfigError(
                f"{key} takes the value of the variable {found[1]}, which would be written into the job's files: "
                f"write env:{found[1]} in its place, and it is read when a request is sent."
            )


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for name, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(child, f"{key}.{name}")
    else:
        yield key, value


def _check_options(path: str, node: DictConfig, target: Any, options: dict[str, Any]) -> None:
    try:
        takes = inspect.signature(target).parameters
    except ValueError:  # a class written in C has no signature
        return
    named = [p for p in takes.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        _refuse_unknown(path, node._target_, [p.name for p in named], options)
    unset = {k for k in options if OmegaConf.is_missing(node, k)}
    _require_given(path, node, {p.name for p in named if p.default is p.empty} - options.keys(), unset)
    _check_types(path, node._target_, _hints(target), {k: v for k, v in options.items() if k not in unset})


def _require_given(path: str, node: DictConfig, left_out: set[str], unset: set[str]) -> None:
    """Check that no required option is missing and none is ``???``."""
    missing = sorted((left_out - RUNTIME) | unset)
    if missing and not node.get("_partial_", False):
        later = "" if missing[0] in unset else f" If it is to be called later, with that: {path}._partial_=true."
        raise ConfigError(
            f"{path}.{missing[0]} must be given: {path}.{missing[0]}=... ({node._target_} needs it).{later}"
        )


def _refuse_unknown(path: str, target: str, names: list[str], options: dict[str, Any]) -> None:
    for key in options:
        if key not in names:
            own = ", ".join(name for name in names if name not in RUNTIME)
            raise ConfigError(f"{path}.{key}: {target} has no option '{key}'. It takes: {own}.")


def _check_types(path: str, target: str, hints: dict[str, Any], options: dict[str, Any]) -> None:
    for key, value in options.items():
        made = isinstance(value, dict | list) and "_target_" in str(value)
        if key in hints and not made:
            _check_type(path, key, value, hints[key], target)


def _check_type(path: str, key: str, value: Any, hint: Any, target: str) -> None:
    try:
        check_type(_as_count(value, hint), hint)
    except TypeCheckError as error:
        if type(value) in _WORDS and str in (hint, *typing.get_args(hint)):
            spelt = json.dumps(value)
            path_like = f"./{spelt} for a path of that name, " if is_path(key, "x") else ""
            raise ConfigError(
                f"{path}.{key}={spelt} is read as {_WORDS[type(value)]}, where a text is meant: write "
                f"{path_like}or \"{path}.{key}='{spelt}'\"."
            ) from None
        raise ConfigError(f"{path}.{key}={value!r} does not fit {target}: {error}.") from None


def _counted(node: DictConfig) -> DictConfig:
    """The node with whole floats turned into ints where a target takes an int: ``1000.0`` becomes ``1000``.

    Classes that an earlier job's config names by an old path get their current one.
    """
    changed = [*_counts(node), *_moves(node)]
    if changed:
        node = copy.deepcopy(node)
        OmegaConf.resolve(node)  # a node that an option refers to becomes one of its own
        found = dict(find_targets(node))
        for path, key, value in changed:
            found[path][key] = value
    return node


def _counts(node: DictConfig) -> Iterator[tuple[str, str, Any]]:
    for path, inner in find_targets(node, follow=True):
        given = {str(k): inner.get(k) for k in inner if not OmegaConf.is_missing(inner, k)}
        floats = {key: value for key, value in given.items() if isinstance(value, float)}
        hints = _hints(locate(inner._target_, path)) if floats else {}
        for key, value in floats.items():
            if key in hints and isinstance(count := _as_count(value, hints[key]), int):
                yield path, key, count


def _moves(node: DictConfig) -> Iterator[tuple[str, str, Any]]:
    for path, inner in find_targets(node, follow=True):
        if (current := find_current(inner._target_)) != inner._target_:
            yield path, "_target_", current


def _as_count(value: Any, hint: Any) -> Any:
    """Turn a whole float into an int if the hint allows an int and not a float."""
    if not isinstance(value, float) or not value.is_integer():
        return value
    kinds = (hint, *typing.get_args(hint))
    return int(value) if int in kinds and float not in kinds else value


def locate(name: str, path: str = "") -> Any:
    """The class or function that a ``_target_`` names; ``path`` is its node in the config.

    Raises:
        ConfigError: `name` cannot be imported.
    """
    try:
        return hydra.utils.get_object(find_current(name))
    except Exception as error:  # import errors of any kind
        raise ConfigError(f"{path}._target_={name} cannot be found ({error}).") from error


def _hints(target: Any) -> dict[str, Any]:
    """The type hints of a target's parameters; empty if they cannot be evaluated."""
    annotated = target.__init__ if inspect.isclass(target) and not dataclasses.is_dataclass(target) else target
    try:
        return typing.get_type_hints(annotated)
    except Exception:  # annotations of other packages may name something that cannot be imported at run time
        return {}
