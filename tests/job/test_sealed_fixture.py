"""A theft that an earlier version has sealed: this one, and every later one, must load it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fmsteal.base.errors import TheftError
from fmsteal.data.digits import digits
from fmsteal.job.stolen import open_thief
from fmsteal.job.theft import hold, is_sealed, read_sealed
from fmsteal.oracle.ledger import Ledger
from fmsteal.records.folders import MeasurementFolder, TheftFolder
from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.theft import check_theft

(SEALED,) = (Path(__file__).parents[1] / "support" / "sealed").iterdir()
IMAGES = 64  # of the test set


def test_a_theft_of_schema_1_is_found_whole_and_its_ledger_opens(tmp_path: Path) -> None:
    shutil.copytree(SEALED, tmp_path / SEALED.name)
    known = read_sealed(SEALED / "theft.json")
    assert known is not None and known["schema"] == 1 and is_sealed(tmp_path, f"renamed-{SEALED.name[-16:]}")
    with hold(tmp_path, SEALED.name, known["identity"]) as theft:
        record = theft.sealed()
        assert record is not None and record["cost"]["cost/queries"] == 100
        ledger = Ledger(theft.folder.ledger, f"{theft.account} against {record['victim']}", record["ledger"]["width"])
        assert len(ledger) == 100
    found = Findings()
    check_theft(TheftFolder(tmp_path / SEALED.name), found)
    assert not found.faults


def test_its_thief_is_opened_from_its_file_and_answers_as_it_did() -> None:
    thief = open_thief(TheftFolder(SEALED).thief)
    (measured,) = (SEALED / "measurements").glob("classify-*")
    with np.load(MeasurementFolder(measured).predictions) as kept:
        logits, labels = kept["thief_logits"][:IMAGES], kept["label"][:IMAGES]
    test = digits().test
    np.testing.assert_array_equal(np.asarray(test.labels)[:IMAGES], labels)
    with torch.no_grad():
        again = thief(torch.from_numpy(np.array(test.pixels[np.arange(IMAGES)])))
    np.testing.assert_allclose(again.numpy(), logits, rtol=0, atol=1e-3)


def test_what_is_no_thief_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "thief.safetensors").write_bytes(b"no weights")
    with pytest.raises(TheftError, match=r"thief\.safetensors is no thief's file"):
        open_thief(tmp_path / "thief.safetensors")
