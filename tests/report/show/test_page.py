"""The page as a file, without a browser: what it says, where it leads, and of whom nothing is to be shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from fmsteal.report.read.study import Study
from fmsteal.report.show import page
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.plots import draw_figures
from tests.support.html import Html
from tests.support.job_folders import asked, axis, begun, done
from tests.support.sweeps import LAST_LINE, NASTY, finished, troubled


def written(folder: Path, *sweeps: Path, plots: bool = False) -> Html:
    """The page of sweeps, with or without its drawings."""
    study = Study.of(list(sweeps))
    layout = Layout.of(study)
    return Html(page.write(study, layout, draw_figures(study, layout) if plots else [], folder).read_text())


def test_what_comes_from_results_is_text(tmp_path: Path) -> None:
    found = written(tmp_path / "report", troubled(tmp_path / "50 % & <more> #1"), plots=True)
    assert found.tags.count("script") == 1, "its own"
    for said in (NASTY, LAST_LINE, "50 % & <more> #1", "fmsteal -m 'sweep_id=<&>' seed=0,1,2", f"Traceback of {NASTY}"):
        assert said in found.words
    assert found.foreign == [], "nothing is fetched"
    assert len(set(found.ids)) == len(found.ids), "also those of the drawings"


def test_every_link_leads_to_a_cell_of_the_page_or_to_what_is_on_the_disk(tmp_path: Path) -> None:
    sweep = troubled(tmp_path / "sweeps" / "50 % & <more> #1")
    found = written(tmp_path / "reports" / "of ü", sweep)
    inside = [link for link in found.links if link.startswith("#")]
    outside = [link for link in found.links if not link.startswith("#")]
    assert inside and {link[1:] for link in inside} <= set(found.ids)
    led_to = {(tmp_path / "reports" / "of ü" / unquote(link)).resolve() for link in outside}
    assert all(path.exists() for path in led_to) and all(not link.startswith("/") for link in outside)
    assert {path.parent for path in sweep.glob("*/result.json")} <= led_to, "each job with figures is linked"
    assert set(sweep.glob("*/fmsteal.log")) <= led_to


def test_states_are_counted_and_a_cell_says_how_many_seeds_it_has(tmp_path: Path) -> None:
    found = written(tmp_path / "report", troubled(tmp_path / "mine"))
    words = re.sub(r"\s+", " ", found.words)
    assert "36 jobs in 12 cells, seeds 0, 1, 2: 29 done, 4 failed, 1 cut off, 1 missing, 1 unreadable" in words
    assert "2 of 3" in words and "f" * 10 in words, "results of two states of the code"


def test_without_a_finished_job_there_are_no_figures_but_a_page(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    asked(tmp_path / "mine", {f"job-{seed}": axis(seed) for seed in range(2)})
    begun(tmp_path / "mine", "job-0")
    found = written(tmp_path / "report", tmp_path / "mine", plots=True)
    assert "svg" not in found.tags and "±" not in found.words
    assert "No job is finished: there are no figures yet." in found.words and "job-1" in found.words


def test_one_seed_has_no_interval_and_is_not_called_a_mean_of_many(tmp_path: Path) -> None:
    for attack, share in (("a", 0.5), ("b", 0.7)):
        finished(tmp_path / "mine", attack, share, attack=attack)
    found = written(tmp_path / "report", tmp_path / "mine", plots=True)
    assert "0.500" in found.words and "0.700" in found.words and "±" not in found.words


def test_two_sweeps_are_one_page_and_what_they_share_counts_once(tmp_path: Path) -> None:
    for sweep, seeds in (("first", (0, 1)), ("second", (1, 2))):
        for seed in seeds:
            finished(tmp_path / sweep, f"job-{seed}", 0.5 + seed / 10, seed=seed)
    found = written(tmp_path / "report", tmp_path / "first", tmp_path / "second")
    assert "first, second" in found.words
    assert "3 jobs in 1 cell, seeds 0, 1, 2" in re.sub(r"\s+", " ", found.words)


@pytest.mark.parametrize("plots", [False, True])
def test_forty_axes_are_a_page(plots: bool, tmp_path: Path) -> None:
    for number in range(8):
        columns = {f"option{k}": (number >> k % 3) & 1 for k in range(40)}
        done(tmp_path / "mine", f"job-{number}", 0.1 * number, **columns)
    found = written(tmp_path / "report", tmp_path / "mine", plots=plots)
    assert "8 jobs in 8 cells" in found.words
