"""Reads the parts of a job's config that are compared: a few blocks, found without parsing all of it."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from fmsteal.records.results import load_yaml


def read_config(file: Path) -> dict[str, Any]:
    """The parts of a job's config that are compared: budget, seed, adaptations; interpolations are not resolved."""
    text = file.read_text()
    found = {name: _block(text, name) for name in ("budget", "seed")}
    found |= {who: _line(_block(text, who), "adaptation") for who in ("victim", "thief")}
    if None in found.values():  # not written by Hydra: all of it is parsed
        return dict(load_yaml(text))
    return dict(load_yaml("".join(map(str, found.values()))))


def read_choices(file: Path) -> dict[str, Any]:
    """The chosen file of each config group."""
    text = file.read_text()
    found = _block(text, "choices", 4)
    if found is None:
        return dict(load_yaml(text)["hydra"]["runtime"]["choices"])
    return dict(load_yaml(found)["choices"])


def _block(text: str, name: str, indent: int = 0) -> str | None:
    """The lines of a key and its content; None unless the key occurs exactly once."""
    place = " " * indent
    found = re.findall(rf"^{place}{name}:(?: .*)?\n(?:{place} .*\n)*", text, re.MULTILINE)
    return textwrap.dedent(found[0]) if len(found) == 1 else None


def _line(block: str | None, name: str) -> str | None:
    """A block's first line and that of the plain value ``name``; None unless it occurs exactly once."""
    found = re.findall(rf"^  {name}: .*\n", block or "", re.MULTILINE)
    return (block or "").partition("\n")[0] + "\n" + found[0] if len(found) == 1 else None
