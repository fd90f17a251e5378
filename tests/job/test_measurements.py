"""Measured later, each measurement once: nothing is stolen, trained or asked for it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.errors import DataError, TheftError
from fmsteal.data.images import Task
from fmsteal.evaluation.base import Found, Measurement, Pair
from fmsteal.training.context import Context
from tests.job.jobs import QUERIES, answers, job, measured, read, run_job, theft, thefts
from tests.support import foreign_victims

OURS = "victim._target_=fmsteal.victims.classifier.ClassifierVictim"
TEST = 719  # images of the victim's test split
OF_CLASSIFY = {
    "test/agreement", "test/agreement@5", "test/accuracy", "test/victim_accuracy", "test/kl", "test/l1",
    "test/relative_accuracy", "test/kappa", "test/agreement_victim_wrong", "test/agreement_least_sure",
}  # fmt: skip
OF_SIMILARITY = {
    "test/cka", "test/cka_unbiased", "test/trunk_cka", "test/trunk_cka_unbiased", "test/victim_entropy",
}  # fmt: skip


def state(root: Path) -> dict[str, tuple[bytes, int]]:
    """The files of the theft itself, and when each was written."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in theft(root).path.iterdir() if p.is_file()}


@pytest.mark.parametrize(
    ("more", "known"),
    [("ood", OF_CLASSIFY), pytest.param("everything", OF_CLASSIFY | OF_SIMILARITY, marks=pytest.mark.slow)],
    ids=["ood", "everything"],
)
def test_with_another_evaluation_nothing_is_stolen(
    more: str, known: set[str], cache: Path, tmp_path: Path, done: Counter[str]
) -> None:
    where = (OURS, f"cache={cache}")
    first = run_job(tmp_path, *where)
    assert set(first["metrics"]) == OF_CLASSIFY and first["measurements"][0].startswith("classify-")
    assert done["queries"] == QUERIES and done["train thief"] == 1
    stolen, classified = state(tmp_path), first["metrics"]
    done.clear()
    second = run_job(tmp_path, *where, "evaluation=similarity")
    assert set(second["metrics"]) == OF_CLASSIFY | OF_SIMILARITY and len(second["measurements"]) == 2
    assert {k: second["metrics"][k] for k in OF_CLASSIFY} == classified
    third = run_job(tmp_path, *where, f"evaluation={more}")
    assert set(third["metrics"]) > known
    assert read(job(tmp_path).result)["metrics"] == third["metrics"]
    again = run_job(tmp_path, *where)
    assert again["metrics"] == classified and len(again["measurements"]) == 1
    assert not +done, "it trained, or asked"
    assert state(tmp_path) == stolen
    assert [r["cost"]["cost/queries"] for r in (first, second, third, again)] == [QUERIES] * 4
    assert (job(tmp_path).curves).read_bytes() == theft(tmp_path).curves.read_bytes()


