"""The row of no query: the thief that says the most frequent class, against plain counting, in every table."""

from __future__ import annotations

from collections import Counter
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fmsteal.base.store import read_json, write_json
from fmsteal.records.folders import JobFolder
from fmsteal.records.results import read_sweep
from fmsteal.report.commands.report import choose_metrics
from fmsteal.report.read import majority, tidy
from fmsteal.report.read.interval import SeedFigure, share_interval
from fmsteal.report.read.study import Study
from fmsteal.report.show import listing, typeset
from fmsteal.report.show.layout import Layout
from fmsteal.report.show.page_content import PageContent
from fmsteal.report.show.table import show_result, show_sweep
from fmsteal.report.show.tables import Table
from tests.support.job_folders import asked, axis
from tests.support.sweeps import finished

RANDOM = np.random.default_rng(8)


def predictions(folder: Path, n: int = 50, prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Answers of a job's victim, and labels of which 3 is the most frequent."""
    label = np.where(RANDOM.random(n) < 0.5, 3, RANDOM.integers(0, 5, n))
    victim = np.where(RANDOM.random(n) < 0.8, label, RANDOM.integers(0, 5, n))
    kept = {} if not (file := JobFolder(folder).predictions).exists() else dict(np.load(file))
    np.savez(file, **kept, **{f"{prefix}victim": victim, f"{prefix}thief": victim, f"{prefix}label": label})
    return victim, label


def share(rows: np.ndarray, label: np.ndarray) -> float:
    most = Counter(label.tolist()).most_common(1)[0][0]
    return sum(row == most for row in rows.tolist()) / len(rows)


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Path, dict[str, list[float]]]:
    """Two victims, two attacks, three seeds; and what the majority class agrees with each victim, seed by seed."""
    plan, due = {}, {}
    for victim in ("v1", "v2"):
        for seed in range(3):
            answers = None
            for attack in ("knockoff", "top1"):
                name = f"{victim}-{attack}-{seed}"
                columns = {"victim": victim, "attack": attack}
                plan[name] = axis(seed, **columns)
                finished(tmp_path, name, 0.5 + 0.1 * seed, seed=seed, **columns)
                if answers is None:
                    answers = predictions(tmp_path / name)
                    due.setdefault(victim, []).append(share(*answers))
                victims, label = answers
                file = JobFolder(tmp_path / name).predictions
                np.savez(file, victim=victims, thief=victims, label=label)
    asked(tmp_path, plan)
    return tmp_path, due


def test_its_figures_are_counted(tmp_path: Path) -> None:
    victim, label = predictions(tmp_path)
    found, accuracy = majority.scores(tmp_path), share(label, label)
    assert found["test/agreement"] == pytest.approx(share(victim, label))
    assert found["test/accuracy"] == pytest.approx(accuracy)
    assert found["test/relative_accuracy"] == pytest.approx(accuracy / (victim == label).mean())


def test_of_encoders_it_is_the_mean_over_downstream_sets_of_the_headlines_head(tmp_path: Path) -> None:
    (v1, l1), (v2, l2) = predictions(tmp_path, 40, "a/"), predictions(tmp_path, 30, "b/")
    predictions(tmp_path, 30, "b/knn/")
    found = majority.scores(tmp_path)
    assert found["test/agreement"] == pytest.approx((share(v1, l1) + share(v2, l2)) / 2)
    ratios = [share(label, label) / (victim == label).mean() for victim, label in ((v1, l1), (v2, l2))]
    assert found["downstream/a/ratio"] == pytest.approx(ratios[0])
    assert found["test/ratio"] == pytest.approx(np.mean(ratios))
    assert "downstream/b/knn/agreement" in found and "test/accuracy" not in found


def test_without_predictions_or_with_torn_ones_there_is_no_figure(tmp_path: Path) -> None:
    assert majority.scores(tmp_path) == {}
    (tmp_path / "torn").mkdir()
    JobFolder(tmp_path / "torn").predictions.write_bytes(b"PK\x03\x04 torn")
    assert majority.scores(tmp_path / "torn") == {}


