"""A sweep beside what a paper printed: which figure belongs to which cell, and what is said of it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import scipy.stats

from fmsteal.base import paths
from fmsteal.base.errors import FmstealError
from fmsteal.config import derived
from fmsteal.report.commands.report import main
from fmsteal.report.read.study import Figure, Study
from fmsteal.report.show.published import MATCHED, PublishedComparison, PublishedRow, find, read
from tests.support.job_folders import asked, axis, done

CIFAR = {
    "data": "cifar10", "victim": "vit_l16", "victim_adaptation": "probe", "thief": "vit_l16",
    "thief_adaptation": "probe", "queries": 5000, "budget": "5k", "attack": "knockoff",
}  # fmt: skip
OURS = {
    "far": ({**CIFAR}, (0.930, 0.931, 0.932)),  # published: 94.28
    "near": ({**CIFAR, "victim": "resnet18"}, (0.70, 0.74, 0.75)),  # 73.20
    "alone": ({**CIFAR, "victim_adaptation": "full", "victim": "vit_b16"}, (0.90,)),  # 91.06
    "foreign": ({**CIFAR, "victim": "swin_b"}, (0.5, 0.6, 0.7)),
    "other attack": ({**CIFAR, "attack": "mixmatch"}, (0.9, 0.9, 0.9)),
    "missing": ({**CIFAR, "victim": "resnet34"}, ()),  # 77.85
}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    plan = {}
    for name, (columns, shares) in OURS.items():
        for seed, share in enumerate(shares):
            done(tmp_path, f"{name}-{seed}", share, seed=seed, **columns)
        for seed in range(max(1, len(shares))):
            plan[f"{name}-{seed}"] = axis(**{**columns, "seed": seed})
    asked(tmp_path, plan)
    return tmp_path


def test_each_cell_stands_beside_its_own_figure(sweep: Path) -> None:
    found = PublishedComparison.of(Study.of([sweep]), "fm_stealing")
    at = {name: found.keys.index(name) for name in ("victim", "victim_adaptation")}
    rows = {(row.values[at["victim"]], row.values[at["victim_adaptation"]]): row for row in found.rows}
    assert {key: round(row.published, 4) for key, row in rows.items()} == {
        ("vit_l16", "probe"): 0.9428,
        ("resnet18", "probe"): 0.7320,
        ("resnet34", "probe"): 0.7785,
        ("vit_b16", "full"): 0.9106,
    }
    for key, name in ((("vit_l16", "probe"), "far"), (("resnet18", "probe"), "near")):
        shares = OURS[name][1]
        mean = sum(shares) / 3
        low, high = scipy.stats.t.interval(0.95, 2, mean, scipy.stats.sem(shares))
        row = rows[key]
        assert row.difference == pytest.approx(mean - row.published)
        assert row.inside == (low <= row.published <= high) == (name == "near")
    assert rows["vit_b16", "full"].inside is None and rows["vit_b16", "full"].texts[-1] == "one seed"
    assert rows["resnet34", "probe"].texts[-4:] == ["missing", "0.778", "", ""]
    assert len(found.unmatched) == 2 and "swin_b" in found.unmatched[0] + found.unmatched[1]
    published = read(find("fm_stealing"))
    known = {tuple(sorted(p.axis.items())) for p in published}
    assert found.others == len(published) - 4 and len(known) <= len(published)
    said = " ".join(found.notes)
    assert "Inside our interval: 1 of 2." in said and "2 of our cells (" in said
    assert f"in no cell of ours: {found.others} figures" in said


def test_a_figure_is_of_a_cell_only_if_every_column_agrees(sweep: Path) -> None:
    (far,) = [c for c in Study.of([sweep]).cells if c.figure("test/agreement") and "far-0" in c.jobs[0].on_disk.key]
    (figure,) = [p for p in read(find("fm_stealing")) if p.is_of(far)]
    for name in (*MATCHED, "attack"):
        other = type(figure)({**figure.axis, name: "another"}, figure.agreement)
        assert not other.is_of(far), name
    assert type(figure)({k: v for k, v in figure.axis.items() if k != "attack"}, 0.5).is_of(far)


def test_the_report_writes_it_beside_its_other_tables(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", str(sweep), "--published", "fm_stealing", "--formats", "md,tex"])
    text = (sweep / "report" / "published-fm_stealing.md").read_text()
    assert "0.931 ± 0.002 | 0.943 | -0.012 | no |" in text and "| one seed |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 6 and len({row.replace(r"\|", "").count("|") for row in rows}) == 1
    tex = (sweep / "report" / "published-fm_stealing.tex").read_text()
    assert tex.count(r"\\") == 5 and r"vit\_l16" in tex and r"$\pm$" in tex
    said = capsys.readouterr().out
    assert "beside fm_stealing" in said and "published-fm_stealing.md" in said and "Inside our interval: 1 of 2" in said


def test_figures_of_ones_own_are_compared_too(sweep: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    line = {**{name: CIFAR[name] for name in MATCHED}, "victim": "swin_b", "agreement": "61.5"}
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, line)
        writer.writeheader()
        writer.writerow(line)
    found = PublishedComparison.of(Study.of([sweep]), str(file))
    (row,) = found.rows
    assert found.name == "mine" and row.published == 0.615 and row.inside and found.others == 0


def test_a_sweep_of_other_experiments_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done(tmp_path, "a0", 0.5)
    main(["report", str(tmp_path), "--published", "fm_stealing", "--formats", "none"])
    said = " ".join(capsys.readouterr().out.split())
    assert "No cell of ours has a figure in fm_stealing: its data, victim, victim_adaptation, thief, queries" in said


def test_an_unknown_name_lists_what_there_is(sweep: Path) -> None:
    with pytest.raises(
        SystemExit, match=r"no fm_stealin\. There are: fm_stealing, fm_stealing_selection; or give the path"
    ):
        main(["report", str(sweep), "--published", "fm_stealin", "--formats", "none"])


HEAD = "data,victim,victim_adaptation,thief,queries,agreement\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no column data, victim"),
        (HEAD, "no line below its head"),
        ("data,victim,agreement\na,b,1\n", "has no column victim_adaptation, thief, queries"),
        (HEAD + "a,b,probe,c,5000,94.28 %\n", "line 2 of .*'94.28 %', which is no percentage"),
        (HEAD + "a,b,probe,c,5000,50\na,b,probe,c,5000,120\n", "line 3 of .*'120', which is no percentage"),
        (HEAD + "a,b,probe,c,5000,nan\n", "'nan', which is no percentage"),
        (HEAD + "a,b,probe,c,5000,.94\n", "seems to be in shares"),
    ],
    ids=range(7),
)
def test_a_file_that_holds_no_such_figures_is_named(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    with pytest.raises(FmstealError, match=says):
        read(find(str(file)))


def test_the_published_files_name_choices_that_there_are() -> None:
    conf = paths.folder("conf")
    for name in ("fm_stealing", "fm_stealing_selection"):
        figures = read(find(name))
        for group in ("data", "victim", "thief", "attack"):
            known = {file.stem for file in (conf / group).glob("*.yaml")} | set(derived.names(group, [conf]))
            assert {figure.axis[group] for figure in figures} <= known
        assert {figure.axis["victim_adaptation"] for figure in figures} <= {"probe", "full"}
        mean = sum(figure.agreement for figure in figures) / len(figures)
        assert 0.3 < mean < 0.8 and (paths.folder("sweeps") / "published" / "README.md").read_text().count(f"`{name}`")
    cells = [f for f in read(find("fm_stealing")) if f.axis["victim"] == f.axis["thief"] == "vit_l16"]
    assert [f.agreement for f in cells if f.axis["data"] == "cifar10"] == pytest.approx([0.9428])


def test_seeds_without_an_interval_say_why() -> None:
    said = {n: PublishedRow([], Figure(0.5, None, n, n, (0.5,) * n), "", 0.4).texts[-1] for n in (1, 2, 3)}
    assert said == {1: "one seed", 2: "two seeds: 0.500, 0.500", 3: "3 seeds, all alike"}
