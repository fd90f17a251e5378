"""Each defense against its strongest attacker: chosen on one half of the test images, reported on the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import FmstealError
from fmsteal.base.store import read_json, write_json
from fmsteal.report.commands.report import main
from fmsteal.report.read.study import Study
from fmsteal.report.read.worst_case import WorstCase, judge_defenses, split_halves
from fmsteal.report.show.worst_case import tabulate_worst_cases
from tests.support.job_folders import done

IMAGES = 401
COSTS = {"strong": (0.5, 0.90), "weak": (0.6, 0.85), "cheap": (0.1, 0.95)}  # L1 on test answers, accuracy
RIGHT = {  # share of agreeing images, by defense and attack
    "none": {"knockoff": 0.9, "top1": 0.8},
    "strong": {"knockoff": 0.3, "top1": 0.6},
    "weak": {"knockoff": 0.5, "top1": 0.7},
    "cheap": {"knockoff": 0.8, "top1": 0.75},
}


def stolen(sweep: Path, defense: str, attack: str, seed: int, *, right: float | None = None, kept: bool = True) -> None:
    name = f"{defense}-{attack}-{seed}"
    done(
        sweep, name, 0.5, seed=seed, attack=attack, defense=defense, attack_loss="hard" if attack == "top1" else "soft"
    )
    file = sweep / name / "result.json"
    l1, accuracy = COSTS.get(defense, (0.0, 0.0))
    metrics = {"test/agreement": 0.5, "test/victim_accuracy": 0.97}
    honest = {"honest/l1": l1, "honest/accuracy": accuracy, "honest/label_kept": 0.99}
    found = read_json(file) | {"inputs": {"test images": "t"}}
    write_json(file, found | {"metrics": metrics | (honest if defense in COSTS else {})})
    if kept:
        share = RIGHT[defense][attack] if right is None else right
        random = np.random.default_rng([seed, *map(ord, defense + attack)])
        victim = random.integers(0, 5, IMAGES)
        thief = np.where(random.random(IMAGES) < share, victim, (victim + 1) % 5)
        np.savez(sweep / name / "predictions.npz", victim=victim, thief=thief, label=victim)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("defended")
    for defense, attacks in RIGHT.items():
        for attack in attacks:
            for seed in range(3):
                stolen(folder, defense, attack, seed)
    return folder


def by_defense(sweep: Path) -> dict[str, WorstCase]:
    found, _ = judge_defenses(Study.of([sweep]), "knockoff")
    return {each.values["defense"]: each for each in found}


def test_the_strongest_attacker_is_chosen_on_one_half_and_reported_on_the_other(sweep: Path) -> None:
    first, second = split_halves(IMAGES)
    assert sorted([*first, *second]) == list(range(IMAGES)) and len(first) == 201
    found = by_defense(sweep)
    for defense, attacks in RIGHT.items():
        shares: dict[str, tuple[float, list[float]]] = {}
        for attack in attacks:  # a plain loop over images, job by job
            chosen, reported = [], []
            for seed in range(3):
                with np.load(sweep / f"{defense}-{attack}-{seed}" / "predictions.npz") as kept:
                    same = [int(v == t) for v, t in zip(kept["victim"], kept["thief"], strict=True)]
                chosen.append(sum(same[i] for i in first) / len(first))
                reported.append(sum(same[i] for i in second) / len(second))
            shares[attack] = sum(chosen) / 3, reported
        worst = max(shares, key=lambda attack: shares[attack][0])
        case = found[defense]
        assert case.attacker["attack"] == worst == max(attacks, key=lambda attack: attacks[attack])
        assert case.agreement.points == pytest.approx(shares[worst][1]) and case.agreement.interval is not None
        assert case.naive is not None and case.naive.mean == pytest.approx(np.mean(shares["knockoff"][1]))
        assert case.tried == 2


def test_choosing_on_the_half_that_is_reported_would_flatter_the_attacker(tmp_path: Path) -> None:
    """Twenty attackers that are all alike: the best of them on one half is no better than any on the other."""
    for number in range(20):
        stolen(tmp_path, "none", "knockoff", 0, right=0.5)
        (tmp_path / "none-knockoff-0").rename(tmp_path / f"a{number}")
        file = tmp_path / f"a{number}" / "result.json"
        found = read_json(file)
        write_json(file, found | {"job_key": f"a{number}", "axis": found["axis"] | {"attack": f"a{number}"}})
        random = np.random.default_rng(number)
        victim = random.integers(0, 2, IMAGES)
        np.savez(file.parent / "predictions.npz", victim=victim, thief=random.integers(0, 2, IMAGES), label=victim)
    (case,), _ = judge_defenses(Study.of([tmp_path]), "knockoff")
    first, _ = split_halves(IMAGES)
    with np.load(tmp_path / case.attacker["attack"] / "predictions.npz") as kept:
        same = kept["victim"] == kept["thief"]
    assert case.tried == 20 and case.naive is None
    assert same[first].mean() > 0.53 and abs(case.agreement.mean - 0.5) < 0.06


def test_a_defense_that_is_worse_in_all_is_dominated(sweep: Path) -> None:
    found = by_defense(sweep)
    assert {name for name, case in found.items() if case.dominated} == {"weak"}
    assert found["none"].honest == pytest.approx({"honest/l1": 0.0, "honest/accuracy": 0.97, "honest/label_kept": 1.0})
    assert found["strong"].honest == pytest.approx(
        {"honest/l1": 0.5, "honest/accuracy": 0.9, "honest/label_kept": 0.99}
    )


def test_the_command_writes_table_and_plot(sweep: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["report", str(sweep), "--worst-case", "--formats", "md,tex,png", "--out", str(tmp_path)])
    assert "each defense against its strongest attacker" in capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in (tmp_path / "worst-case.md").read_text().splitlines() if "|" in line]
    assert rows[2:] == ["none", "cheap", "strong", "weak"]  # by what they cost
    assert "dominated" in (tmp_path / "worst-case.md").read_text() and (tmp_path / "frontier.png").stat().st_size > 5000


def test_cells_without_all_seeds_or_predictions_are_left_out_and_counted(tmp_path: Path) -> None:
    for attack in ("knockoff", "top1"):
        stolen(tmp_path, "strong", attack, 0, kept=attack == "knockoff")
    stolen(tmp_path, "strong", "knockoff", 1)
    (case,), left = judge_defenses(Study.of([tmp_path]), "knockoff")
    assert left == 1 and case.attacker["attack"] == "knockoff" and case.tried == 1
    assert "1 cells are left out" in " ".join(_notes(tmp_path, "none-knockoff-0"))


def _notes(sweep: Path, further: str) -> list[str]:
    stolen(sweep, *further.split("-")[:2], seed=int(further.split("-")[2]))  # type: ignore[arg-type]
    return list(tabulate_worst_cases(Study.of([sweep])).notes)


def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path) -> None:
    stolen(tmp_path, "none", "knockoff", 0)
    stolen(tmp_path, "strong", "knockoff", 0)
    with pytest.raises(FmstealError, match="--worst-case compares attackers, and all cells have the same"):
        tabulate_worst_cases(Study.of([tmp_path]))
    one = tmp_path / "one"
    for attack in ("knockoff", "top1"):
        stolen(one, "strong", attack, 0, kept=False)
    with pytest.raises(FmstealError, match="defense is strong in all cells"):
        tabulate_worst_cases(Study.of([one]))
    stolen(one, "weak", "top1", 0, kept=False)
    with pytest.raises(FmstealError, match="no cell has a result with predictions"):
        tabulate_worst_cases(Study.of([one]))


SETS = {"digits": 201, "photos": 401}  # test images of an encoder's downstream sets


def stolen_encoder(sweep: Path, defense: str, attack: str, seed: int, right: float) -> None:
    """An encoder's job: its predictions are of heads on downstream sets, one of them of another head."""
    name = f"{defense}-{attack}-{seed}"
    done(sweep, name, 0.5, seed=seed, attack=attack, defense=defense, task="embed")
    file = sweep / name / "result.json"
    metrics = {"test/agreement": 0.5, "test/target_accuracy": 0.8}
    honest = {"honest/l2": 0.4, "honest/downstream_accuracy": 0.7} if defense != "none" else {}
    write_json(file, read_json(file) | {"metrics": metrics | honest})
    rows: dict[str, np.ndarray] = {}
    for number, (place, images) in enumerate({**SETS, "digits/knn": 201}.items()):
        random = np.random.default_rng([seed, number, *map(ord, defense + attack)])
        victim = random.integers(0, 5, images)
        thief = np.where(random.random(images) < (0.0 if "/" in place else right), victim, (victim + 1) % 5)
        rows |= {f"{place}/victim": victim, f"{place}/thief": thief, f"{place}/label": victim}
    np.savez(sweep / name / "predictions.npz", **rows)


