"""Classes of other packages, read from source without importing it: version, defaults, and a digest of the module."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Libraries whose classes are identified by path alone.
LIBRARIES = ("torch", "torchvision", "timm", "lightning", "sklearn", "joblib", "transformers")
REEXPORTS = 5  # how many re-exports are followed to where a class is defined
Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Foreign:
    """What is known about a class that is not ours.

    Attributes:
        head: the class's full path, and its version if the source has one, else a digest of its module's source.
        defaults: default values of its options, if they are literals.
    """

    head: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=dict)


@functools.cache
def describe(target: str) -> Foreign:
    """What identifies a class or function by its import path; the path alone if no source is found.

    Changes in other modules that it imports are not noticed: give it a ``version`` and raise that.
    """
    if target.partition(".")[0] in LIBRARIES:
        return Foreign({"name": target})
    found = _find(target)
    if found is None:
        return Foreign({"name": target})
    source, tree, node = found
    defaults = {} if node is None else dict(_defaults(node))
    version = None if node is None else _version(node, tree)
    if version is not None:
        return Foreign({"name": target, "version": version}, defaults)
    return Foreign({"name": target, "source": hashlib.sha256(source).hexdigest()[:16]}, defaults)


def _find(target: str, depth: int = 0) -> tuple[bytes, ast.Module, Definition | None] | None:
    module = _module(target.split("."))
    if module is None:
        return None
    file, name, inside = module
    source = file.read_bytes()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, Definition) and node.name == inside:
            return source, tree, node
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    origin = _imported_as(inside, tree, package) if inside and depth < REEXPORTS else None
    return (_find(origin, depth + 1) if origin else None) or (source, tree, None)


def _imported_as(name: str, tree: ast.Module, package: str) -> str | None:
    """The import path that a name of this module comes from; None if it is not imported."""
    for statement in ast.walk(tree):
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return f"{_absolute(statement, package)}.{alias.name}"
    return None


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that a statement imports from."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    base = ".".join(parents[: len(parents) - node.level + 1])
    return f"{base}.{node.module}" if node.module else base


def _module(words: list[str]) -> tuple[Path, str, str] | None:
    """The file and name of the module at the start of an import path, and the first word after it."""
    with suppress(ImportError, ValueError):
        spec = find_spec(words[0])
        if spec is None:
            return None
        places = [Path(place) for place in spec.submodule_search_locations or ()]
        file = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
        at = 1
        while at < len(words) and (below := _step_into(places, words[at])):
            (file, places), at = below, at + 1
        return None if file is None else (file, ".".join(words[:at]), words[at] if at < len(words) else "")
    return None


def _step_into(places: list[Path], word: str) -> tuple[Path | None, list[Path]] | None:
    """The file of a module or package in the first of these folders that has it, and its own folders."""
    if module := _first(places, f"{word}.py"):
        return module, []
    if package := _first(places, f"{word}/__init__.py"):
        return package, [package.parent]
    namespace = [place / word for place in places if (place / word).is_dir()]
    return (None, namespace) if namespace else None


def _first(places: list[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _version(node: Definition, tree: ast.Module) -> int | None:
    """``version = N`` in a class's body, or ``name.version = N`` beside a function."""
    for statement in node.body if isinstance(node, ast.ClassDef) else tree.body:
        for target, value in _assigned(statement):
            if target == ("version" if isinstance(node, ast.ClassDef) else f"{node.name}.version"):
                with suppress(ValueError):
                    found = ast.literal_eval(value)
                    if type(found) is int:
                        return found
    return None


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            yield ast.unparse(target), statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        yield ast.unparse(statement.target), statement.value


def _defaults(node: Definition) -> Iterator[tuple[str, Any]]:
    """Options with a literal default, from a signature or the fields of a dataclass."""
    if isinstance(node, ast.ClassDef):
        made = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if made is None:
            pairs = [pair for statement in node.body for pair in _assigned(statement)]
            pairs = [(name, value) for name, value in pairs if name.isidentifier()]
        else:
            pairs = _parameters(made)
    else:
        pairs = _parameters(node)
    for name, value in pairs:
        with suppress(ValueError):
            yield name, _plain(ast.literal_eval(value))


def _parameters(node: ast.FunctionDef) -> list[tuple[str, ast.expr]]:
    takes = node.args
    named = [*takes.posonlyargs, *takes.args]
    last = named[len(named) - len(takes.defaults) :]
    pairs = [(a.arg, value) for a, value in zip(last, takes.defaults, strict=True)]
    return pairs + [(a.arg, v) for a, v in zip(takes.kwonlyargs, takes.kw_defaults, strict=True) if v is not None]


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
