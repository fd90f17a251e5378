"""Makes text read from files safe to show in a terminal, at a shell prompt or in a spreadsheet."""

from __future__ import annotations

import re
import shlex
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # last: text direction
_TYPED = re.compile(r"""(?:'[^']*'|"[^"$`\\!]*"|[\w@%+=:,./{}\[\] -])*""", re.ASCII)  # no shell expands any of it
_OURS = re.compile(r"(?:python3? -m )?fmsteal(?: |$)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def make_printable(text: str) -> str:
    """Text without terminal control characters; line breaks and tabs stay."""
    return _CONTROL.sub("", text)


def make_typable(text: Any) -> str | None:
    """An fmsteal command read from a file, as one line that is safe to type: a shell runs nothing else.

    None if it is not an fmsteal command.
    """
    if not isinstance(text, str):
        return None
    line = make_printable(" ".join(text.splitlines())).replace("\t", " ").strip()
    if not _OURS.match(line):
        return None
    if _TYPED.fullmatch(line):
        return line
    try:
        return shlex.join(shlex.split(line))
    except ValueError:  # an unclosed quote
        return None


def escape_cell(value: Any) -> Any:
    """Put an apostrophe before text that a spreadsheet would run as a formula, for a cell of a CSV file.

    Numbers stay as they are, including numbers given as text.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
