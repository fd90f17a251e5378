"""What a job keeps for the run that goes on after a kill."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import StoreError
from tests.support.small_task import context

CHOICE = np.arange(500, dtype=np.int64) ** 2


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:2000] + bytes([data[2000] ^ 1]) + data[2001:]


def emptied(data: bytes) -> bytes:
    return b""


def never() -> np.ndarray:
    raise AssertionError("it was kept")


@pytest.mark.parametrize("made", [CHOICE, CHOICE[:0], np.zeros((3, 3, 2, 2), np.uint8), np.float32([0.1])])
def test_what_was_kept_is_not_made_again(made: np.ndarray, tmp_path: Path) -> None:
    assert context(tmp_path).kept("round-1", lambda: made) is made
    again = context(tmp_path).kept("round-1", never)
    assert again.dtype == made.dtype
    np.testing.assert_array_equal(again, made)
    np.testing.assert_array_equal(context(tmp_path).kept("round-2", lambda: CHOICE + 1), CHOICE + 1)


@pytest.mark.parametrize("damage", [cut, flipped, emptied])
def test_a_damaged_file_is_made_again(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context(tmp_path).kept("round-1", lambda: CHOICE)
    (file,) = (tmp_path / "work" / "kept").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(context(tmp_path).kept("round-1", lambda: CHOICE + 1), CHOICE + 1)
    assert re.search(r"round-1\.npz is damaged .*making it again", caplog.text)
    np.testing.assert_array_equal(context(tmp_path).kept("round-1", never), CHOICE + 1)


def test_what_could_not_be_made_or_written_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = context(tmp_path)
    with pytest.raises(AssertionError):
        ctx.kept("round-1", never)

    def full(stream: object, **arrays: np.ndarray) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(StoreError, match="No space left"):
        patched.setattr(np, "savez", full)
        ctx.kept("round-1", lambda: CHOICE)
    np.testing.assert_array_equal(ctx.kept("round-1", lambda: CHOICE), CHOICE)
    assert [p.name for p in (tmp_path / "work" / "kept").iterdir()] == ["round-1.npz"]
