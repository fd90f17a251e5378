from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.store import read_json, write_json
from fmsteal.report.commands.report import main
from fmsteal.report.read.study import Study
from fmsteal.report.show.multiplicity import IMAGES, KEPT, VICTIMS, Likeness, compare_thieves, tabulate_multiplicity
from tests.support.job_folders import done

ANSWERS = np.array([[0, 1, 2, 0, 1], [0, 1, 2, 1, 2], [0, 2, 2, 0, 0]])


def stolen(folder: Path, attack: str, seed: int, victim: str | None, test: str, *, kept: bool = True) -> None:
    name = f"{attack}-{seed}"
    done(folder, name, 0.8, seed=seed, attack=attack)
    file = folder / name / "result.json"
    write_json(file, {**read_json(file), "victim": victim, "inputs": {"test images": test}})
    if kept:
        arrays = {"victim": ANSWERS[0], "thief": ANSWERS[seed], "label": ANSWERS[0]}
        np.savez(folder / name / "predictions.npz", **arrays)  # type: ignore[arg-type]


def test_thieves_of_one_victim_are_compared_in_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        stolen(tmp_path, "same", seed, "v", "t")
        stolen(tmp_path, "two", seed, "v" if seed < 2 else "w", "t")
    by_attack = {cell.values["attack"]: compare_thieves(cell) for cell in Study.of([tmp_path]).cells}
    same, two = by_attack["same"], by_attack["two"]
    assert isinstance(same, Likeness) and isinstance(two, Likeness)
    shares = [np.mean(ANSWERS[a] == ANSWERS[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert same.pairs == 3 and same.agreement == pytest.approx(np.mean(shares))
    assert two.pairs == 1 and two.agreement == pytest.approx(shares[0])
    main(["report", str(tmp_path), "--formats", "md,tex"])
    assert "agreement of thieves with each other" in capsys.readouterr().out
    assert "| same | 0.533 | 0.800 | 3 |" in (tmp_path / "report" / "multiplicity.md").read_text()


def test_where_they_cannot_be_compared_it_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        stolen(tmp_path, "victims", seed, f"v{seed}", "t")
        stolen(tmp_path, "old", seed, None, "t")
        stolen(tmp_path, "images", seed, "v", f"t{seed}")
        stolen(tmp_path, "bare", seed, "v", "t", kept=False)
    stolen(tmp_path, "single", 0, "v", "t")
    found = {cell.values["attack"]: compare_thieves(cell) for cell in Study.of([tmp_path]).cells}
    assert found == {"victims": VICTIMS, "old": VICTIMS, "images": IMAGES, "bare": KEPT, "single": None}
    table, why = tabulate_multiplicity(Study.of([tmp_path]))
    assert table is None and len(why) == 3
    main(["report", str(tmp_path), "--formats", "none"])
    said = " ".join(capsys.readouterr().out.split())
    assert "No thief-to-thief agreement of 1 of 5 cells: their thieves are judged on other test images each." in said
