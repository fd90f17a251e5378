"""Checks the final figures of an offline W&B run against the result's."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from fmsteal.records.folders import JobFolder
from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.records import Record
from fmsteal.tracking.on_wandb import read_records


def check_summary(job: JobFolder, result: Record, found: Findings) -> None:
    """Compare the figures of the run that a result names, if its file still exists."""
    place = re.search(r"offline-run-[\w-]+", str(result.get("tracker") or ""))
    if place is None:
        return
    figures = {**result["metrics"], **result["cost"]}
    for file in sorted((job.wandb / place[0]).glob("run-*.wandb")):
        name = file.relative_to(job.path).as_posix()
        with found.reading(name):
            summary, ended = _read_summary(file, {each for figure in figures for each in _spellings(figure)})
            found.counted["W&B runs"] += 1
            for figure, value in figures.items():
                said = [summary[each] for each in _spellings(figure) if each in summary]
                if said and not _same(said[0], value):
                    found.add(name, f"its summary says {figure} is {said[0]}, the result {value}")
                elif ended and not said:
                    found.add(name, f"its summary has no {figure}")


def _spellings(figure: str) -> tuple[str, str]:
    """A figure's name in W&B, which has no ``@`` and no dots there, and as runs of version 0.1 have it."""
    return figure.replace("@", "_at_").replace(".", "_"), figure


def _read_summary(file: Path, names: Set[str]) -> tuple[Mapping[str, Any], bool]:
    """The figures with these names in a run's summary, and whether the run was finished."""

    texts: dict[str, str] = {}
    ended = False
    for record in read_records(file):
        kind = record.WhichOneof("record_type")
        ended = ended or kind == "exit"
        for item in record.summary.update if kind == "summary" else ():
            texts[item.key or "/".join(item.nested_key)] = item.value_json
    return {name: json.loads(text) for name, text in texts.items() if name in names}, ended


def _same(said: Any, value: Any) -> bool:
    try:
        one, other = float(said), float(value)
    except (TypeError, ValueError):
        return bool(said == value)
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
