"""Names of many files in one: ``shards-{000..099}.tar``, ``{a,b}.tar``, ``shards-*.tar``."""

from __future__ import annotations

import glob
import re
from pathlib import Path

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAGIC = re.compile(r"[{*?\[]")


def is_pattern(path: str) -> bool:
    """Whether a path that does not exist as it is may name several files."""
    return _MAGIC.search(path) is not None and not Path(path).expanduser().exists()


def expand_braces(pattern: str) -> list[str]:
    """All names that the braces of a pattern stand for, in order; ``{000..099}`` keeps its leading zeros."""
    for found in _BRACES.finditer(pattern):
        inside = found[1]
        if limits := _RANGE.fullmatch(inside):
            words = _count(limits[1], limits[2])
        elif "," in inside:
            words = inside.split(",")
        else:
            continue
        before, after = pattern[: found.start()], pattern[found.end() :]
        return [name for word in words for name in expand_braces(f"{before}{word}{after}")]
    return [pattern]


def find_files(pattern: str) -> list[Path]:
    """The files that a pattern names: those of its braces whether they exist or not, those of ``*`` that do."""
    found: list[Path] = []
    for name in expand_braces(str(Path(pattern).expanduser())):
        has_star = re.search(r"[*?\[]", name) is not None and not Path(name).exists()
        found += map(Path, sorted(glob.glob(name))) if has_star else [Path(name)]  # noqa: PTH207
    return list(dict.fromkeys(found))


def find_base(pattern: str) -> Path:
    """The folder above the first part of a pattern that is not plain."""
    path = Path(pattern).expanduser().absolute()
    plain = next((i for i, part in enumerate(path.parts) if _MAGIC.search(part)), len(path.parts))
    return Path(*path.parts[:plain])


def _count(first: str, last: str) -> list[str]:
    width = max(len(first), len(last)) if "0" in (first[0], last[0]) and max(len(first), len(last)) > 1 else 0
    start, end = int(first), int(last)
    step = 1 if start <= end else -1
    return [f"{number:0{width}d}" for number in range(start, end + step, step)]
