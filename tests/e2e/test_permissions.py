"""Folders that cannot be written, and files of somebody else's: one sentence that names the place, and no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import StoreError
from fmsteal.base.store import Store, explain_errors, require_readable, require_writable, write_json
from fmsteal.job.theft import hold
from fmsteal.oracle.ledger import Ledger
from fmsteal.report.commands import main
from tests.support.job_folders import begun, finish
from tests.support.questions import ANSWERS, questions
from tests.support.rights import bound_by_rights, locked


@pytest.fixture
def stranger() -> Iterator[None]:
    """Be somebody who has no rights but those that files give."""
    with bound_by_rights():
        yield


@pytest.mark.usefixtures("stranger")
def test_a_read_only_output_folder_is_said_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    locked(tmp_path / "outputs", 0o555)
    for place in ("outputs", "outputs/runs/x", "outputs/cache"):
        with pytest.raises(StoreError, match=r"Cannot write under .*outputs.*Permission denied.*output=/path"):
            require_writable(tmp_path / place)
    with pytest.raises(StoreError, match="Cannot write under"):
        Store(tmp_path / "outputs" / "cache").get("things", "x", {}, lambda out, scratch: None)
    with (
        pytest.raises(StoreError, match="Cannot write under"),
        hold(tmp_path / "outputs" / "thefts", "x-0123456789abcdef", {}),
    ):
        pass
    with pytest.raises(StoreError, match="Cannot write under"):
        Ledger(tmp_path / "outputs" / "ledger.bin", "job").append(questions(2), ANSWERS[:2])


@pytest.mark.usefixtures("stranger")
def test_a_ledger_of_somebody_elses_is_said_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "ledger.bin"
    Ledger(file, "job").append(questions(2), ANSWERS[:2])
    locked(file, 0o444)
    locked(file.with_suffix(".head"), 0o400)
    ledger, content = Ledger(file, "job"), file.read_bytes()
    with pytest.raises(StoreError, match=r"Cannot write under .*Permission denied"):
        ledger.append(questions(3)[2:], ANSWERS[2:3])
    assert file.read_bytes() == content and len(Ledger(file, "job")) == 2
    locked(file, 0o000)
    with pytest.raises(StoreError, match=r"Cannot write under .*Permission denied"):
        Ledger(file, "job")


@pytest.mark.usefixtures("stranger")
def test_a_cache_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    write_json(tmp_path / "cache.json", {"schema": 1})
    locked(tmp_path / "cache.json", 0o000)
    with pytest.raises(StoreError, match=r"Cannot write under .*cache\.json"):
        require_readable(tmp_path)


@pytest.mark.usefixtures("stranger")
def test_a_job_of_somebody_elses_is_a_row_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("good", "theirs", "dark"):
        finish(begun(tmp_path, name))
    locked(tmp_path / "theirs" / "result.json", 0o000)
    write_json(begun(tmp_path, "failed") / "failure.json", {"error": "E: x"})
    locked(tmp_path / "failed" / "failure.json", 0o000)
    locked(tmp_path / "dark", 0o000)
    for word in ("status", "results"):
        main([word, str(tmp_path)])
        shown = capsys.readouterr()
        assert "theirs" in shown.out and "dark" in shown.out and ("good" in shown.out or word == "status")
        assert "its folder cannot be read: Permission denied" in shown.out + shown.err
        assert "result.json cannot be read: Permission denied" in shown.out + shown.err


def test_a_folder_where_a_file_belongs_is_said(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(StoreError, match=r"Cannot write under .*Is a directory"), explain_errors(tmp_path):
        write_json(tmp_path / "result.json", {"n": np.float64(1).item()})
    assert [f.name for f in tmp_path.iterdir()] == ["result.json"]
    (tmp_path / "thefts").symlink_to("gone")
    with (
        pytest.raises(StoreError, match=r"Cannot write under .*File exists"),
        hold(tmp_path / "thefts", "x-0123456789abcdef", {}),
    ):
        pass
