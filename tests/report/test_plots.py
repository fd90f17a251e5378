"""Figures of a sweep: the cells' own means and intervals are drawn, and the same results give the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmsteal.errors import FmstealError
from fmsteal.report import plots
from fmsteal.report.headlines import HEADLINE
from fmsteal.report.layout import MOST_PAGES, MOST_PANELS, Layout
from fmsteal.report.study import Study
from tests.report.sweeps import NASTY, finished, troubled


def drawn(study: Study, **how: object) -> dict[str, plots.Plot]:
    return {plot.name: plot for plot in plots.figures(study, Layout.of(study, **how))}  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study.of([troubled(tmp_path_factory.mktemp("outputs") / "mine")])


def test_curves_are_means_over_seeds_and_bands_their_intervals(study: Study) -> None:
    layout = Layout.of(study)
    assert (layout.x, layout.lines, layout.facets) == (("budget",), "attack", ("victim",))
    plot = drawn(study)["budget"]
    assert len(plot.figure.axes) == 2 and "Of 12 cells, " in plot.caption
    for axes, (victim, per_attack) in zip(
        plot.figure.axes,
        {v: [c for c in study.cells if c.values["victim"] == v] for v in study.values("victim")}.items(),
        strict=True,
    ):
        assert axes.get_title(loc="left") == f"victim {victim}"
        curves = [line for line in axes.lines if len(line.get_xdata()) == 3]
        for attack, curve in zip(study.values("attack"), curves, strict=True):
            cells = sorted((c for c in per_attack if c.values["attack"] == attack), key=lambda c: c.queries or 0)
            means = [f.mean if (f := cell.figure(HEADLINE)) else np.nan for cell in cells]
            np.testing.assert_array_equal(curve.get_ydata(), means)
        ends = {float(y) for band in axes.collections for y in band.get_paths()[0].vertices[:, 1]}
        for cell in per_attack:
            figure = cell.figure(HEADLINE)
            assert figure is None or figure.interval is None or set(figure.interval) <= ends


def test_a_cell_that_lacks_seeds_is_hollow_and_one_without_figures_is_left_out(study: Study) -> None:
    caption = drawn(study)["budget"].caption
    torn = [f for cell in study.cells if (f := cell.figure(HEADLINE)) and not f.whole]
    none = [cell for cell in study.cells if cell.figure(HEADLINE) is None]
    assert torn and none
    assert f"{len(torn)} with fewer seeds than asked for (hollow)" in caption
    assert f"{len(none)} without a result (left out)" in caption


def test_a_heat_map_shows_the_means_where_victims_and_thieves_meet(tmp_path: Path) -> None:
    shares = {("a", "t"): 0.9, ("a", "u"): 0.5, ("b", "t"): 0.4, ("b", "u"): 0.7}
    for (victim, thief), share in shares.items():
        for seed in range(2):
            finished(tmp_path, f"{victim}-{thief}-{seed}", share + seed / 100, victim=victim, thief=thief, seed=seed)
    figure = drawn(Study.of([tmp_path]))["matrix"].figure
    said = [text.get_text().split("\n")[0] for text in figure.axes[0].texts]
    assert sorted(said) == sorted(f"{share + 0.005:.3f}" for share in shares.values())


def test_a_mark_stands_at_the_cost_and_the_agreement_of_each_cell(study: Study) -> None:
    plot = drawn(study)["cost"]
    (page,) = Layout.of(study).split(study)
    assert plot.title == "Agreement with the victim against wall time (s)" and len(page.panels) == 2
    for axes, panel in zip(plot.figure.axes, page.panels, strict=True):
        assert axes.get_title(loc="left") == panel.title
        marks = [line for line in axes.lines if line.get_marker() != "none"]
        both = [(cell.figure("cost/seconds"), cell.figure(HEADLINE)) for cell in panel.cells]
        want = {(cost.mean, agreement.mean) for cost, agreement in both if cost and agreement}
        assert {point for line in marks for point in zip(line.get_xdata(), line.get_ydata(), strict=True)} == want


def test_the_same_results_give_the_same_files(study: Study, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert plots.write(plots.figures(study, Layout.of(study)), tmp_path / name, ("png", "pdf"))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_many_choices_are_drawn_on_few_figures_that_say_so(tmp_path: Path) -> None:
    count = (MOST_PAGES + 1) * MOST_PANELS
    for number in range(count):
        for queries in (100, 500):
            columns = {"victim": f"v{number}", "budget": str(queries), "queries": queries}
            finished(tmp_path, f"job-{number}-{queries}", 0.5, **columns)
    study = Study.of([tmp_path])
    found = [p for name, p in drawn(study, lines="budget", facets=["victim"]).items() if name.startswith("bars")]
    assert len(found) <= MOST_PAGES
    assert all(len(plot.figure.axes) <= MOST_PANELS for plot in found)


def test_without_figures_nothing_is_drawn_and_an_unknown_metric_is_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(FmstealError, match=r"No finished job measured test/agreemint\. There is: .*test/agreement"):
        Layout.of(study, "test/agreemint")
    with pytest.raises(FmstealError, match="attack cannot be compared within panels that it tells apart"):
        Layout.of(study, lines="attack", facets=["attack"])


def test_every_cell_is_on_one_page_in_one_panel_on_one_line(study: Study) -> None:
    for facets in (None, [], ["attack", "victim"]):
        lines = "budget" if facets and "attack" in facets else None
        layout = Layout.of(study, lines=lines, facets=facets)
        cells = [cell for page in layout.split(study) for panel in page.panels for cell in panel.cells]
        assert sorted(cell.key for cell in cells) == sorted(cell.key for cell in study.cells)
        for page in layout.split(study):
            for panel in page.panels:
                for name, line in panel.lines.items():
                    assert all(cell.values[layout.lines] == name for cell in line if layout.lines)
                    assert [c.queries for c in line] == sorted(c.queries or 0 for c in line)
        assert NASTY in {cell.values["attack"] for cell in cells}
