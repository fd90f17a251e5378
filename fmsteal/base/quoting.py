"""Values as Hydra's override grammar reads them, and command lines as one would type them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Any

from fmsteal.base import paths

_KEY = re.compile(r"[A-Za-z_][\w.+-]*")
_CHOICES = re.compile(r"(?P<group>[a-z_/]+)=(?P<names>[\w.]+(?:,[\w.]+)*)")
_RANGES = re.compile(r"[\w./~-]*(\{\d+\.\.\d+\}[\w./~-]*)+")  # of file names: shards-{000..099}.tar
_NUMBER = re.compile(r"\d+(\.\d+)?(e\d+)?")


def spell(value: Any) -> str:
    """A plain value (None, bool, number, text, list, dict) as the right side of an override.

    Raises:
        ValueError: `value` is of another type.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(key)}:{spell(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(spell(inner) for inner in value) + "]"
    raise ValueError(f"{type(value).__name__} {value!r} cannot be an override")


def quote(text: str) -> str:
    """Put a text in quotes; in Hydra's grammar, backslashes escape only before a quote."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def quote_override(override: str) -> str:
    """Quote what Hydra's grammar would misread.

    That is numeric file names of a group (``budget=100``), ranges in file names (``{000..099}``), and non-ASCII text.
    """
    key, equals, value = override.partition("=")
    if equals and _RANGES.fullmatch(value):
        return f'{key}="{value}"'
    if equals and not value.isascii() and not any(c in value for c in "\"'[{,"):
        return f'{key}="{value}"'
    match = _CHOICES.fullmatch(override)
    if match is None or not (paths.folder("conf") / match["group"]).is_dir():
        return override
    names = [f"'{name}'" if _NUMBER.fullmatch(name) else name for name in match["names"].split(",")]
    return f"{match['group']}={','.join(names)}"


def unquote_override(override: str) -> str:
    """The override as one would type it, without the quotes that `quote_override` would add again."""
    bare = (override.replace(mark, "") for mark in "'\"" if mark in override)
    return next((word for word in bare if quote_override(word) == override), override)


def spell_command(words: Sequence[str]) -> str:
    """A command as one would type it into a shell, which splits it into these words (except for `quote_override`)."""
    return " ".join(_in_shell(unquote_override(word)) for word in words)


def _in_shell(word: str) -> str:
    """Quote a word, with double quotes if it holds single ones: shlex would write each of those as five characters."""
    if "'" not in word or "!" in word:  # an interactive shell expands "!" inside double quotes too
        return shlex.quote(word)
    return '"' + re.sub(r'([\\"$`])', r"\\\1", word) + '"'


def _key(key: Any) -> str:
    text = str(key)
    return text if _KEY.fullmatch(text) else quote(text)
