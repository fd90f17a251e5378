"""What fmsteal takes from inside another library, compared with the one that is installed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
import tokenize
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fmsteal

PACKAGE = Path(fmsteal.__file__).parent


def find(name: str) -> Any:
    """What ``module:Class.function`` names; of a property the function that reads it."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
        found = getattr(found, "__func__", found)  # of a static method or a class method
    return found.fget if isinstance(found, property) else found


def digest_source(function: Any) -> str:
    """A digest of a function's or a class's source, without comments and layout."""
    lines = textwrap.dedent(inspect.getsource(function)).splitlines()
    for token in tokenize.generate_tokens(iter(f"{line}\n" for line in list(lines)).__next__):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    return hashlib.sha256("".join("".join(lines).split()).encode()).hexdigest()[:12]


def spell_signature(function: Any) -> str:
    """A function's parameters, without their types: ``(self, words, how=, *, deep=)``."""
    found, starred = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            found.append("*")
            starred = True
        mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        starred = starred or mark == "*"
        found.append(f"{mark}{parameter.name}{'' if parameter.default is parameter.empty else '='}")
    return f"({', '.join(found)})"


def require_known(library: str, name: str, known: str, file: str) -> None:
    """See that a function is as it was when what is built on it was written.

    Args:
        library: its distribution.
        name: ``module:Class.function``.
        known: its signature; or the digests of its source in the versions that are known, with a space between.
        file: of the package, that is built on it.

    Raises:
        AssertionError: it is another one; the message says what to look at.
    """
    look = (
        f"{library} {version(library)} has another {name} than the versions that {file} was written for. Read it, see "
        f"that what {file} builds on it still holds, and "
    )
    try:
        function = find(name)
    except (ImportError, AttributeError) as error:
        raise AssertionError(f"{look}put something in its place: {error}") from error
    if known.startswith("("):
        spelt = spell_signature(function)
        assert spelt == known, f"{look}record its signature {spelt} instead of {known}"
        return
    digest = digest_source(function)
    assert digest in known.split(), f"{look}record its digest {digest} beside {known}"


def importers(*modules: str) -> Iterator[str]:
    """The files of the package that import one of these modules, or from below one."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            if any(f"{name}.".startswith(f"{module}.") for name in names for module in modules):
                yield file.relative_to(PACKAGE.parent).as_posix()
                break
