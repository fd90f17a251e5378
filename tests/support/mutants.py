"""Changes one operator at a time in a copy of the package, and lists the changes that no test notices.

    python -m tests.support.mutants --count 60 --seed 0 [fmsteal/oracle fmsteal/identity/keys.py ...]

They are drawn, by the seed, from the modules that every figure rests on. Each is tried on the tests named after its
module, then on those of its room, then on those elsewhere that import it, until one fails. What is committed is tried,
in a clone.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
JUDGED = (
    "fmsteal/oracle", "fmsteal/base/store.py", "fmsteal/base/rows.py", "fmsteal/identity",
    "fmsteal/evaluation/metrics.py", "fmsteal/defenses",
)  # fmt: skip
APART = ("bench", "browser", "ray", "slurm")  # tests that the default run leaves out
SECONDS = 600  # for the tests of one mutant; one that never ends is noticed too
COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: the text between two positions of a file, and what replaces it."""

    file: str
    line: int
    begin: int
    end: int
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old} -> {self.new}"

    def write(self, root: Path) -> None:
        """Change the file below ``root``."""
        source = (ROOT / self.file).read_bytes()
        (root / self.file).write_bytes(source[: self.begin] + self.new.encode() + source[self.end :])


def find_mutants(file: str) -> Iterator[Mutant]:
    """Every change of an operator or a number in a file; none in annotations, decorators or what errors say."""
    source = (ROOT / file).read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in _walk(ast.parse(source)):
        for new in _change(node):
            assert node.end_lineno is not None and node.end_col_offset is not None
            begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            yield Mutant(file, node.lineno, begin, end, ast.unparse(node), f"({ast.unparse(new)})")


def _walk(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.expr):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise | ast.JoinedStr):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _change(node: ast.expr) -> Iterator[ast.expr]:
    changed = copy.deepcopy(node)
    if isinstance(changed, ast.Compare) and type(changed.ops[0]) in COMPARED:
        changed.ops[0] = COMPARED[type(changed.ops[0])]()
    elif isinstance(changed, ast.BinOp) and type(changed.op) in COUNTED:
        if isinstance(changed.left, ast.Constant) and isinstance(changed.left.value, str):
            return
        changed.op = COUNTED[type(changed.op)]()
    elif isinstance(changed, ast.BoolOp):
        changed.op = ast.Or() if isinstance(changed.op, ast.And) else ast.And()
    elif isinstance(changed, ast.UnaryOp) and isinstance(changed.op, ast.Not):
        changed = changed.operand
    elif isinstance(changed, ast.Constant) and isinstance(changed.value, bool | int | float):
        changed.value = not changed.value if isinstance(changed.value, bool) else changed.value + 1
    else:
        return
    yield changed


def find_tests(file: str, root: Path) -> list[str]:
    """The tests to try: those named after the module, those of its room, then those elsewhere that import it."""
    parts = Path(file).with_suffix("").parts
    room, module = root / Path("tests", *parts[1:-1]), ".".join(parts)
    others = [path for each in (root / "tests").iterdir() if each.name not in APART for path in each.rglob("test_*.py")]
    importing = [path for path in others if f"from {module} import" in path.read_text()]
    tried = [*sorted(room.glob(f"test_{parts[-1]}*.py")), room, *sorted(p for p in importing if room not in p.parents)]
    return [path.relative_to(root).as_posix() for path in tried]


def is_noticed(mutant: Mutant, root: Path) -> bool:
    """Whether a test fails, or never ends, with the change in place."""
    mutant.write(root)
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    env = {**os.environ, "PYTHONPATH": f"{root}:{root / 'fmsteal/plugins'}"}
    try:
        tests = find_tests(mutant.file, root)
        return subprocess.run([*words, *tests], cwd=root, env=env, capture_output=True, timeout=SECONDS).returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        (root / mutant.file).write_bytes((ROOT / mutant.file).read_bytes())


def main() -> None:
    """Draw, try, and list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="draw alone")
    parser.add_argument("where", nargs="*", default=JUDGED)
    asked = parser.parse_args()
    files = sorted({path for name in asked.where for path in _below(ROOT / name)})
    found = [mutant for path in files for mutant in find_mutants(path.relative_to(ROOT).as_posix())]
    drawn = random.Random(asked.seed).sample(found, min(asked.count, len(found)))
    print(f"{len(drawn)} of {len(found)} changes in {len(files)} files")
    if asked.list:
        print(*drawn, sep="\n")
        return
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "-q", str(ROOT), folder], check=True)
        for number, mutant in enumerate(drawn, 1):
            began = time.monotonic()
            noticed = is_noticed(mutant, Path(folder))
            survivors += [] if noticed else [mutant]
            print(
                f"{number:3} {'noticed ' if noticed else 'SURVIVES'} {time.monotonic() - began:4.0f} s  {mutant}",
                flush=True,
            )
    print(f"{len(drawn) - len(survivors)} of {len(drawn)} are noticed; not these:", *survivors, sep="\n")


def _below(path: Path) -> list[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


if __name__ == "__main__":
    main()
