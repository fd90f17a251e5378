"""The command: what it refuses by name, what it says of a victim that it cannot see into, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fmsteal.base.store import write_json
from fmsteal.risk.command import main
from tests.support.composing import composed
from tests.support.job_folders import begun

HTTP = ("victim=http", "victim.name=mine", "victim.url=http://127.0.0.1:9", "victim.usd_per_1000=2")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def write_job(root: Path, accuracy: float, *words: str) -> Path:
    """A finished job's folder, as far as this command reads it."""
    folder = begun(root, "job", *words)
    cfg = composed(*words)
    OmegaConf.save(OmegaConf.masked_copy(cfg, [name for name in cfg if name != "hydra"]), folder / ".hydra/config.yaml")
    metrics = {"test/agreement": 0.5, "test/victim_accuracy": accuracy}
    axis = {"victim": "resnet10t", "data": "digits"}
    write_json(folder / "result.json", {"schema": 1, "job_key": "job", "axis": axis, "metrics": metrics})
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], ["There is no folder", "nowhere", "fmsteal risk victim=..."]),
        (["a", "b"], ["One victim at a time", "a, b"]),
        (["a", "data=cifar10"], ["leave out data=cifar10"]),
        (["task=embed"], ["answers with embeddings", "fmsteal audit task=embed"]),
        (["victim=resnet1"], ["resnet1"]),
        (["victim=resnet10t", "--width", "9"], ["--width 9: the config says 512"]),
        (["victim=resnet10t", "--kind", "probed"], ["--kind probed: the config says scratch"]),
        (["--kind", "stolen"], ["probed, fine-tuned, scratch", "stolen"]),
        (["--classes", "1"], ["--classes must be at least 2"]),
        ([*HTTP, "--width", "0"], ["--width must be at least 1"]),
        (["--accuracy", "96"], ["--accuracy is a share"]),
        (["--accuracy", "0.1"], ["no more than chance with 10 classes"]),
        (["--ladder", "1k"], ["--ladder takes numbers"]),
        (["--out", "none/risk.json"], ["There is no folder", "risk.json"]),
        (["--check", "victim=resnet10t"], ["leave out victim=resnet10t"]),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_refused_by_name(words: list[str], says: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["risk", *words])
    for part in says:
        assert part in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_victim_behind_http_gets_what_can_be_had(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["risk", *HTTP, "--out", "risk.json"])
    said, found = capsys.readouterr().out, json.loads(Path("risk.json").read_text())
    assert "mine (http) on digits: made nobody said how, width unknown" in said and "not known without --width" in said
    assert "Not known, and worth saying: --kind, --width, --accuracy." in said
    assert found["exact"]["queries"] is None and found["usd_per_1000"] == 2 and found["victim"]["width"] is None
    budgets = found["budgets"]
    assert [budget["usd"] for budget in budgets] == [0.2, 1.0, 2.0, 10.0, 40.0]
    assert all(budget["expected"] is None and budget["low"] < budget["high"] for budget in budgets)
    assert [path.name for path in tmp_path.iterdir()] == ["risk.json"]

    main(
        [
            "risk",
            *HTTP,
            "--kind",
            "probed",
            "--trunk",
            "public",
            "--width",
            "768",
            "--accuracy",
            ".9",
            "--out",
            "risk.json",
        ]
    )
    told = json.loads(Path("risk.json").read_text())
    assert told["exact"]["queries"] == 776 and told["exact"]["usd"] == pytest.approx(1.552)
    assert [budget["exact"] for budget in told["budgets"]] == [False, False, True, True, True]


def test_a_finished_job_tells_its_accuracy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = write_job(tmp_path, 0.93, "victim=resnet10t", "defense=hard_label")
    main(["risk", str(folder), "--ladder", "1_000,100", "--out", "risk.json"])
    said, found = capsys.readouterr().out, json.loads(Path("risk.json").read_text())
    assert "resnet10t on digits: scratch, 512 features, 10 classes, accuracy 0.930" in said
    assert found["victim"]["accuracy"] == 0.93 and found["victim"]["answers"] == "the label alone"
    assert [budget["queries"] for budget in found["budgets"]] == [100, 1000]
    assert all(budget["outside"] == [] for budget in found["budgets"])


def test_weights_in_a_file_are_taken_to_be_public_unless_said_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "risk",
        "victim=resnet10t",
        "victim.adaptation=probe",
        "victim.backbone.weights=mine.pth",
        "--ladder",
        "900",
    ]
    main(words)
    assert "they are taken to be public" in (said := capsys.readouterr().out) and "1.00 solved" in said
    main([*words, "--trunk", "private"])
    assert "nobody else has its trunk" in (said := capsys.readouterr().out) and "1.00 solved" not in said


def test_the_check_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["risk", "--check"])
    said = capsys.readouterr().out
    assert "each of 10 victims" in said and "Spearman" in said and "CIFAR-10 ResNet-18" in said
