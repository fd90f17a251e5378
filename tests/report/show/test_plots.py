"""Figures of a sweep: the cells' own means and intervals are drawn, and the same results give the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import FmstealError
from fmsteal.base.store import read_json, write_json
from fmsteal.report.read.headlines import HEADLINE
from fmsteal.report.read.study import Study
from fmsteal.report.show import plots
from fmsteal.report.show.layout import MOST_PAGES, MOST_PANELS, Layout
from fmsteal.tracking.base import write_table
from tests.support.sweeps import NASTY, finished, troubled


def drawn(study: Study, **how: object) -> dict[str, plots.Plot]:
    return {plot.name: plot for plot in plots.draw_figures(study, Layout.of(study, **how))}  # type: ignore[arg-type]


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


def test_shares_are_drawn_on_a_scale_from_0_to_1_and_other_figures_on_their_own(tmp_path: Path) -> None:
    for defense, share in (("none", 0.9), ("top_k", 0.6)):
        for queries in (100, 500):
            for seed, gain in enumerate((0, 0.05, 0.1)):
                columns = {"defense": defense, "budget": str(queries), "queries": queries, "seed": seed}
                finished(tmp_path, f"{defense}-{queries}-{seed}", share + gain, **columns)
    study = Study.of([tmp_path])
    for metric, ends in ((HEADLINE, {(0, 1)}), ("test/kl", set())):
        found = {plot.name: plot.figure for plot in plots.draw_figures(study, Layout.of(study, metric))}
        suffix = "" if metric == HEADLINE else "-test-kl"
        limits = {axes.get_ylim() for name in ("budget", "defense", "cost") for axes in found[name + suffix].axes}
        limits |= {axes.get_xlim() for axes in found[f"bars{suffix}"].axes}
        assert limits == ends if ends else (0, 1) not in limits
    (undefended,) = (c for c in study.cells if c.values["defense"] == "none" and c.queries == 500)
    figure = undefended.figure(HEADLINE)
    assert figure and figure.interval and 0.95 < figure.interval[1] < 1 and figure.half is None
    bars = [segment for c in drawn(study)["defense"].figure.axes[0].collections for segment in c.get_segments()]
    assert max(y for segment in bars for _, y in segment) == pytest.approx(figure.interval[1]), (
        "the interval ends below 1"
    )


def test_classes_have_their_names(tmp_path: Path) -> None:
    names, labels = ["cat", "a very long name of a class", "dog"], np.arange(60) % 3
    for number, attack in enumerate("ab"):
        finished(tmp_path, attack, 0.5, attack=attack)
        np.savez(tmp_path / attack / "predictions.npz", victim=labels, thief=labels * number, label=labels)
    (axes, *_) = drawn(Study.of([tmp_path]))["classes"].figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2"]
    write_table(tmp_path / "b" / "tables", "test/per_class", ("class", "images"), [(name, 20) for name in names])
    (axes, *_) = drawn(Study.of([tmp_path]))["classes"].figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["cat", "a very long name of a c…", "dog"]


def test_a_mark_stands_at_the_cost_and_the_agreement_of_each_cell(study: Study) -> None:
    plot = drawn(study)["cost"]
    (page,) = Layout.of(study).split(study)
    assert plot.title == "Agreement against wall time (s)" and len(page.panels) == 2
    for axes, panel in zip(plot.figure.axes, page.panels, strict=True):
        assert axes.get_title(loc="left") == panel.title
        marks = [line for line in axes.lines if line.get_marker() != "none"]
        both = [(cell.figure("cost/seconds"), cell.figure(HEADLINE)) for cell in panel.cells]
        want = {(cost.mean, agreement.mean) for cost, agreement in both if cost and agreement}
        assert {point for line in marks for point in zip(line.get_xdata(), line.get_ydata(), strict=True)} == want


def test_the_residuals_of_candidate_trunks_are_drawn_where_an_attack_reports_them(study: Study, tmp_path: Path) -> None:
    assert "residuals" not in drawn(study)
    for victim, trunk in (("v", "a"), ("w", None)):
        for seed in range(3):
            folder = tmp_path / f"{victim}-{seed}"
            finished(tmp_path, folder.name, 0.5, victim=victim, seed=seed)
            result = read_json(folder / "result.json")
            for name, residual in (("a", 0.2 + seed / 10), ("b", 0.9)):
                named = float(name == trunk and seed > 0)
                result["metrics"] |= {f"attack/residual/{name}": residual, f"attack/named/{name}": named}
            write_json(folder / "result.json", result)
    first, second = drawn(Study.of([tmp_path]))["residuals"].figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "b"]
    np.testing.assert_allclose([bar.get_width() for bar in first.patches], [0.3, 0.9])
    np.testing.assert_allclose(first.lines[0].get_xdata(), [0.2, 0.3, 0.4])
    assert [text.get_text().strip() for axes in (first, second) for text in axes.texts] == ["2/3", "0/3", "0/3", "0/3"]


def test_a_point_for_each_victim_stands_at_its_robustness_and_its_agreement(study: Study, tmp_path: Path) -> None:
    assert "robustness" not in drawn(study)
    own = {"a": (0.9, 0.1, 0.6), "b": (0.7, 0.5, 0.5), "c": (0.8, 0.3, 0.7)}
    names = [f"robustness/{kind}/victim_accuracy" for kind in ("clean", "imagenet_c", "pgd10@8")]
    for victim, shares in own.items():
        for seed in range(2):
            folder = tmp_path / f"{victim}-{seed}"
            finished(tmp_path, folder.name, shares[0] / 2 + seed / 10, victim=victim, seed=seed)
            result = read_json(folder / "result.json")
            single = {"robustness/imagenet_c/fog/victim_accuracy": 0.2, "robustness/pgd10@8/accuracy": 0.1}
            result["metrics"] |= dict(zip(names, (x + seed / 50 for x in shares), strict=True)) | single
            write_json(folder / "result.json", result)
    three = Study.of([tmp_path])
    plot = drawn(three)["robustness"]
    assert plot.title == "Agreement against the victim's robustness" and len(plot.figure.axes) == 3
    for place, axes in enumerate(plot.figure.axes):
        marks = [line for line in axes.lines if len(line.get_xdata()) == 1]
        got = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in marks}
        want = {(shares[place] + 0.01, shares[0] / 2 + 0.05) for shares in own.values()}
        assert sorted(got) == [pytest.approx(point) for point in sorted(want)]
        assert axes.get_xlim() == (0, 1), "shares"
    assert [text.get_text() for text in plot.figure.legends[0].get_texts()] == ["a", "b", "c"]
    assert not any(name.startswith("robustness") for name in drawn(three, metric="cost/seconds"))


@pytest.mark.slow
def test_the_same_results_give_the_same_files(study: Study, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert plots.write(plots.draw_figures(study, Layout.of(study)), tmp_path / name, ("png", "pdf"))
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
