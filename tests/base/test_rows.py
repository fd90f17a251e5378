from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.base.rows import Ids, RowCache, Rows
from fmsteal.base.store import Store

TRUTH = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)


class Source:
    def __init__(self) -> None:
        self.computed: list[int] = []

    def __call__(self, ids: Ids) -> Rows:
        self.computed += ids.tolist()
        return TRUTH[ids]


def cache(root: Path) -> RowCache:
    return RowCache(Store(root), "features", "x", {"source": "truth"})


@given(st.lists(st.lists(st.integers(0, 49), max_size=12), max_size=6))
@settings(max_examples=40)
def test_rows_are_right_and_computed_once_whatever_is_asked(
    tmp_path_factory: pytest.TempPathFactory, asked: list[list[int]]
) -> None:
    root, source = tmp_path_factory.mktemp("rows"), Source()
    shared = [cache(root), cache(root)]
    for turn, ids in enumerate(asked):
        rows = shared[turn % 2].get(np.array(ids, dtype=np.int64), source)
        if ids:
            np.testing.assert_array_equal(rows, TRUTH[ids])
    assert len(source.computed) == len(set(source.computed)) == len({i for ids in asked for i in ids})


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_a_damaged_chunk_is_set_aside_and_computed_again(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids = np.arange(10)
    cache(tmp_path).get(ids, Source())
    chunk = next(tmp_path.rglob(f"*.{kind}"))
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 255
    chunk.write_bytes(bytes(data))
    source = Source()
    np.testing.assert_array_equal(cache(tmp_path).get(ids, source), TRUTH[ids])
    assert sorted(source.computed) == list(range(10))
    assert "damaged" in caplog.text and list(tmp_path.rglob("*.damaged"))


def test_a_source_that_returns_too_few_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 rows were computed for 3 images"):
        cache(tmp_path).get(np.arange(3), lambda ids: TRUTH[:2])


def test_what_does_not_fit_into_memory_lies_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([7, 3, 49, 3])
    in_memory = cache(tmp_path).get(ids, Source())
    monkeypatch.setattr("fmsteal.base.rows.IN_MEMORY", 16)
    on_disk = cache(tmp_path).get(ids, Source())
    assert isinstance(on_disk, np.memmap) and not isinstance(in_memory, np.memmap)
    np.testing.assert_array_equal(on_disk, in_memory)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["cache.json"], "no temporary file is left behind"


def test_rows_of_another_width_are_refused(tmp_path: Path) -> None:
    rows = cache(tmp_path)
    rows.get(np.arange(3), Source())
    with pytest.raises(ValueError, match=r"shape \(1, 2\), not of width 3"):
        rows.get(np.array([9]), lambda ids: TRUTH[ids][:, :2])