def test_a_damaged_measurement_is_measured_again(
    cache: Path, tmp_path: Path, done: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = run_job(tmp_path, f"cache={cache}")
    folder = measured(theft(tmp_path))["classify"]
    whole = {p.relative_to(folder.path): p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}
    assert len(whole) >= 5
    (folder.path.with_name(".tmp-killed")).mkdir()  # of a process that was killed
    done.clear()
    for name in whole:
        data = bytearray(whole[name])
        data[len(data) // 2] ^= 1
        (folder.path / name).write_bytes(data)
        caplog.clear()
        again = run_job(tmp_path, f"cache={cache}")
        assert f"{name} " in caplog.text and "measured again" in caplog.text
        assert again["metrics"] == first["metrics"]
        for other, content in whole.items():
            if other.name != "measurement.json":  # which says how long it took
                assert (folder.path / other).read_bytes() == content, other
    assert not +done and [p.name for p in folder.path.parent.iterdir()] == [folder.path.name]


def test_a_thief_of_a_foreign_class_is_kept_as_a_program(cache: Path, tmp_path: Path, done: Counter[str]) -> None:
    attack = ("attack._target_=tests.support.foreign_thieves.Ridge", f"cache={cache}")
    first = run_job(tmp_path, *attack)
    folder = theft(tmp_path)
    assert folder.program.exists() and not folder.thief.exists()
    assert read(folder.seal)["thief"]["form"] == "program" and "thief.pt2" in read(folder.seal)["files"]
    done.clear()
    again = run_job(tmp_path, *attack, "evaluation.k=3")
    assert not +done
    for name in ("test/agreement", "test/accuracy"):
        assert again["metrics"][name] == pytest.approx(first["metrics"][name], abs=2 / TEST)


def test_a_thief_that_no_file_holds_is_trained_again_without_a_query(
    cache: Path, tmp_path: Path, done: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    attack = ("attack._target_=tests.support.foreign_thieves.StubbornRidge", f"cache={cache}")
    first = run_job(tmp_path, *attack)
    said = [r.message for r in caplog.records if "torch.export cannot keep" in r.message]
    assert len(said) == 1 and "\n" not in said[0] and "Stubborn" in said[0]
    folder, stolen = theft(tmp_path), state(tmp_path)
    assert read(folder.seal)["thief"]["form"] == "none" and not folder.program.exists()
    done.clear()
    again = run_job(tmp_path, *attack, "evaluation.k=3")
    assert done["ask"] == 1 and done["queries"] == 0 and state(tmp_path) == stolen
    assert again["metrics"]["test/agreement"] == first["metrics"]["test/agreement"]


def test_an_attack_that_asks_differently_gets_no_answer_for_a_sealed_theft(cache: Path, tmp_path: Path) -> None:
    attack = ("attack._target_=tests.support.foreign_thieves.Moody", f"cache={cache}")
    run_job(tmp_path, *attack)
    stolen = state(tmp_path)
    with pytest.raises(
        TheftError, match=r"was sealed, and its attack now asks for an answer that is not among the \d+ of its ledger"
    ):
        run_job(tmp_path, *attack, "evaluation.k=3")
    assert state(tmp_path) == stolen


def test_what_measurements_show_a_paid_victim_is_counted_priced_and_paid_once(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paid = ("+victim.paid=true", f"cache={cache}", "budget.usd_per_1000=2")
    first = run_job(tmp_path, *paid)
    images = first["cost"]["cost/evaluation_queries"]
    assert images > QUERIES and first["cost"]["cost/evaluation_usd"] == pytest.approx(images * 2 / 1000)
    assert first["cost"]["cost/usd"] == pytest.approx(QUERIES * 2 / 1000) == first["cost"]["cost/usd_billed"]
    shutil.rmtree(measured(theft(tmp_path))["classify"].path)  # measured again: it is paid for already
    foreign_victims.Model.seen = 0
    again = run_job(tmp_path, *paid)
    assert foreign_victims.Model.seen == 0 and again["metrics"] == first["metrics"]
    other = run_job(tmp_path, *paid, "seed=1", "victim.seed=0", name="another")  # another thief, the same victim
    assert other["cost"]["cost/evaluation_queries"] == 0 and len(thefts(tmp_path)) == 2
    free = run_job(tmp_path / "free", f"cache={cache}")
    assert not [name for name in free["cost"] if "evaluation" in name]


def test_other_weights_under_the_name_of_a_foreign_victim_are_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: Counter[str]
) -> None:
    first = run_job(tmp_path, f"cache={cache}")
    stolen = state(tmp_path)
    done.clear()
    monkeypatch.setattr(foreign_victims, "SCALE", [9.0])
    for evaluation in ("evaluation=classify", "evaluation.k=3"):
        with pytest.raises(DataError, match=r"other content under the same names \(victim\).*edition=2"):
            run_job(tmp_path, f"cache={cache}", evaluation)
    assert not +done and state(tmp_path) == stolen
    second = run_job(tmp_path, f"cache={cache}", "edition=2", name="edition")
    assert done["queries"] == QUERIES and len(thefts(tmp_path)) == 2
    assert second["victim"] != first["victim"]
    assert theft(tmp_path).ledger.read_bytes()[-400:] != theft(tmp_path, "edition").ledger.read_bytes()[-400:]


@pytest.mark.slow
def test_reuse_false_and_force_make_further_thefts_beside_the_first(
    cache: Path, tmp_path: Path, done: Counter[str]
) -> None:
    run_job(tmp_path, f"cache={cache}")
    reused = run_job(tmp_path, f"cache={cache}", name="reused")
    assert done["queries"] == QUERIES and reused["cost"]["cost/usd_billed"] == 0 < reused["cost"]["cost/usd"]
    run_job(tmp_path, f"cache={cache}", "reuse=false", name="anew")
    assert done["queries"] == 2 * QUERIES and theft(tmp_path, "anew").path.name.endswith(".2")
    run_job(tmp_path, f"cache={cache}", "reuse=false", name="anew")  # it has a theft of its own
    assert done["queries"] == 2 * QUERIES and len(thefts(tmp_path)) == 2
    assert theft(tmp_path).path != theft(tmp_path, "anew").path and theft(tmp_path).seal.exists()
    for name in ("thief.safetensors", "ledger.bin"):
        assert (theft(tmp_path).path / name).read_bytes() == (theft(tmp_path, "anew").path / name).read_bytes()
    assert answers(theft(tmp_path)) == QUERIES
    assert np.load(job(tmp_path, "reused").predictions)["thief"].shape == (
        np.load(job(tmp_path).predictions)["thief"].shape
    )


class Choosy(Measurement):
    """Refuses every task."""

    def check_task(self, task: Task) -> None:
        raise DataError(f"{len(task.test)} test images are too few.")

    def run(self, pair: Pair, ctx: Context) -> Found:
        raise AssertionError("it is never run")


def test_a_task_that_a_measurement_refuses_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="600 test images are too few"):
        run_job(tmp_path, "+evaluation.also.choosy={_target_: tests.job.test_measurements.Choosy}")
    assert not list(tmp_path.rglob("ledger.bin")) and not list(tmp_path.rglob("thief.*"))
