"""Labels as they are written beside images: whole numbers, or names of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fmsteal.base.errors import DataError
from fmsteal.data.images import Labels

MOST_CLASSES = 99_999  # a larger number is no class


def number_labels(texts: Sequence[str]) -> tuple[Labels, list[str]]:
    """Numbers and class names of labels: whole numbers are taken as they are, names are numbered in sorted order.

    Args:
        texts: a label each, as it is written.

    Returns:
        int64 ``(n,)``, and the names of the classes: the numbers themselves where there are no names.

    Raises:
        DataError: a number is too large to be that of a class.
    """
    if texts and all(text.isascii() and text.isdigit() for text in texts):
        if max(map(len, texts)) > len(str(MOST_CLASSES)):
            raise DataError(f"A label is {max(texts, key=len)[:20]}: labels that are numbers count the classes from 0.")
        numbers = np.array([int(text) for text in texts], dtype=np.int64)
        return numbers, [str(number) for number in range(int(numbers.max()) + 1)]
    classes = sorted(set(texts))
    place = {name: number for number, name in enumerate(classes)}
    return np.array([place[text] for text in texts], dtype=np.int64), classes


def name_classes(classes: Sequence[str], names: Sequence[str] | str | None) -> list[str]:
    """The names of classes that have a number alone; as they are for None.

    Args:
        classes: numbers as text, in order.
        names: a name for each, or a file with a line for each.

    Raises:
        DataError: there is no such file, the classes have names, or some number has none.
    """
    if names is None:
        return list(classes)
    if isinstance(names, str):
        file = Path(names).expanduser()
        if not file.is_file():
            raise DataError(f"data.classes={names} is no file with a class name on each line.")
        names = [line.strip() for line in file.read_text().splitlines() if line.strip()]
    if list(classes) != [str(number) for number in range(len(classes))]:
        raise DataError(f"data.classes is for labels that are numbers, but they are names already: {classes[0]}, ...")
    if len(names) < len(classes):
        raise DataError(f"data.classes has {len(names)} names, but the labels run to {len(classes) - 1}.")
    if len(set(names)) < len(names):
        raise DataError("data.classes has a name twice.")
    return [str(name) for name in names]
