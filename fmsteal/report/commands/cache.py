"""``fmsteal cache``: what jobs share and can make again, what refers to it, and what may be removed. No torch."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fmsteal.base import artifacts, users
from fmsteal.base.artifacts import Artifact
from fmsteal.base.errors import StoreError
from fmsteal.base.quoting import spell_command
from fmsteal.records.references import References, find_references
from fmsteal.report.commands.arguments import end_if_refused, make_parser
from fmsteal.report.show.cached import show_artifacts, show_pruning
from fmsteal.report.show.table import console

TEXT = """\
What a cache holds: each artifact's kind, size, last use, what refers to it, and what is wrong with it. Last use is when
a job last made it, opened it or added to it; reading its files by other means does not count.

With --prune, those that no job has used for a time (--older-than 30d) are listed, and with --yes removed. Jobs that
need them again make them again. Never removed: victims that a theft names or may name, networks of defenses while
there are thefts from defended victims, what a running process makes or may have opened. Thefts and answers that were
paid for do not lie in a cache."""
UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


@end_if_refused()
def main(words: Sequence[str]) -> None:
    """List a cache, or remove from it what was not used for a time."""
    args = _parse(words[1:])
    root = args.dir
    artifacts.require_store(root)
    if args.forget is not None:
        return _forget(root, args.forget)
    if args.prune and args.older_than is None:
        raise StoreError("How long must an artifact be unused to be pruned? Say it: --prune --older-than 30d.")
    if not args.prune and (args.older_than is not None or args.yes or args.kind):
        raise StoreError("--older-than, --kind and --yes are for --prune: add it.")
    found = artifacts.list_artifacts(root, args.check)
    if args.kind:
        _require_kinds(args.kind, found)
    references = find_references(root, found, args.output)
    if args.prune:
        return _prune(root, found, references, args, words)
    show_artifacts(root, found, references, console())


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("cache", TEXT)
    parser.add_argument("dir", type=Path, nargs="?", default=Path("outputs/cache"), metavar="DIR", help="%(default)s")
    parser.add_argument("--check", action="store_true", help="read every file and compare its checksum")
    parser.add_argument(
        "--output", type=Path, action="append", default=[], metavar="DIR",
        help="a further output folder whose thefts count; those that have used the cache are known",
    )  # fmt: skip
    parser.add_argument("--prune", action="store_true", help="list what is not needed and was not used for a time")
    parser.add_argument("--older-than", type=_read_age, metavar="AGE", help="how long unused: 12h, 30d, 8w")
    parser.add_argument("--kind", action="append", default=[], metavar="KIND", help="prune this kind alone; repeatable")
    parser.add_argument("--yes", action="store_true", help="remove what --prune lists")
    parser.add_argument(
        "--forget", type=Path, metavar="DIR", help="note that an output folder that used the cache is gone for good"
    )
    return parser.parse_args(words)


def _read_age(word: str) -> float:
    """An age in seconds.

    Raises:
        ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", word)
    if found is None:
        raise argparse.ArgumentTypeError(f"{word!r} is no age: a number of hours, days or weeks, as 12h, 30d, 8w")
    return float(found[1]) * UNITS[found[2]]


def _require_kinds(kinds: Sequence[str], found: Sequence[Artifact]) -> None:
    there = sorted({artifact.kind for artifact in found})
    if unknown := [kind for kind in kinds if kind not in there]:
        raise StoreError(f"The cache holds no {', '.join(unknown)}. It holds: {', '.join(there) or 'nothing'}.")


def _prune(
    root: Path, found: Sequence[Artifact], references: References, args: argparse.Namespace, words: Sequence[str]
) -> None:
    before = time.time() - args.older_than
    old = [a for a in found if a.used < before and (not args.kind or a.kind in args.kind)]
    kept = {artifact.path: references.require(artifact) for artifact in old}
    able = [artifact for artifact in old if not kept[artifact.path]]
    if args.yes:
        for artifact in able:
            kept[artifact.path] = artifacts.remove(root, artifact)
    show_pruning(root, old, kept, args.yes, console())
    if able and not args.yes:
        again = spell_command(["fmsteal", *words, "--yes"])
        print(f"Nothing is removed. To remove it: {again}")


def _forget(root: Path, output: Path) -> None:
    if output.is_dir():
        raise StoreError(f"{output} is there, and its thefts count. Only a folder that is gone can be forgotten.")
    if not users.forget(root, output):
        there = ", ".join(map(str, users.list_users(root)))
        raise StoreError(f"No job below {output} has used {root}. Those that have: {there}.")
    print(f"fmsteal: {root} no longer counts the thefts of {output}", file=sys.stderr)
