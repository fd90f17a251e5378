"""Kill it anywhere, start it twice, damage its files: real processes, real signals."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support.commands import finish, start
from tests.support.composing import SMALL
from tests.support.outputs import only_run, only_theft
from tests.support.wandb_file import offline_runs
from tests.support.warm import Command

# Enough epochs and questions that each stage lasts long enough to be hit.
JOB = (
    *SMALL, "data.train_count=400", "budget.queries=1200", "query.count=1200", "victim.recipe.epochs=5",
    "thief.recipe.epochs=3", "trainer.checkpoint_seconds=0",
)  # fmt: skip


def begin(root: Path, *more: str) -> Command:
    return start(*JOB, *more, cwd=root)


def predictions(root: Path) -> dict[str, np.ndarray]:
    return dict(np.load(only_run(root) / "predictions.npz"))


def in_victim_training(root: Path) -> bool:
    return bool(list(root.glob("outputs/cache/scratch/victims/*/last.ckpt")))


def in_querying(root: Path) -> bool:
    return any(p.stat().st_size > 0 for p in root.glob("outputs/thefts/*/ledger.bin"))


def in_thief_training(root: Path) -> bool:
    return bool(list(root.glob("outputs/thefts/*/work/thief/last.ckpt")))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    finish(begin(root))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("moment", [in_victim_training, in_querying, in_thief_training], ids=lambda f: f.__name__)
def test_killed_and_started_again_it_ends_as_if_nothing_had_happened(
    moment: Callable[[Path], bool], undisturbed: Path, tmp_path: Path
) -> None:
    more = ("tracker=wandb",) if moment is in_thief_training else ()
    process = begin(tmp_path, *more)
    while not moment(tmp_path):
        assert process.poll() is None, process.said()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(tmp_path.rglob("result.json")), "the kill came too late to test anything"
    paid = b"".join(p.read_bytes() for p in tmp_path.glob("outputs/thefts/*/ledger.bin"))

    said = finish(begin(tmp_path, *more))
    assert ("going on from the checkpoint" in said) == (moment is not in_querying)
    folder = only_run(tmp_path)
    ledger = only_theft(tmp_path).ledger.read_bytes()
    whole = paid[: len(paid) - (len(paid) - paid.find(b"\n") - 1) % (4 + 4 + 16 + 4 + 40)] if paid else b""
    assert ledger.startswith(whole)
    assert ledger == only_theft(undisturbed).ledger.read_bytes()
    result = json.loads((folder / "result.json").read_text())
    assert result["cost"]["cost/queries"] == 1200
    assert result["metrics"] == json.loads((only_run(undisturbed) / "result.json").read_text())["metrics"]
    for name, value in predictions(undisturbed).items():
        np.testing.assert_array_equal(predictions(tmp_path)[name], value, err_msg=name)
    if more:
        killed, whole = offline_runs(folder)
        assert killed.exit_code is None and whole.exit_code == 0
        assert killed.run is None or killed.run.run_id == whole.run.run_id
        for stage, epochs in (("victim", 5), ("thief", 3)):  # what the killed run had logged is there too
            assert {x for x, _ in whole.curve(f"{stage}/epoch", f"{stage}/loss")} == set(range(1, epochs + 1))
        points = [line.rpartition(",")[0] for line in (folder / "metrics.csv").read_text().splitlines()]
        assert len(points) == len(set(points))
    left = [*(tmp_path / "outputs").rglob(".tmp-*"), *(tmp_path / "outputs").glob("cache/temporary/*")]
    assert sum(folder.is_dir() for folder in left) <= 1  # a killed process leaves at most the folder it was writing


@pytest.mark.slow
def test_two_at_once_on_one_cache_train_the_victim_once(tmp_path: Path) -> None:
    first = begin(tmp_path, "budget.queries=100")
    second = begin(tmp_path, "budget.queries=500")
    said = [finish(first), finish(second)]
    trained = [text for text in said if "train victim" in text]
    assert len(trained) == 1  # the other waited, or came a little later and found it
    assert len(list((tmp_path / "outputs" / "cache" / "victims").iterdir())) == 1
    assert len(list((tmp_path / "outputs").glob("runs/*/result.json"))) == 2


@pytest.mark.slow
def test_the_same_job_started_twice_at_once_is_done_once(tmp_path: Path) -> None:
    jobs = [begin(tmp_path, "budget.queries=100"), begin(tmp_path, "budget.queries=100")]
    said = [finish(job) for job in jobs]
    assert sum("is finished already" in text for text in said) == 1
    assert json.loads((only_run(tmp_path) / "result.json").read_text())["cost"]["cost/queries"] == 100


@pytest.mark.slow
def test_a_damaged_victim_is_noticed_and_made_again(undisturbed: Path, tmp_path: Path) -> None:
    finish(begin(tmp_path, "budget.queries=100"))
    before = predictions(tmp_path)
    (weights,) = (tmp_path / "outputs" / "cache" / "victims").glob("*/weights.safetensors")
    data = bytearray(weights.read_bytes())
    data[-100] ^= 255
    weights.write_bytes(bytes(data))
    shutil.rmtree(tmp_path / "outputs" / "cache" / "answers")
    said = finish(begin(tmp_path, "budget.queries=100", "force=true"))
    assert "is damaged" in said and "train victim" in said
    assert len(list((tmp_path / "outputs" / "cache" / "damaged").iterdir())) == 1
    for name, value in before.items():
        np.testing.assert_array_equal(predictions(tmp_path)[name], value, err_msg=name)
