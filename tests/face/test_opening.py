"""A finished job, opened: its models answer as they did, its arrays are those on the disk; faults are named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fmsteal
from fmsteal.base.errors import DataError, FmstealError, JobError, LedgerError, StoreError, TheftError, VictimError
from fmsteal.base.store import write_json
from fmsteal.data.digits import digits
from fmsteal.job.theft import write_sealed
from fmsteal.oracle.ledger import Ledger
from tests.support.composing import SMALL

LINEAR = (*SMALL, "victim._target_=tests.support.foreign_victims.Linear", "overlap=allow")


@pytest.fixture
def copied(job: fmsteal.Job, tmp_path: Path) -> fmsteal.Job:
    """The job in a copy of all that lies beside it, in which a test may damage what it likes."""
    shutil.copytree(job.folder.parents[1], tmp_path / "moved")
    return fmsteal.load(tmp_path / "moved" / "runs" / job.key)


def images() -> torch.Tensor:
    test = digits().test
    return torch.from_numpy(np.array(test.pixels[np.arange(len(test))]))


@torch.no_grad()
def test_thief_and_victim_answer_as_they_did(job: fmsteal.Job) -> None:
    shown, kept = images(), job.predictions
    for model, name in ((job.thief, "thief"), (job.victim, "victim")):
        assert isinstance(model, torch.nn.Module) and not model.training
        np.testing.assert_allclose(model(shown).numpy(), kept[f"{name}_logits"], rtol=0, atol=1e-4)
        torch.testing.assert_close(model(shown[:9].float() / 255), model(shown[:9]))
        assert (model(shown).argmax(1).numpy() == kept[name]).all()
    agreement = float((kept["thief"] == kept["victim"]).mean())
    assert agreement == job.result["metrics"]["test/agreement"]
    assert job.thief is job.thief


def test_its_config_ledger_and_theft(job: fmsteal.Job) -> None:
    assert job.config.seed == 3 and job.config.budget.queries == 100 and job.config.cache == "outputs/cache"
    header = json.loads((job.theft_folder / "ledger.bin").read_bytes().partition(b"\n")[0])
    ledger = Ledger(job.theft_folder / "ledger.bin", header["job"])
    np.testing.assert_array_equal(job.ledger["answers"], ledger.answers)
    questions = list(ledger)
    assert [bytes(row) for row in job.ledger["image"]] == [question.image for question in questions]
    assert job.ledger["client"].tolist() == [q.client for q in questions]
    assert job.ledger["nth"].tolist() == [0] * 100
    np.testing.assert_allclose(job.ledger["answers"].sum(1), 1, atol=1e-5)
    assert job.theft["victim"] == job.result["victim"] and job.theft["cost"]["cost/queries"] == 100
    assert eval(repr(job)).key == job.key


def test_models_take_arrays_and_name_what_is_no_batch_of_images(job: fmsteal.Job) -> None:
    shown = images()[:4]
    torch.testing.assert_close(job.thief(shown.numpy()), job.thief(shown))
    torch.testing.assert_close(job.thief(images=shown), job.thief(shown))  # by name too
    torch.testing.assert_close(job.victim(shown.double() / 255), job.victim(shown / 255))
    for wrong, says in (
        (shown[0], "Tensor of shape (3, 32, 32)"),
        (shown.permute(0, 2, 3, 1).numpy(), "ndarray of shape (4, 32, 32, 3)"),
        (shown.float(), "with torch.float32 from 0 to 255"),
        (shown.long(), "with torch.int64"),
        ("images", "str of shape ()"),
    ):
        for model in (job.thief, job.victim):
            with pytest.raises(DataError, match=re.escape(says)):
                model(wrong)


def test_jobs_are_found_where_they_were_moved_to(copied: fmsteal.Job, job: fmsteal.Job) -> None:
    assert copied.theft_folder != job.theft_folder and copied.theft == job.theft
    shown = images()[:4]
    torch.testing.assert_close(copied.thief(shown), job.thief(shown))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(copied.folder)  # relative paths are those of the folder that the job was started in
        torch.testing.assert_close(copied.victim(shown), job.victim(shown))


def test_a_victim_is_neither_trained_nor_taken_for_another(copied: fmsteal.Job, job: fmsteal.Job) -> None:
    shutil.rmtree(copied.folder.parents[1] / "cache" / "victims")
    with pytest.raises(VictimError, match=r"not in the cache .*trains nothing.* stage=victims"):
        copied.victim  # noqa: B018
    assert not (copied.folder.parents[1] / "cache" / "victims").exists()
    again = fmsteal.load(copied.folder)
    again.config.cache = str(job.folder.parents[1] / "cache")
    again.theft["victim"] = "0123456789abcdef"
    with pytest.raises(VictimError, match=r"another .* than the one that was stolen from .0123456789abcdef"):
        again.victim  # noqa: B018


def cases(job: fmsteal.Job, folder: Path) -> dict[str, tuple[Path, str]]:
    """Folders that are no finished jobs, and what is said of them."""
    begun = folder / "begun"
    (begun / ".hydra").mkdir(parents=True)
    (begun / ".hydra" / "overrides.yaml").write_text("- seed=4\n")
    (begun / "theft.txt").write_text("../thefts/x")  # it came to its theft
    failed = folder / "failed"
    (failed / ".hydra").mkdir(parents=True)
    write_json(failed / "failure.json", {"job_key": "k", "error": "DataError: no images", "log": "x.log"})
    torn = folder / "torn"
    (torn / ".hydra").mkdir(parents=True)
    (torn / "result.json").write_text("{")
    victim = folder / "sweep" / "victims" / "v"
    (victim / ".hydra").mkdir(parents=True)
    (folder / "empty").mkdir()
    return {
        "missing": (folder / "nowhere", "There is no folder"),
        "empty": (folder / "empty", "is no job's folder"),
        "runs": (job.folder.parent, "holds 1 jobs.*fmsteal.load.*fmsteal.table"),
        "theft": (job.theft_folder, "is a theft"),
        "victim": (victim, "prepared a victim"),
        "begun": (begun, r"not finished \(killed\).*seed=4"),
        "failed": (failed, r"has failed: DataError: no images. Its log: x.log"),
        "torn": (torn, "result.json is no JSON"),
    }


@pytest.mark.parametrize("case", ["missing", "empty", "runs", "theft", "victim", "begun", "failed", "torn"])
def test_what_is_no_finished_job_is_named(case: str, job: fmsteal.Job, tmp_path: Path) -> None:
    folder, says = cases(job, tmp_path)[case]
    with pytest.raises(JobError, match=f"(?s){says}") as raised:
        fmsteal.load(folder)
    assert str(folder) in str(raised.value)


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "attribute", "kind"),
    [
        ("thief.safetensors", "thief", TheftError),
        ("ledger.bin", "ledger", LedgerError),
        ("theft.json", "theft", TheftError),
        ("predictions.npz", "predictions", StoreError),
    ],
)
def test_damage_is_named(copied: fmsteal.Job, name: str, attribute: str, kind: type[FmstealError]) -> None:
    place = copied.folder if name == "predictions.npz" else copied.theft_folder
    flip(place / name, -20)
    with pytest.raises(kind, match=name):
        getattr(copied, attribute)
    (place / name).unlink()
    with pytest.raises(kind):
        getattr(fmsteal.load(copied.folder), attribute)


def test_a_theft_that_is_not_there_is_named(copied: fmsteal.Job) -> None:
    shutil.rmtree(copied.theft_folder)
    with pytest.raises(JobError, match=r"theft of .* is not there"):
        copied.thief  # noqa: B018
    old = fmsteal.Job(copied.folder, {"job_key": "old", "command": "fmsteal seed=9"})
    with pytest.raises(JobError, match=r"earlier fmsteal.*fmsteal seed=9"):
        old.theft  # noqa: B018


def test_a_thief_that_no_file_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = fmsteal.run([*LINEAR, "attack._target_=tests.support.foreign_thieves.StubbornRidge"])
    with pytest.raises(TheftError, match="not loadable"):
        job.thief  # noqa: B018
    with pytest.raises(TheftError, match="not loadable"):
        job.export("torch.export", tmp_path / "thief.pt2")
    assert job.predictions["thief"].shape == (600,)


def test_a_victim_that_costs_money_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = fmsteal.run([*LINEAR, "attack._target_=tests.support.foreign_thieves.Ridge", "+victim.paid=true"])
    with pytest.raises(VictimError, match="answers for money"):
        job.victim  # noqa: B018
    program = torch.export.load(job.export("torch.export", tmp_path / "thief.pt2")).module()
    with torch.no_grad():
        shown = images()[:3].float() / 255
        shown = torch.nn.functional.interpolate(shown, job.thief.size)  # type: ignore[arg-type]
        torch.testing.assert_close(program(shown), job.thief(shown))
    write_sealed(job.theft_folder / "theft.json", {**job.theft, "thief": {**job.theft["thief"], "form": "weights"}})
    (job.theft_folder / "thief.pt2").unlink()
    with pytest.raises(TheftError, match="has lost its thief"):
        fmsteal.load(job.folder).thief  # noqa: B018


def test_a_table_is_what_results_writes(job: fmsteal.Job, tmp_path: Path, fmsteal_csv: Any) -> None:
    frame, csv = fmsteal.table(job.folder.parent), fmsteal_csv(job.folder.parent)
    assert list(frame.columns) == list(csv.columns) and len(frame) == len(csv) == 1
    assert frame["job_key"].tolist() == [job.key]
    assert frame["test/agreement"][0] == csv["test/agreement"][0] == job.result["metrics"]["test/agreement"]
    assert len(fmsteal.table(job.folder.parent, job.folder.parent)) == 2


@pytest.fixture
def fmsteal_csv(tmp_path: Path) -> Any:
    """What ``fmsteal results --csv`` writes of a folder, read again."""
    import pandas

    from fmsteal.report import commands

    def read(folder: Path) -> Any:
        commands.main(["results", str(folder), "--csv", str(tmp_path / "all.csv")])
        return pandas.read_csv(tmp_path / "all.csv")

    return read


def test_without_pandas_the_extra_is_named(job: fmsteal.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FmstealError, match="Name the folders"):
        fmsteal.table()
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(FmstealError, match=r"pip install 'fmsteal\[pandas\]'"):
        fmsteal.table(job.folder.parent)
