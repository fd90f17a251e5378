"""Whatever was done to the files of a finished job, `fmsteal verify` finds it and names the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fmsteal.base.metric import record
from fmsteal.evaluation.classifier import ClassifierEvaluation
from tests.report.checks.forging import HEAD, Forged, agree_more, copied, flipped, replace, sha
from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.wandb_file import offline_runs
from tests.support.warm import Command

DEFENSE = """
import torch
from fmsteal.defenses.base import RowDefense, RowGuard
from fmsteal.oracle.guard import Reply

class Priced(RowDefense):
    def prepare(self, victim, train, ctx):
        return PricedGuard(self, victim.width)

    def protect(self, answers, ask):
        return answers

class PricedGuard(RowGuard):
    def reply(self, ask):
        usd = torch.full((len(ask.answers),), 0.01)
        return Reply(ask.answers, usd=usd, seconds=2 * usd, flags={"seen": usd > 0}, log=[b"x"] * len(usd))
"""


def made(folder: Path, *words: str) -> Path:
    done = Command((*SMALL, "tracker=wandb", "query.count=100", *words), folder, environment()).done()
    assert done.returncode == 0, done.stderr
    offline_runs(folder)  # W&B goes on writing for a moment
    return folder / "outputs"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished job, with an offline W&B run."""
    return made(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of another seed, whose defense charges, delays and flags, and keeps a log."""
    folder = tmp_path_factory.mktemp("second")
    (folder / "priced.py").write_text(DEFENSE)
    return made(folder, "seed=1", "defense._target_=priced.Priced")


@pytest.fixture
def job(first: Path, tmp_path: Path) -> Forged:
    return copied(first, tmp_path / "outputs")


def test_whole_jobs_have_no_faults(first: Path, second: Path, tmp_path: Path) -> None:
    for outputs in (first, second):
        job = Forged(outputs)
        assert job.faults() == []
        assert list(job.job.rglob("*.wandb"))
    cost = json.loads(job.result.read_text())["cost"]
    assert cost["cost/defense_usd"] == pytest.approx(1.0) and cost["cost/usd"] == pytest.approx(1.15)
    moved = copied(second, tmp_path / "moved" / "outputs")
    assert moved.faults() == []
    shutil.rmtree(moved.job / "wandb")  # uploaded, and removed
    assert moved.faults() == []


def test_a_finished_job_that_is_started_again_with_other_words_is_still_whole(first: Path) -> None:
    """Hydra writes its files anew: they are put back, the price in them too."""
    before = sha(Forged(first).result)
    made(first.parent, "quiet=true", "budget.usd_per_1000=9")
    assert Forged(first).faults() == [] and sha(Forged(first).result) == before


@pytest.mark.parametrize(
    ("which", "flips"),
    [("first", 10), *(pytest.param(each, 150, marks=pytest.mark.slow) for each in ("first", "second"))],
)
def test_every_flipped_bit_is_found_in_every_file(
    which: str, flips: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    job = copied(request.getfixturevalue(which), tmp_path / "outputs")
    shutil.rmtree(job.job / "wandb")
    files = job.files()
    expected = {"job: result.json", "job: predictions.npz", "job: metrics.csv", "job: .hydra/config.yaml"}
    expected |= {f"theft: {name}" for name in ("theft.json", "begun.json", "ledger.bin", "curves.csv")}
    expected |= {"theft: thief.safetensors", *(["theft: defense.log"] if which == "second" else [])}
    assert expected <= files.keys() and len(files) >= 16
    if which == "second":  # of the others the first job tells
        files = {label: file for label, file in files.items() if label.endswith(("defense.log", "ledger.bin"))}
    missed = []
    for label, file in files.items():
        name = label.partition(": ")[2]
        draws = random.Random(label).sample(range(8 * file.stat().st_size), flips)
        for bit in draws:
            with flipped(file, bit):
                if not any(fault.startswith(name) for fault in job.faults()):
                    missed.append((label, bit))
    assert not missed
    assert job.faults() == []


def metric(job: Forged, first: Path, second: Path) -> None:
    job.change(job.result, lambda r: r["metrics"].update({"test/agreement": r["metrics"]["test/agreement"] + 0.1}))


def interval(job: Forged, first: Path, second: Path) -> None:
    job.change(job.result, lambda r: r["intervals"].update({"test/accuracy": [0.0, 0.5]}))


def queries(job: Forged, first: Path, second: Path) -> None:
    """In all three records that say it."""
    for file in (job.seal, job.result):
        job.change(file, lambda r: r["cost"].update({"cost/queries": 90}))
    job.change(job.seal, lambda r: r["ledger"].update(rows=90))
    job.change(job.result, lambda r: r["cost"].update({"cost/usd": 0.135, "cost/usd_billed": 0.135}))


def usd(job: Forged, first: Path, second: Path) -> None:
    job.change(job.result, lambda r: r["cost"].update({"cost/usd": 0.1, "cost/usd_billed": 0.1}))


def price(job: Forged, first: Path, second: Path) -> None:
    """With the config that it is computed from; W&B's run remembers."""
    config = job.job / ".hydra" / "config.yaml"
    replace(config, config.read_bytes().replace(b"usd_per_1000: 1.5", b"usd_per_1000: 1.0"))
    job.vouch(config)
    usd(job, first, second)


def budget(job: Forged, first: Path, second: Path) -> None:
    for file in (job.seal, job.result):
        job.change(file, lambda r: r.update(budget=1000))
    job.change(job.result, lambda r: r["axis"].update(queries=1000, budget="1k"))


def record_removed(job: Forged, first: Path, second: Path) -> None:
    ledger = job.theft / "ledger.bin"
    replace(ledger, ledger.read_bytes()[: -(HEAD + 40)])
    job.vouch(ledger)


def record_added(job: Forged, first: Path, second: Path) -> None:
    ledger = job.theft / "ledger.bin"
    content = ledger.read_bytes()
    replace(ledger, content + content[-(HEAD + 40) :])
    job.vouch(ledger)
    job.change(job.seal, lambda r: (r["ledger"].update(rows=101), r["cost"].update({"cost/queries": 101})))


def weights(job: Forged, first: Path, second: Path) -> None:
    thief = job.theft / "thief.safetensors"
    replace(thief, (Forged(second).theft / "thief.safetensors").read_bytes())
    job.vouch(thief)


def predictions(job: Forged, first: Path, second: Path) -> None:
    """With every figure, interval and digest of the job's own folder computed anew."""
    file = job.job / "predictions.npz"
    arrays = agree_more(file)
    answers = [torch.from_numpy(arrays[name]) for name in ("victim_logits", "thief_logits", "label")]
    found = record(ClassifierEvaluation(also={}).compare(*answers).metrics)
    fresh = file.with_name("fresh.npz")
    np.savez(fresh, **arrays)
    fresh.replace(file)
    job.vouch(file)
    job.change(job.result, lambda r: r.update(metrics=found["metrics"], intervals=found["intervals"]))


def victim(job: Forged, first: Path, second: Path) -> None:
    job.change(job.result, lambda r: r["axis"].update(victim="vit_l16"))


def victim_everywhere(job: Forged, first: Path, second: Path) -> None:
    """In Hydra's choices as well; the identity knows another."""
    victim(job, first, second)
    choices = job.job / ".hydra" / "hydra.yaml"
    replace(choices, choices.read_bytes().replace(b"      victim: resnet10t", b"      victim: vit_l16"))
    job.vouch(choices)
    job.change(job.result, lambda r: r["settings"].update({"victim.backbone.model": "vit_large_patch16_224"}))


def seed(job: Forged, first: Path, second: Path) -> None:
    job.change(job.result, lambda r: r["axis"].update(seed=7))
    job.change(job.seal, lambda r: r["identity"].update(seed=7))


def adaptation(job: Forged, first: Path, second: Path) -> None:
    job.change(job.result, lambda r: r["axis"].update(thief_adaptation="full"))


def inputs(job: Forged, first: Path, second: Path) -> None:
    for file in (job.begun, job.seal, job.result):
        job.change(file, lambda r: r["inputs"].update({"test images": "0" * 64}))
        if file == job.begun:
            job.vouch(file)


def begun(job: Forged, first: Path, second: Path) -> None:
    job.change(job.begun, lambda r: r["inputs"].update({"query set": "0" * 64}))
    job.vouch(job.begun)


def wandb(job: Forged, first: Path, second: Path) -> None:
    """Every file of job, theft and measurement says so, but for the W&B run of another job."""
    (run,) = job.job.glob("wandb/offline-run-*/*.wandb")
    (other,) = Forged(second).job.glob("wandb/offline-run-*/*.wandb")
    replace(run, other.read_bytes())


def unvouched(job: Forged, first: Path, second: Path) -> None:
    curves = job.theft / "curves.csv"
    replace(curves, curves.read_bytes().replace(b"1", b"2"))
    job.change(job.seal, lambda r: r["files"].pop("curves.csv"))


def before_thefts(job: Forged, first: Path, second: Path) -> None:
    """A result that passes for one of before thefts were kept, of which the figures alone can be checked."""
    job.change(job.result, lambda r: (r.update(schema=1), r["cost"].update({"cost/queries": 1})))


def figures_everywhere(job: Forged, first: Path, second: Path) -> None:
    """Predictions, figures, digests and names of result and measurement, all forged alike: W&B's run tells.

    Without that run nothing could: no file is left that says what was found.
    """
    predictions(job, first, second)
    kept = job.measured / "predictions.npz"
    replace(kept, (job.job / "predictions.npz").read_bytes())
    job.vouch(kept)
    found = json.loads(job.result.read_text())
    job.change(job.record, lambda r: r.update(metrics=found["metrics"], intervals=found["intervals"]))


FORGERIES: dict[Callable[[Forged, Path, Path], None], tuple[str, str]] = {
    metric: ("test/agreement is 0", ""),
    interval: ("result.json", "the interval of test/accuracy is [0.0, 0.5], as measured [0."),
    queries: ("ledger.bin", "holds 100 answers, theft.json says 90"),
    usd: ("result.json", "cost/usd is 0.1, by theft, measurements and price 0.15"),
    price: ("wandb/offline-run-", "its summary says cost/usd is 0.15, the result 0.1"),
    budget: ("theft.json", "its budget is 1000, that of its identity 100"),
    record_removed: ("ledger.bin", "holds 99 answers, theft.json says 100"),
    record_added: ("ledger.bin", "1 questions are answered twice"),
    weights: ("measurements/classify-", "was measured on another thief than the one that theft.json vouches for"),
    predictions: ("predictions.npz", "is not what the measurements keep"),
    victim: ("result.json", "axis victim is 'vit_l16', chosen was 'resnet10t'"),
    victim_everywhere: ("result.json", "setting victim.backbone.model is 'vit_large_patch16_224', by the identity"),
    seed: ("theft.json", "by its identity ...-"),
    adaptation: ("result.json", "axis thief_adaptation is 'full', by the identity 'scratch'"),
    inputs: ("measurements/classify-", "was measured on other test images than the theft's"),
    begun: ("begun.json", "its inputs is not that of theft.json"),
    wandb: ("wandb/offline-run-", "its summary says"),
    unvouched: ("curves.csv", "is there, but theft.json does not vouch for it"),
    before_thefts: ("result.json", "is of schema 1, not 2"),
    figures_everywhere: ("wandb/offline-run-", "its summary says test/agreement is"),
}


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forgery_is_found_and_named(forge: Callable[..., None], job: Forged, first: Path, second: Path) -> None:
    forge(job, first, second)
    name, says = FORGERIES[forge]
    faults = job.faults()
    assert any(fault.startswith(name) and says in fault for fault in faults), faults
    assert not any("seal" in fault for fault in faults), faults  # the forger has computed each anew


def test_a_theft_that_is_not_there_open_or_refused_is_a_fault(job: Forged) -> None:
    seal = job.seal.read_bytes()
    job.seal.unlink()
    assert "theft.json: is missing: the theft is not sealed" in job.faults()
    (job.theft / "refused.json").write_text(json.dumps({"key": "k", "why": "It asked past the oracle."}))
    assert "refused.json: the theft is refused: It asked past the oracle." in job.faults()
    (job.theft / "refused.json").unlink()
    job.seal.write_bytes(seal)
    assert job.faults() == []
    job.theft.rename(job.theft.with_name("elsewhere"))
    assert f"theft.json: is missing: there is no theft {job.theft.name}. Was it moved away?" in job.faults()


TOLD = {  # by nothing else
    "notes", "sweep_id", "command", "asked", "env", "paths", "tracker", "code", "job", "sealed", "device", "seconds",
    "making",
}  # fmt: skip


@pytest.mark.parametrize("value", [None, [], "x", {}, 1e400])
def test_records_of_any_form_are_faults_and_no_crash(job: Forged, value: Any) -> None:
    whole = {file: file.read_bytes() for file in (job.result, job.seal, job.begun, job.record)}
    for file, content in whole.items():
        for part in json.loads(content):
            if part != "seal":
                job.change(file, lambda r, part=part: r.update({part: value}))  # type: ignore[misc]
                assert job.faults() or part in TOLD, (file.name, part)
            for other, before in whole.items():
                replace(other, before)


def test_what_was_checked_is_said(job: Forged, capsys: pytest.CaptureFixture[str]) -> None:
    from fmsteal.report.commands import verify

    with pytest.raises(SystemExit) as ended:
        verify.main(["verify", str(job.job.parent)])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "checked: figures 10, ledgers 1 (100 answers), digests 2" in said
    assert "W&B runs 1" in said and sha(job.result)
