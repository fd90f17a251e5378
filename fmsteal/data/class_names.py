"""Class names as texts for a text tower: the data set's own, made readable, or names that the config gives."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from fmsteal.base.errors import ConfigError, DataError

Names = str | Sequence[str] | Mapping[str, str] | None
_NUMBER = re.compile(r"^\d+\s*[.\s_-]+\s*")  # before a name: 001.ak47, 3 - three
_NO_NAME = re.compile(r"\d+|n\d{8}")  # a number, or a WordNet id


def spell_classes(classes: Sequence[str], names: Names, option: str) -> list[str]:
    """A text for each class.

    Args:
        classes: the class names of the data set.
        names: None takes those, without leading numbers and with spaces for underscores; a list gives the texts in the
            order of the classes, a mapping gives them by class; a path is a file with a line for each class: the
            class, a tab, comma or space, and its text, up to the first comma (ImageNet's ``words.txt``).
        option: the option that gives the names, for error messages: ``victim.names``.

    Raises:
        ConfigError: a class has no text, or two have the same.
        DataError: there is no such file.
    """
    if isinstance(names, str):
        names = _read(Path(names).expanduser(), option)
    if names is None:
        texts = _readable(classes, option)
    elif isinstance(names, Mapping):
        if missing := [name for name in classes if name not in names]:
            raise ConfigError(
                f"{option} has no text for the class '{missing[0]}' ({len(missing)} of {len(classes)} are missing)."
            )
        texts = [names[name] for name in classes]
    else:
        if len(names) != len(classes):
            raise ConfigError(f"{option} has {len(names)} texts, but there are {len(classes)} classes: give one each.")
        texts = list(names)
    _require_unlike(classes, texts, option)
    return texts


def _readable(classes: Sequence[str], option: str) -> list[str]:
    """The classes' own names, made readable.

    Raises:
        ConfigError: a name is a number, or an id.
    """
    texts = [_NUMBER.sub("", name).replace("_", " ").strip() for name in classes]
    if unnamed := [name for name, text in zip(classes, texts, strict=True) if _NO_NAME.fullmatch(text) or not text]:
        raise ConfigError(
            f"The class '{unnamed[0]}' has no name that says what it is ({len(unnamed)} of {len(classes)} have "
            f"none). Name them: {option}=[zero,one,...], {option}={{{unnamed[0]}: a name, ...}}, or {option}=/path "
            "of a file of names."
        )
    return texts


def _require_unlike(classes: Sequence[str], texts: Sequence[str], option: str) -> None:
    """Check that no two classes have the same text.

    Raises:
        ConfigError: two classes have the same text.
    """
    if twice := [text for text, times in Counter(texts).items() if times > 1]:
        same = [name for name, text in zip(classes, texts, strict=True) if text == twice[0]]
        raise ConfigError(
            f"The classes {', '.join(same[:5])} are all '{twice[0]}' to a text tower, which cannot tell them apart: "
            f"name them by {option}."
        )


def _read(file: Path, option: str) -> dict[str, str]:
    if not file.is_file():
        raise DataError(f"{option}={file} is no file of class names. A list is {option}=[cat,dog].")
    found = {}
    for line in file.read_text().splitlines():
        parts = line.split("\t", 1) if "\t" in line else re.split(r"[\s,]+", line.strip(), maxsplit=1)
        if len(parts) == 2:
            found[parts[0].strip()] = parts[1].partition(",")[0].strip()
    return found