def test_an_encoder_is_judged_by_the_headline_heads_of_all_its_downstream_sets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for defense, rights in {"none": (0.9, 0.8), "feature_noise": (0.4, 0.7)}.items():
        for attack, right in zip(("linear_map", "besa"), rights, strict=True):
            for seed in range(3):
                stolen_encoder(tmp_path, defense, attack, seed, right)
    found, left = judge_defenses(Study.of([tmp_path]), "linear_map")
    case = {each.values["defense"]: each for each in found}["feature_noise"]
    assert left == 0 and case.attacker["attack"] == "besa" and case.naive is not None
    for seed, share in enumerate(case.agreement.points):
        with np.load(tmp_path / f"feature_noise-besa-{seed}" / "predictions.npz") as kept:
            same = {place: kept[f"{place}/victim"] == kept[f"{place}/thief"] for place in SETS}
        plain = [sum(same[place][i] for i in split_halves(n)[1]) / (n // 2) for place, n in SETS.items()]
        assert share == pytest.approx(sum(plain) / 2)
    assert case.honest == pytest.approx({"honest/l2": 0.4, "honest/downstream_accuracy": 0.7})
    undefended = {each.values["defense"]: each for each in found}["none"]
    assert undefended.honest == pytest.approx({"honest/l2": 0.0, "honest/downstream_accuracy": 0.8})
    main(["report", str(tmp_path), "--worst-case", "linear_map", "--formats", "md,png", "--out", str(tmp_path / "o")])
    text = (tmp_path / "o" / "worst-case.md").read_text()
    assert "honest L2" in text and "greement of heads" in text and "honest L1" not in text
    assert (tmp_path / "o" / "frontier.png").stat().st_size > 5000 and capsys.readouterr().out
