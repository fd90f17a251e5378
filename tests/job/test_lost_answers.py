"""A sealed theft whose ledger has lost answers: they are not paid for again without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.base.errors import TheftError
from tests.job.jobs import run_job, theft


@pytest.mark.slow
def test_answers_lost_after_the_seal_are_not_asked_again(tmp_path: Path) -> None:
    run_job(tmp_path)
    ledger = theft(tmp_path).ledger
    record = 4 + 4 + 16 + 4 + 4 * 10
    whole = ledger.read_bytes()
    ledger.write_bytes(whole[: -3 * record])
    with pytest.raises(TheftError, match=r"not among the 97 of its ledger.*force=true"):
        run_job(tmp_path, "evaluation=transfer", name="again")
    assert len(ledger.read_bytes()) == len(whole) - 3 * record, "nothing was asked"
    ledger.write_bytes(whole)
    assert "transfer/pgd/changed" in run_job(tmp_path, "evaluation=transfer", name="again")["metrics"]
