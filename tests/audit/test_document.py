"""What an audit reads from its thefts, and its page: a valid one that shows all of it, and as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fmsteal.audit.document import Document, make_document
from fmsteal.audit.page import render, write_page
from fmsteal.records.folders import SweepFolder
from tests.support.audits import audited
from tests.support.html import Html
from tests.support.sweeps import LAST_LINE, NASTY


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return make_document(*audited(tmp_path_factory.mktemp("sweeps") / "mine"), f"fmsteal audit '{NASTY}'")


def test_figures_are_those_of_the_results(document: Document) -> None:
    thieves = {(thief["attack"], thief["defense"]): thief for thief in document["thieves"]}
    solve = thieves["solve", "none"]
    assert {level: each and (each["budget"], each["usd"]) for level, each in solve["passes"].items()} == {
        "0.5": (100, 0.15), "0.8": (100, 0.15), "0.9": (1000, 1.5), "0.95": (1000, 1.5),
    }  # fmt: skip
    assert solve["best"]["agreement"] == 0.97 and solve["best"]["interval"] == pytest.approx((0.95, 0.99))
    assert thieves["solve", NASTY]["passes"]["0.5"] is None and not thieves["own_data", "none"]["asks"]
    prada = next(guard for guard in document["defenses"] if guard["defense"] == "prada")
    assert prada["flagged"] == {"prada": 0.5} and prada["honest"]["accuracy"] == 0.9
    assert document["spent"]["cost/queries"] == 2300 and document["spent"]["cost/usd_billed"] == pytest.approx(3.45)
    assert (document["finished"], document["planned"]["thefts"]) == (6, 7)
    assert document["verdict"]["grade"] == "copied"
    assert json.loads(json.dumps(document)) == json.loads(json.dumps(document, allow_nan=False))


def test_what_was_not_tried_is_listed(document: Document) -> None:
    gaps = {gap["what"]: gap["why"] for gap in document["not tried"]}
    assert gaps["jbda"] == f"no {NASTY}"
    assert LAST_LINE in gaps[f"solve against {NASTY} with 1,000 queries, seed 0"]
    others = next(why for what, why in gaps.items() if what.endswith("other attacks"))
    assert "knockoff" in others and "solve," not in others and "rda" not in others, "of this task, and not tried"
    assert any("insiders" in what for what in gaps)


def test_the_page_shows_it_all_as_text_and_fetches_nothing(document: Document, tmp_path: Path) -> None:
    plan, thefts = audited(tmp_path / "sweeps" / "mine", seeds=2)
    folder = SweepFolder(tmp_path / "sweeps" / "mine").audit
    page = Html(write_page(make_document(plan, thefts, f"fmsteal audit '{NASTY}'"), thefts, folder).read_text())
    assert "script" not in page.tags and page.foreign == [] and "svg" in page.tags
    assert len(set(page.ids)) == len(page.ids)
    for said in (
        NASTY, LAST_LINE, "Verdict: copied", "1,000 queries", "1.50 USD", "not reached", "asks nothing", "50.0 %",
        "What was not tried", f"fmsteal audit '{NASTY}'", "Means over 2 seeds",
    ):  # fmt: skip
        assert said in page.words, said
    assert {(folder.path / link).resolve() for link in page.links} == {folder.document, tmp_path / "sweeps" / "mine"}


def test_an_audit_without_results_has_a_page_too(tmp_path: Path) -> None:
    plan, thefts = audited(tmp_path / "mine")
    for theft in thefts:
        (theft.job.on_disk.folder / "result.json").unlink(missing_ok=True)
    from fmsteal.audit.document import read_thefts

    document = make_document(plan, read_thefts(plan), "fmsteal audit")
    page = Html(render(document))
    assert "Verdict: unknown" in page.words and "no result" in page.words and document["finished"] == 0
