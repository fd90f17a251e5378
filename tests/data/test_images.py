"""Subsets are views: they index as arrays do, share what was computed, and travel by name."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.base.errors import DataError
from fmsteal.data.images import PIXELS, Images, Picked, content_digest, load, save
from fmsteal.training.inference import features
from tests.support.small_task import CLASSES, LABELS, TASK, context, part
from tests.support.small_task import PIXELS as RANDOM

N = 60
WHOLE = Images(RANDOM, content_digest(RANDOM, LABELS), LABELS, CLASSES)
ids = st.lists(st.integers(0, N - 1), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("images")
    save(folder, RANDOM, LABELS, CLASSES)
    return load(folder)


@given(ids, st.data())
@settings(max_examples=60)
def test_a_subset_of_a_subset_is_what_numpy_indexing_gives(
    mapped: Images, first: list[int], data: st.DataObject
) -> None:
    second = np.array(data.draw(st.lists(st.integers(0, len(first) - 1), max_size=10)), dtype=np.int64)
    direct = np.array(first)[second]
    for whole in (WHOLE, mapped):
        subset = whole.subset(np.array(first)).subset(second)
        assert isinstance(subset.pixels, Picked)
        np.testing.assert_array_equal(subset.pixels, RANDOM[direct])
        np.testing.assert_array_equal(subset.labels, LABELS[direct])
        np.testing.assert_array_equal(subset.place(np.arange(len(second))), direct)
        assert subset.whole().digest == subset.origin == whole.digest and subset.whole().pixels is whole.pixels
        assert subset.digest == whole.subset(direct).digest, "however it was come by"
        assert subset.unlabelled().labels is None and subset.unlabelled().whole().digest == whole.digest
    same = np.array_equal(direct, np.array(first))
    assert (whole.subset(np.array(first)).digest == subset.digest) == same


@given(ids, st.data())
@settings(max_examples=60)
def test_picked_rows_are_indexed_as_an_array_is(picked: list[int], data: st.DataObject) -> None:
    view, array = Picked(RANDOM, np.array(picked)), RANDOM[picked]
    count = len(picked)
    at = st.integers(-count, count - 1)
    key = data.draw(
        st.one_of(
            at, st.slices(count), st.lists(at, min_size=1, max_size=5).map(np.array), st.just(Ellipsis),
            st.lists(st.booleans(), min_size=count, max_size=count).map(np.array),
            st.tuples(st.slices(count), st.integers(0, 2)), st.tuples(st.just(Ellipsis), st.integers(0, 31)),
            st.tuples(st.slices(count), st.just([0, 2])), st.tuples(at, st.integers(0, 2), st.slices(32)),
        )
    )  # fmt: skip
    np.testing.assert_array_equal(view[key], array[key])
    assert view.shape == array.shape and len(list(view)) == len(view) == count


@given(st.integers(1, N - 1), st.integers(0, 5))
@settings(max_examples=30)
def test_taken_and_rest_are_the_whole(count: int, seed: int) -> None:
    some, rest = WHOLE.taken(count, seed)
    assert rest is not None and len(some) == count
    here, there = (images.place(np.arange(len(images))).tolist() for images in (some, rest))
    assert here == sorted(here) and there == sorted(there) and sorted(here + there) == list(range(N))
    assert WHOLE.taken(count, seed)[0].digest == some.digest == WHOLE.some(count, seed).digest
    assert set(WHOLE.taken(max(1, count // 2), seed)[0].place(np.arange(max(1, count // 2)))) <= set(here), "nested"


def test_all_leaves_no_rest_and_too_many_or_none_are_refused() -> None:
    assert WHOLE.taken(None, 0) == (WHOLE, None) == WHOLE.taken(N, 0)
    for count in (0, -1, N + 1):
        with pytest.raises(DataError, match=f"{count} images are asked for of {N}"):
            WHOLE.taken(count, 0)


def test_rows_of_a_memory_map_travel_by_the_files_name(mapped: Images) -> None:
    subset = mapped.subset(np.arange(0, N, 2))
    sent = pickle.dumps(subset.pixels)
    assert len(sent) < 2000 < subset.pixels.array.nbytes and PIXELS.encode() in sent
    come = pickle.loads(sent)
    assert isinstance(come.array, np.memmap)
    np.testing.assert_array_equal(come, RANDOM[::2])


@pytest.mark.parametrize("rows", [slice(7, None), slice(None, None, 3)])
def test_rows_of_a_part_of_a_memory_map_travel_as_they_are(rows: slice, mapped: Images) -> None:
    picked = Images(mapped.pixels[rows], "a part").subset(np.array([2, 0])).pixels
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(picked)), RANDOM[rows][[2, 0]])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(WHOLE.subset(np.array([4])).pixels)), RANDOM[[4]])


def test_the_digest_is_of_shape_pixels_and_labels(mapped: Images) -> None:
    assert mapped.digest == WHOLE.digest == content_digest(np.asarray(mapped.pixels), mapped.labels)
    flipped = RANDOM.copy()
    flipped[-1, -1, -1, -1] ^= 1
    others = (content_digest(flipped, LABELS), content_digest(RANDOM), content_digest(RANDOM, LABELS[::-1].copy()))
    assert len({WHOLE.digest, content_digest(RANDOM.reshape(30, 3, 64, 32), LABELS), *others}) == 5


def test_an_image_in_two_subsets_is_answered_once_and_has_its_features_computed_once(
    mapped: Images, tmp_path: Path
) -> None:
    ctx = context(tmp_path)
    here, there = mapped.subset(np.arange(0, 40)), mapped.unlabelled().subset(np.arange(59, 19, -1))
    victim = part("victim", "victim=resnet10t").prepare(TASK, ctx)
    first = victim.raw(here, np.arange(40), ctx)
    assert victim.forwards == 40
    second = victim.raw(there, np.arange(40), ctx)
    assert victim.forwards == 60
    np.testing.assert_array_equal(first[20:], second.flip(0)[:20])

    learner = part("thief")
    trunk = learner.build(3).backbone
    seen = []
    trunk.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    ctx.training.__dict__["inference_batch"] = 20
    first = features(learner.backbone, trunk, here, np.arange(40), ctx)
    second = features(learner.backbone, trunk, there, np.arange(40), ctx)
    assert seen == [20, 20, 20]
    np.testing.assert_array_equal(first[20:], second.flip(0)[:20])
