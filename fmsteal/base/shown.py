"""Text that was read from files, made safe for where it is shown: a terminal, a shell's prompt, a spreadsheet."""

from __future__ import annotations

import re
import shlex
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # and turns of direction
_TYPED = re.compile(r"""(?:'[^']*'|"[^"$`\\!]*"|[\w@%+=:,./{}\[\] -])*""", re.ASCII)  # no shell takes it for more
_OURS = re.compile(r"(?:python3? -m )?fmsteal(?: |$)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def make_printable(text: str) -> str:
    """Text without the characters that steer a terminal; line breaks and tabs stay."""
    return _CONTROL.sub("", text)


def make_typable(text: Any) -> str | None:
    """A command of ours that a file holds, as it can be typed: one line, in which nothing else than it is run.

    None where it is no command of ours.
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
    except ValueError:  # a quote that does not end
        return None


def escape_cell(value: Any) -> Any:
    """A cell of a CSV file: text that a spreadsheet would run as a formula begins with an apostrophe.

    Numbers stay numbers, also those that are text.
    """
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
