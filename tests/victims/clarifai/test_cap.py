"""A spending cap stops before it is passed, among all jobs that share an output."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fmsteal.base.errors import ConfigError, LedgerError, VictimError
from fmsteal.job.parts import Parts
from fmsteal.victims.purse import Purse
from tests.support.clarifai_server import Running, refuse
from tests.support.composing import composed
from tests.support.small_task import TASK, context
from tests.victims.clarifai.asking import IDS, ask, behind, make


def test_a_cap_stops_before_it_is_passed_and_a_higher_one_goes_on(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path, "cap_usd=0.1296", "images_per_request=30", "concurrency=3")
    match = r"The next 30 images cost 0\.036 USD, and 0\.1176 of victim\.cap_usd=0\.1296 are spent .*Raise"
    with pytest.raises(VictimError, match=match):
        ask(victim, ctx)
    assert service.api.paid.total() == 90 == victim.costs(ctx)["cost/queries_billed"]
    again, _ = behind(service, tmp_path, "cap_usd=0.1644")
    ask(again, ctx)
    assert service.api.paid.total() == 39
    with pytest.raises(VictimError, match=r"nothing more was sent"):  # another image format, and the same account
        make(service, "encoding=jpeg", "cap_usd=0.1728").prepare(TASK, context(tmp_path))


def test_what_costs_nothing_is_given_back(service: Running, tmp_path: Path) -> None:
    victim, ctx = behind(service, tmp_path, "cap_usd=0.0816", "images_per_request=20")
    service.api.before = lambda number, images: refuse(11005) if number % 2 else None
    ask(victim, ctx, IDS[:60])
    assert service.api.paid.total() == 60 and len(service.api.sizes) > 3
    with pytest.raises(VictimError, match=r"0\.0816 of victim\.cap_usd=0\.0816 are spent"):
        ask(victim, ctx)


def test_processes_share_a_purse_and_never_pass_its_cap(tmp_path: Path) -> None:
    def spend(number: int) -> int:
        purse, granted = Purse(tmp_path / "x.usd", 1.0, 0.1), 0
        for _ in range(10):
            try:
                purse.reserve(7)
                granted += 1
            except VictimError:
                break
        return granted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(spend, range(4))) == 14
    assert Purse(tmp_path / "x.usd", 9.0, None).spent == pytest.approx(0.098), "at the price of its time"


def test_a_torn_line_counts_for_nothing_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    purse = Purse(tmp_path / "x.usd", 1.0, 1.0)
    purse.reserve(100)
    with purse.file.open("ab") as stream:
        stream.write(b"0.9")
    purse.reserve(200)
    assert purse.spent == pytest.approx(0.3) and purse.file.read_text() == "0.100\n0.200\n"
    purse.file.write_text("0.1\nmuch\n")
    with pytest.raises(LedgerError, match=r"x\.usd is damaged.*nothing was sent"):
        purse.reserve(1)


def test_a_budget_above_the_cap_and_a_missing_price_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARIFAI_PAT", "x")
    words = ("task=embed", "victim=clarifai", "budget=1k")
    with pytest.raises(ConfigError, match=r"victim\.usd_per_1000"):
        Parts.of(composed(*words))
    match = r"budget\.queries=1000 cost 2 USD at victim\.usd_per_1000=2, more than victim\.cap_usd=1\.5"
    with pytest.raises(ConfigError, match=match):
        Parts.of(composed(*words, "victim.usd_per_1000=2", "victim.cap_usd=1.5"))
    assert Parts.of(composed(*words, "victim.usd_per_1000=2", "victim.cap_usd=2")).budget.usd(1000) == 2
