"""Results grouped by cell: jobs that differ in nothing but the seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fmsteal.sweep.identity import AXES

Result = dict[str, Any]


def cells(results: Sequence[Result]) -> tuple[list[str], list[tuple[list[str], list[Result]]]]:
    """Results grouped by cell: jobs that differ in nothing but the seed.

    Returns:
        The columns that tell the cells apart (the axes that vary; of the other settings only those without which two
        cells would look alike), and for each cell its values on them and its jobs; queries ascend within the rest.
    """
    groups: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda r: r["axis"]["seed"]):
        chosen = {name: value for name, value in result["axis"].items() if name != "seed"}
        groups.setdefault(json.dumps([chosen, result["settings"]], sort_keys=True), []).append(result)
    facts = {cell: {**jobs[0]["settings"], **jobs[0]["axis"]} for cell, jobs in groups.items()}

    def kinds(names: Sequence[str]) -> int:
        return len({tuple(str(f.get(n)) for n in names) for f in facts.values()})

    columns = [name for name in AXES if kinds([name]) > 1]
    others = {name for fact in facts.values() for name in fact} - set(AXES) - {"seed"}
    for name in sorted(others, key=lambda n: ("." in n, n)):
        if kinds([*columns, name]) > kinds(columns):
            columns.append(name)

    def place(cell: str) -> tuple[list[str], int]:
        rest = [c for c in columns if c not in ("budget", "queries")]
        return [str(facts[cell].get(c)) for c in rest], groups[cell][0]["budget"]

    order = sorted(groups, key=place)
    return columns, [([str(facts[cell].get(c, "none")) for c in columns], groups[cell]) for cell in order]
