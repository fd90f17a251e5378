"""What Hydra kept of a job's config, as far as it is compared: a few blocks, which are found without parsing it all."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from fmsteal.records.results import load_yaml


def read_config(file: Path) -> dict[str, Any]:
    """What is compared of a job's config: budget, seed, adaptations; interpolations as they are written."""
    text = file.read_text()
    found = {name: _block(text, name) for name in ("budget", "seed")}
    found |= {who: _line(_block(text, who), "adaptation") for who in ("victim", "thief")}
    if None in found.values():  # written by something else than Hydra: all of it is parsed
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
    """The lines of a key and of what is below it; None if it is not there once."""
    place = " " * indent
    found = re.findall(rf"^{place}{name}:(?: .*)?\n(?:{place} .*\n)*", text, re.MULTILINE)
    return textwrap.dedent(found[0]) if len(found) == 1 else None


def _line(block: str | None, name: str) -> str | None:
    """Of a block its head and the one plain value of this name; None if it is not there once."""
    found = re.findall(rf"^  {name}: .*\n", block or "", re.MULTILINE)
    return (block or "").partition("\n")[0] + "\n" + found[0] if len(found) == 1 else None
