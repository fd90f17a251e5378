"""Labels as text: numbers, names, and what is neither."""

from __future__ import annotations

import pytest

from fmsteal.base.errors import DataError
from fmsteal.data.label_texts import name_classes, number_labels


def test_whole_numbers_are_taken_as_they_are_and_names_are_sorted() -> None:
    numbers, classes = number_labels(["2", "0", "007"])
    assert numbers.tolist() == [2, 0, 7] and classes == [str(number) for number in range(8)]
    numbers, classes = number_labels(["cat", "10", "ant", "cat"])
    assert numbers.tolist() == [2, 0, 1, 2] and classes == ["10", "ant", "cat"]
    assert number_labels([])[1] == []


def test_a_number_that_counts_no_classes_is_refused_before_it_makes_a_list() -> None:
    with pytest.raises(DataError, match=r"A label is 1000000000000000000\d: labels that are numbers count the classes"):
        number_labels(["1", "1" + "0" * 18 + "7"])


def test_names_are_for_numbers_alone() -> None:
    assert name_classes(["0", "1"], ["no", "yes"]) == ["no", "yes"] and name_classes(["a"], None) == ["a"]
    with pytest.raises(DataError, match=r"they are names already: ant"):
        name_classes(["ant", "bee"], ["no", "yes"])
