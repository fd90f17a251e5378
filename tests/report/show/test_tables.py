from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest
from rich.console import Console
from scipy import stats

from fmsteal.base.errors import FmstealError
from fmsteal.base.metric import Metric, record
from fmsteal.base.store import read_json, write_json
from fmsteal.report.commands.report import main
from fmsteal.report.read.study import Study
from fmsteal.report.show import page, typeset
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.plots import draw_figures
from fmsteal.report.show.tables import Table
from fmsteal.report.show.whole import print_whole
from tests.support.job_folders import asked, axis, begun, done
from tests.support.sweeps import finished


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three attacks, two budgets, three seeds: `b` cannot be told from the best, `c` can; of one a seed is missing."""
    shares = {"a_1": (0.60, 0.70, 0.80), "b": (0.61, 0.68, 0.80), "c": (0.50, 0.61, 0.70)}
    plan = {}
    for attack, values in shares.items():
        for queries in (100, 1000):
            for seed, share in enumerate(values):
                columns = {"attack": attack, "budget": f"b{queries}", "queries": queries}
                plan[f"{attack}-{queries}-{seed}"] = axis(seed, **columns)
                if (attack, queries, seed) != ("c", 1000, 2):
                    done(tmp_path, f"{attack}-{queries}-{seed}", share + queries / 1e4, seed=seed, **columns)
    asked(tmp_path, plan)
    return tmp_path


def table(folder: Path, baseline: str | None = None, **how: object) -> Table:
    study = Study.of([folder])
    return Table.of(study, Layout.of(study, **how), baseline)  # type: ignore[arg-type]


def test_the_best_and_what_cannot_be_told_from_it_are_bold(sweep: Path) -> None:
    found = table(sweep)
    assert found.keys == ["attack"] and found.columns == ["100 queries", "1,000 queries"]
    assert {values[0]: [e.bold for e in row] for values, row in found.rows} == {
        "a_1": [True, True], "b": [True, True], "c": [False, False],  # of two pairs: -.095 +- .064
    }  # fmt: skip


def test_markdown_says_what_is_missing(sweep: Path) -> None:
    text = typeset.markdown(table(sweep))
    assert r"| a\_1 | **0.710 ± 0.248 (3)** | **0.800 (0.552 to 1.000) (3)** |" in text  # a share is at most 1
    assert (
        "| 0.655 (0.600 and 0.710) (2 of 3) |" in text and "1 of 6 cells have two seeds: both figures stand in" in text
    )
    assert "1 of 6 cells lack seeds that were asked for" in text
    assert "n, the number of seeds, stands in brackets." in text


def test_latex_is_escaped_and_balanced(sweep: Path) -> None:
    done(sweep, "odd", 0.5, attack=r"50%_{of}$x^2$&\rm", budget="b100", queries=100)
    text = typeset.latex(table(sweep))
    (row,) = [line for line in text.splitlines() if line.startswith("50")]
    assert row.startswith(r"50\%\_\{of\}\$x\textasciicircum{}2\$\&\textbackslash{}rm & 0.500 (1)")
    rows = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert len(rows) == 4 and all(len(re.findall(r"(?<!\\)&", line)) == 2 and line.endswith(r" \\") for line in rows)
    assert r"\textbf{0.710 $\pm$ 0.248 (3)}" in text and r"\begin{tabular}{lrr}" in text


def test_latex_has_a_caption_and_a_label_of_its_own(sweep: Path) -> None:
    one, other = typeset.latex(table(sweep), "my_sweep"), typeset.latex(table(sweep, metric="cost/seconds"), "my_sweep")
    for text, label in ((one, "tab:my-sweep"), (other, "tab:my-sweep-cost-seconds")):
        opened, closed = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
        assert opened == ["table", "tabular"] and closed == ["tabular", "table"]
        inside = text[text.index(r"\begin{table}") : text.index(r"\begin{tabular}")]
        assert inside.count(r"\caption{") == 1 and rf"\label{{{label}}}" in inside
        said = re.sub(r"\\[%#&_{}$]", "", inside)  # escaped signs are text
        assert said.count("{") == said.count("}") and not re.search("[%#&_]", said)
    assert r"mean over seeds $\pm$ half of its 95 \% interval, or both its ends." in one
    assert r"95 \% intervals cover seeds alone (Student's t)." in one


FIGURES = {
    "knockoff": {500: [0.70, 0.72, 0.71], 1000: [0.78, 0.80, 0.79]},
    "kcenter": {500: [0.69, 0.72, 0.715], 1000: [0.80, 0.815, 0.812]},
    "jbda": {500: [0.60, 0.63, 0.61]},
}


@pytest.fixture
def attacks(tmp_path: Path) -> Path:
    """Attacks of which one is better than the first, one worse, one neither."""
    for attack, budgets in FIGURES.items():
        for queries, shares in budgets.items():
            for seed, share in enumerate(shares):
                columns = {"attack": attack, "budget": f"b{queries}", "queries": queries}
                done(tmp_path, f"{attack}-{queries}-{seed}", share, seed=seed, **columns)
    return tmp_path


def test_differences_from_a_baseline_are_paired_and_judged_as_a_paired_t_test_would(attacks: Path) -> None:
    found = table(attacks, "knockoff")
    judged = set()
    for (attack,), row in found.rows:
        for queries, entry in zip((500, 1000), row, strict=True):
            shares, base = FIGURES[attack].get(queries), FIGURES["knockoff"][queries]
            if attack == "knockoff" or shares is None:
                assert entry.difference is None and not entry.bold
                continue
            want = stats.ttest_rel(shares, base)
            assert entry.difference
            assert entry.difference.value == pytest.approx(statistics.fmean(shares) - statistics.fmean(base))
            assert entry.difference.interval == pytest.approx(tuple(want.confidence_interval(0.95)))
            assert entry.bold == (want.pvalue < 0.05)
            judged.add((entry.bold, entry.difference.value > 0))
    assert judged == {(True, True), (True, False), (False, False)}


def test_differences_are_written_beside_the_means(attacks: Path) -> None:
    found = table(attacks, "knockoff")
    halves = [stats.t.ppf(0.975, 2) * stats.sem(gains) for gains in ([-0.01, 0, 0.005], [0.02, 0.015, 0.022])]
    text = typeset.markdown(found)
    assert "| kcenter | 0.708 ± 0.040 [-0.002 ± {:.3f}] | **0.809 ± 0.020 [+0.019 ± {:.3f}]** |".format(*halves) in text
    assert "| knockoff | 0.710 ± 0.025 | 0.790 ± 0.025 |" in text and "[-0.097 ± 0.014]** |  |" in text
    assert "the difference from attack knockoff, paired" in text and "over all 3 comparisons of the table" in text
    assert r"[$-$0.002 $\pm$ 0.019]" in typeset.latex(found)


def test_differences_by_other_seeds_by_fewer_and_by_one_say_so(attacks: Path) -> None:
    for attack, seeds in (("late", [7]), ("apart", [7, 8, 9]), ("two", [7, 8]), ("fewer", [0, 1, 2, 7])):
        for seed in seeds:
            done(attacks, f"{attack}-{seed}", 0.7 + seed / 1000, seed=seed, attack=attack, budget="b500", queries=500)
    found = table(attacks, "knockoff")
    assert "Of the differences, 1 rest on fewer seeds than their cell has, those that both have." in found.notes
    assert "Of the differences, 1 share no two seeds with it (Welch's interval)." in found.notes
    assert "Of the differences, 2 have too few seeds for an interval, or seeds that all say the same." in found.notes
    assert "| late | 0.707 (1) [-0.003] |" in typeset.markdown(found)


def test_a_baseline_without_a_figure_leaves_the_others_without_difference(attacks: Path) -> None:
    for seed in range(3):
        (attacks / f"knockoff-500-{seed}" / "result.json").unlink()
    found = table(attacks, "knockoff")
    rows = {values[0]: row for values, row in found.rows}
    assert [entry.difference is None for entry in rows["kcenter"]] == [True, False]
    assert rows["jbda"][0].difference is None and rows["jbda"][0].figure
    assert "Of the differences, 2 are missing, of cells without such a baseline beside them." in found.notes


def test_a_baseline_that_stands_alone_is_refused(tmp_path: Path) -> None:
    for number, (attack, thief) in enumerate((("x", "t1"), ("y", "t2"), ("y", "t3"))):
        done(tmp_path, f"j{number}", 0.5, attack=attack, thief=thief)
    with pytest.raises(FmstealError, match=r"No cell has attack x beside it: .* differ in thief too"):
        table(tmp_path, "x")


def test_distances_say_that_less_is_more_of_a_theft_and_victims_are_not_judged(tmp_path: Path) -> None:
    for victim, share in (("a", 0.5), ("b", 0.7)):
        for seed in range(3):
            finished(tmp_path, f"{victim}{seed}", share + (seed - 1) / 100 * (victim == "a"), victim=victim, seed=seed)
    found = table(tmp_path, "a", metric="test/kl")
    assert any("less is more of a theft" in note for note in found.notes)
    (entry,) = [entry for entry in found.entries if entry.difference]
    assert entry.difference and entry.difference.value == pytest.approx(-0.2) and entry.difference.told
    assert not entry.bold and any("None is bold" in note for note in found.notes)
    assert found.stem == "table-test-kl-from-victim-a"


def test_a_baseline_that_is_not_there_is_refused(attacks: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no copycat to compare with\. Of attack there is: jbda, kcenter, knockoff"):
        main(["report", str(attacks), "--baseline", "copycat"])
    assert not (attacks / "report").exists()
    with pytest.raises(SystemExit, match=r"No axis is left .*What varies: budget, attack"):
        main(["report", str(attacks), "--baseline", "knockoff", "--facet", "attack"])
    done(tmp_path / "one", "a", 0.5)
    with pytest.raises(FmstealError, match="What varies: nothing but the seed"):
        table(tmp_path / "one", "a")


def test_victims_are_not_bold_beside_each_other(tmp_path: Path) -> None:
    for victim in ("a", "b"):
        done(tmp_path, victim, 0.5, victim=victim)
    found = table(tmp_path)
    assert not any(entry.bold for entry in found.entries)
    assert "All cells have a single seed, and no interval." in found.notes


def test_in_a_narrow_terminal_names_are_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"a_victim_with_a_name_of_many_letters_{letter}" for letter in "xy"]
    for name in names:
        done(tmp_path, name, 0.5, victim=name)
    print_whole(typeset.terminal(table(tmp_path), "mine"), Console(width=20))
    out = capsys.readouterr().out
    assert all(f" {name} " in out for name in names), out


def test_named_facets_that_leave_cells_alike_hide_none(sweep: Path) -> None:
    found = table(sweep, lines="budget", facets=[])
    assert sum(entry.figure is not None for entry in found.entries) == 6


def test_the_command_writes_what_it_says(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(sweep), "--formats", "md,tex,png"])
    said = capsys.readouterr().out
    assert "17 of 18 jobs" in said and "without a result: 1 missing" in said
    written = {path.name for path in (sweep / "report").iterdir()}
    assert {"table.md", "table.tex", "budget.png"} <= written and all(name in said for name in written)
    first = {p.name: p.read_bytes() for p in (sweep / "report").iterdir()}
    main(["report", str(sweep), "--formats", "md,tex,png"])
    assert first == {p.name: p.read_bytes() for p in (sweep / "report").iterdir()}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--metric", "test/aggreement"], r"No finished job measured test/aggreement\. There is: test/agreement"),
        (["--by", "thief"], r"thief is t in all cells\. What varies: budget, attack"),
        (["--facet", "nonsense"], r"There is no axis nonsense\. What varies"),
        (["--formats", "md,doc"], r"there is no doc\. There are: md, tex, png, pdf, html"),
    ],
)
def test_what_is_wrong_is_named(sweep: Path, words: list[str], says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        main(["report", str(sweep), "--out", str(sweep / "r"), *words])
    assert not (sweep / "r").exists()


def test_a_folder_that_is_no_sweeps_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no folder"):
        main(["report", str(tmp_path / "absent")])


def test_several_sweeps_need_a_place(sweep: Path) -> None:
    with pytest.raises(SystemExit, match="--out FOLDER"):
        main(["report", str(sweep), str(sweep)])


def test_no_finished_job_is_a_report_of_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked(tmp_path, {"a0": axis(), "b0": axis(victim="b")})
    write_json(begun(tmp_path, "a0") / "failure.json", {"job_key": "a0", "axis": axis(), "error": "E: x"})
    main(["report", str(tmp_path), "--formats", "md,png,pdf"])
    said = capsys.readouterr().out
    assert "No job is finished" in said and "1 failed, 1 missing" in said
    assert "| failed |" in (tmp_path / "report" / "table.md").read_text()


def test_forty_axes_and_a_figure_that_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(6):
        settings = {f"thief.recipe.option{i}": (n >> (i % 3)) & 1 for i in range(40)}
        done(tmp_path, f"j{n}", float("nan") if n == 5 else 0.1 * n, settings)
    main(["report", str(tmp_path), "--formats", "md,png"])
    text = (tmp_path / "report" / "table.md").read_text()
    assert text.count("0.") >= 5 and "not measured" in text


def test_of_too_many_axes_the_last_share_a_column(tmp_path: Path) -> None:
    for n in range(12):
        done(tmp_path, f"j{n}", 0.1 + 0.01 * n, {f"thief.recipe.option{i:02}": int(i == n) for i in range(11)})
    found = table(tmp_path, lines="thief.recipe.option00")
    *own, others = found.keys
    assert others == "others" and len(own) == 7
    for values, row in found.rows:
        option = "thief.recipe.option" + str(round(100 * (row[0].figure.mean - 0.1))).zfill(2) if row[0].figure else ""
        assert values[:-1] == ["1" if name == option else "0" for name in own]
        assert values[-1] == (f"{option}=1" if option[-2:] != "11" and option not in own else "")
    assert len(found.rows) == 12 and any("Others names what differs from thief.recipe.opt" in n for n in found.notes)


def test_budgets_that_ask_as_much_have_a_column_each(tmp_path: Path) -> None:
    for name, queries, share in (("1k", 1000, 0.5), ("1k_paired", 1000, 0.6), ("5k", 5000, 0.7)):
        done(tmp_path, name, share, attack="a", budget=name, queries=queries)
        done(tmp_path, f"{name}-b", share, attack="b", budget=name, queries=queries)
    found = table(tmp_path)
    assert found.columns == ["1,000 queries (1k)", "1,000 queries (1k_paired)", "5,000 queries"]
    assert [[e.figure.mean for e in row if e.figure] for _, row in found.rows] == [[0.5, 0.6, 0.7]] * 2


def test_a_newer_schema_and_a_half_written_result_are_shown(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "b-100-1" / "result.json").write_text('{"met')
    newer = sweep / "b-100-2" / "result.json"
    newer.write_text(newer.read_text().replace('"schema": 1', '"schema": 99'))
    main(["report", str(sweep), "--formats", "none"])
    said = capsys.readouterr().out
    assert "2 unreadable" in said and "(1 of 3)" in said


def test_a_metric_that_nobody_measured_is_refused_by_the_layout(sweep: Path) -> None:
    with pytest.raises(FmstealError, match="test/absent"):
        Layout.of(Study.of([sweep]), "test/absent")


def told(sweep: Path, name: str, value: float, better: object, **more: object) -> None:
    """A finished job with a user's metric, of which its result says that more, less or neither is better."""
    done(sweep, name, 0.5, **more)  # type: ignore[arg-type]
    file = sweep / name / "result.json"
    result = read_json(file)
    result["metrics"]["margin/distance"] = value
    if better != "old":
        result["about"] = record([Metric("margin/distance", value, "margin", better)])["about"]  # type: ignore[arg-type]
    write_json(file, result)


