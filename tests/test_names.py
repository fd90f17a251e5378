"""Public functions are verbs, and a public class has its name to itself."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import fmsteal

PACKAGE = Path(fmsteal.__file__).parent
PARTICIPLE = re.compile(r"[a-z]+ed|begun|chosen|drawn|found|given|grown|held|kept|known|laid|left|made|seen|shown|told")
VERBS = {"embed", "heed"}


def public(kind: type[ast.FunctionDef | ast.ClassDef]) -> Iterator[tuple[str, str]]:
    """The public functions or classes at the top of a module, each with its file."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                yield node.name, file.relative_to(PACKAGE).as_posix()


def test_no_function_is_a_bare_participle() -> None:
    found = {(name, file) for name, file in public(ast.FunctionDef) if PARTICIPLE.fullmatch(name)}
    assert not {(name, file) for name, file in found if name not in VERBS}


def test_no_two_classes_have_one_name() -> None:
    files = defaultdict(list)
    for name, file in public(ast.ClassDef):
        files[name].append(file)
    assert not {name: where for name, where in files.items() if len(where) > 1}
