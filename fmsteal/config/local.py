"""Which settings of a config name local files, or code."""

from __future__ import annotations

import os
import re
from typing import Any

_NAMES = {"root", "weights", "file", "folder", "checkpoint", "path"}  # last words of options that name files
_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # pypi:, https:


def is_path(key: str, value: Any) -> bool:
    """Whether a setting names a local file or folder: its key says so, or its value is an existing path."""
    if not isinstance(value, str) or not value or value == "hub" or _SCHEME.match(value):
        return False
    if key.rpartition(".")[2].rpartition("_")[2] in _NAMES:
        return True
    return value.startswith(("/", "~", "./")) and os.path.exists(os.path.expanduser(value))  # noqa: PTH110, PTH111


def find_code(key: str, value: Any) -> str | None:
    """The import path of the code that a setting names, as ``model=pkg.module:name`` does; None if it names none."""
    if key.rpartition(".")[2] != "model" or not isinstance(value, str) or not _CODE.fullmatch(value):
        return None
    return value.replace(":", ".")


def is_digest(value: Any) -> bool:
    """Whether a value is the digest of a file's or folder's content, for which its path is more readable."""
    return isinstance(value, str) and value.startswith(("file:", "folder:"))
