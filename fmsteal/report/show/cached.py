"""A cache as tables in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from fmsteal.base.artifacts import Artifact
from fmsteal.records.references import References
from fmsteal.report.show.whole import print_whole

DAY = 86400.0


def show_artifacts(root: Path, found: Sequence[Artifact], references: References, out: Console) -> None:
    """Print each artifact, then each kind's number and size."""
    table = _table(f"{root}: {len(found)} artifacts, {decimal(sum(a.size for a in found))}")
    table.add_column("what refers to it, and what it is of")
    table.add_column("state")
    for artifact in sorted(found, key=lambda a: (a.kind, -a.size, a.name)):
        table.add_row(*_columns(artifact), escape(references.describe(artifact)), escape(_state(artifact, references)))
    print_whole(table, out)
    totals = Table()
    for name in ("kind", "number", "size", "last use"):
        totals.add_column(name, justify="left" if name == "kind" else "right")
    for kind in sorted({artifact.kind for artifact in found}):
        own = [artifact for artifact in found if artifact.kind == kind]
        size, used = sum(a.size for a in own), max(a.used for a in own)
        totals.add_row(escape(kind), f"{len(own):,}", decimal(size), _ago(used))
    out.print(totals)
    for folder in references.gone:
        said = f"{folder} has used this cache and cannot be read now: no victim is pruned. If it is gone for good:"
        out.print(f"{said} --forget {folder}", soft_wrap=True, highlight=False, markup=False)


def show_pruning(root: Path, old: Sequence[Artifact], kept: Mapping[Path, str], removed: bool, out: Console) -> None:
    """Print what is removed, or would be, and what of the old is kept, with the reason."""
    going = [artifact for artifact in old if not kept[artifact.path]]
    what = "removed" if removed else "would be removed"
    table = _table(f"{root}: {len(going)} artifacts {what}, {decimal(sum(a.size for a in going))}")
    table.add_column("what is done")
    for artifact in sorted(old, key=lambda a: (a.kind, a.name)):
        why = kept[artifact.path]
        table.add_row(*_columns(artifact), escape(f"kept: {why}" if why else what))
    print_whole(table, out)


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("kind", "artifact", "size", "last use"):
        right = name in ("size", "last use")
        table.add_column(name, justify="right" if right else "left", no_wrap=name == "artifact")
    return table


def _columns(artifact: Artifact) -> tuple[str, str, str, str]:
    return escape(artifact.kind), escape(artifact.name), decimal(artifact.size), _ago(artifact.used)


def _state(artifact: Artifact, references: References) -> str:
    """What is wrong with it, or why it is kept."""
    if artifact.is_being_made:
        return "being made"
    return artifact.fault or references.require(artifact)


def _ago(when: float) -> str:
    days = max(0.0, time.time() - when) / DAY
    return f"{days:,.0f} d ago" if days >= 2 else f"{days * 24:.0f} h ago" if days * 24 >= 1 else "this hour"