def test_a_report_has_a_row_for_each_victim(sweep: tuple[Path, dict[str, list[float]]]) -> None:
    folder, due = sweep
    study = Study.of([folder])
    table = Table.of(study, Layout.of(study))
    place = table.keys.index("victim")
    rows = {values[place]: row for values, row in table.rows if majority.NAME in values}
    assert rows.keys() == {"v1", "v2"} and len(table.rows) == 6
    for victim, (entry,) in rows.items():
        assert entry.figure is not None and not entry.bold and entry.difference is None
        assert entry.figure.mean == pytest.approx(np.mean(due[victim])) and entry.figure.n == 3
        jobs = next(cell.jobs for cell in study.cells if cell.values["victim"] == victim)
        images = [point.images for job in jobs if (point := job.point("test/agreement"))]
        want = share_interval([SeedFigure(*each) for each in zip(due[victim], images, strict=True)])
        assert entry.figure.interval == pytest.approx(want) and entry.figure.covers == "seeds and test images"
    assert f"{np.mean(due['v1']):.3f}" in typeset.markdown(table)
    beside = Table.of(study, Layout.of(study), "knockoff")
    assert sum(majority.NAME in values for values, _ in beside.rows) == 2
    every = [value for values in due.values() for value in values]
    said = f"the {majority.NAME}, has {min(every):.3f} to {max(every):.3f}"
    assert any(said in note for note in PageContent(study, Layout.of(study), folder).notes)
    assert not any(majority.NAME in v for v, _ in Table.of(study, Layout.of(study, "test/kl")).rows)


def test_a_table_of_one_cell_has_it_too(tmp_path: Path) -> None:
    finished(tmp_path, "only", 0.5, seed=0)
    victim, label = predictions(tmp_path / "only")
    asked(tmp_path, {"only": axis(0)})
    study = Study.of([tmp_path])
    table = Table.of(study, Layout.of(study))
    assert [list(values) for values, _ in table.rows] == [[""], [majority.NAME]]
    figure = table.rows[1][1][0].figure
    assert figure is not None and figure.mean == pytest.approx(share(victim, label))


def test_the_tables_of_a_sweep_of_a_job_and_of_results_have_it(
    sweep: tuple[Path, dict[str, list[float]]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, due = sweep
    show_sweep(read_sweep(folder), folder)
    said = capsys.readouterr().out
    assert said.count(majority.NAME) == 2 and f"{np.mean(due['v2']):.3f}" in said
    result = read_json(folder / "v1-top1-0" / "result.json")
    named = {**result["axis"], "query": "glyphs", "defense": "none"}
    show_result({**result, "axis": named, "tracker": "none"}, folder / "v1-top1-0")
    said = capsys.readouterr().out
    assert "agreement of the majority class" in said and f"{due['v1'][0]:.3f}" in said
    rows = tidy.make_rows(folder)
    kept = {row["job_key"]: row["test/agreement.majority"] for row in rows}
    assert kept["v1-knockoff-2"] == pytest.approx(due["v1"][2])
    out = StringIO()
    listing.show(rows, Console(file=out, width=200))
    every = [value for values in due.values() for value in values]
    assert f"{min(every):.3f} to {max(every):.3f}" in out.getvalue()


def test_the_accuracy_ratio_of_encoders_is_never_reported_alone(tmp_path: Path) -> None:
    finished(tmp_path, "only", 0.5, seed=0)
    file = tmp_path / "only" / "result.json"
    result = read_json(file)
    result["metrics"] |= {"test/ratio": 1.1, "test/neighbours": 0.2, "test/cosine": 0.3}
    write_json(file, result)
    asked(tmp_path, {"only": axis(0)})
    study = Study.of([tmp_path])
    assert choose_metrics(study, None) == ["test/agreement", "test/ratio", "test/neighbours", "test/cosine"]
    assert choose_metrics(study, ["test/ratio"]) == ["test/ratio", "test/agreement", "test/neighbours", "test/cosine"]
    assert choose_metrics(study, ["test/kl"]) == ["test/kl"]
