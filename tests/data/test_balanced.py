"""Stratified orders: against a plain loop, and scikit-learn's stratified splits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from fmsteal.base.errors import DataError
from fmsteal.data.balanced import order_stratified
from fmsteal.data.images import Images, Labels, Task

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=60).map(lambda found: np.array(found, dtype=np.int64))


def images(labels: Labels) -> Images:
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None].repeat(3, axis=1)
    return Images(pixels, "a set", labels, tuple("abcdefghijkl"))


@given(LABELS, st.integers(0, 5))
def test_the_next_image_is_of_a_class_of_which_least_is_taken(labels: Labels, seed: int) -> None:
    order = order_stratified(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    sizes, taken = np.bincount(labels, minlength=7), np.zeros(7)
    for label in labels[order]:
        left = [k for k in range(7) if taken[k] < sizes[k]]
        assert taken[label] / sizes[label] == min(taken[k] / sizes[k] for k in left)
        taken[label] += 1


@pytest.mark.parametrize("share", [0.2, 0.37, 0.5])
def test_a_split_is_as_even_as_scikit_learns(share: float) -> None:
    labels = np.repeat(np.arange(4), [100, 50, 23, 7])
    train, test = images(labels).split(share, 3, stratified=True)
    assert train.labels is not None and test.labels is not None
    held = round(180 * share)
    theirs = next(StratifiedShuffleSplit(1, test_size=held, random_state=0).split(labels, labels))[1]
    apart = np.bincount(test.labels, minlength=4) - np.bincount(labels[theirs], minlength=4)
    assert len(test) == held and np.abs(apart).max() <= 1
    both = np.concatenate([train.place(np.arange(len(train))), test.place(np.arange(len(test)))])
    assert sorted(both.tolist()) == list(range(180))


def test_a_count_of_so_many_classes_is_one_of_each_and_fewer_are_among_more() -> None:
    labels = np.repeat(np.arange(12), 10)
    np.random.default_rng(0).shuffle(labels)
    task = Task(images(labels), images(labels))
    before: set[int] = set()
    for count in (1, 7, 12, 13, 24, 119):
        made = task.reduced(count, count, 4, stratified=True)
        assert made.train.labels is not None and made.test.labels is not None and made.rest is not None
        counts = np.bincount(made.train.labels, minlength=12)
        assert len(made.train) == count == counts.sum() and counts.max() - counts.min() <= 1
        assert np.bincount(made.test.labels, minlength=12).max() - counts.min() <= 1
        now = set(made.train.place(np.arange(count)).tolist())
        assert before < now and not now & set(made.rest.place(np.arange(len(made.rest))).tolist())
        before = now


def test_small_classes_stay_in_training_and_seeds_differ() -> None:
    labels = np.repeat(np.arange(3), [1, 2, 40])
    train, test = images(labels).split(0.2, 0, stratified=True)
    assert train.labels is not None and set(train.labels.tolist()) == {0, 1, 2} and len(test) == 9
    assert images(labels).split(0.2, 1, stratified=True)[0].digest != train.digest
    with pytest.raises(DataError, match="without labels cannot be stratified"):
        images(labels).unlabelled().ordered(0)