@pytest.mark.parametrize(
    ("better", "bold"), [(True, {"b"}), (False, {"a"}), (None, set()), ("old", set()), ("disputed", set())]
)
def test_what_a_metric_says_of_itself_decides_which_cell_is_bold(
    better: object, bold: set[str], tmp_path: Path
) -> None:
    for attack, value in (("a", 0.1), ("b", 0.9)):
        said = attack == "a" if better == "disputed" else better
        told(tmp_path, attack, value, said, attack=attack)
    found = table(tmp_path, metric="margin/distance")
    assert {values[0] for values, row in found.rows if row[0].bold} == bold
    label = "margin/distance" if better == "old" else "margin"
    assert found.columns == [label] and found.notes[0].startswith(f"{label.capitalize()}, mean")
    beside = table(tmp_path, "a", metric="margin/distance")
    assert any("less is more of a theft" in note for note in beside.notes) is (better is False)
    assert any("None is bold: neither more nor less" in note for note in beside.notes) is (not bold)


def test_the_page_sorts_the_least_first_where_less_is_better(tmp_path: Path) -> None:
    for attack, value in (("a", 0.1), ("b", 0.9)):
        told(tmp_path, attack, value, False, attack=attack)
    study = Study.of([tmp_path])
    text = page.render(study, Layout.of(study, "margin/distance"), [], tmp_path)
    assert 'data-key="margin/distance" data-least>' in text and 'title="margin/distance: less is more' in text
    assert 'data-key="test/agreement">' in text


def test_bars_are_in_the_order_that_the_metric_gives(tmp_path: Path) -> None:
    for better, order in ((True, ["b", "a"]), (False, ["a", "b"]), (None, ["a", "b"])):
        for attack, value in (("a", 0.1), ("b", 0.9)):
            told(tmp_path / str(better), attack, value, better, attack=attack)
        study = Study.of([tmp_path / str(better)])
        layout = Layout.of(study, "margin/distance")
        (plot,) = [plot for plot in draw_figures(study, layout) if plot.name.startswith("attacks")]
        assert [tick.get_text() for tick in plot.figure.axes[0].get_yticklabels()] == order
        assert plot.title.startswith("Margin by attack")
