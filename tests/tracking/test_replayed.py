"""A job that finds its theft finished shows the theft's curves in its own run, whichever tracker it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmsteal.tracking.base import read_points
from tests.support.commands import environment
from tests.support.composing import SMALL
from tests.support.outputs import only_theft
from tests.support.warm import Command

pytest.importorskip("tensorboard")
pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job without a service, then the same theft in a sweep for each of two services."""
    root = tmp_path_factory.mktemp("replayed")
    job = [word for word in SMALL if not word.startswith("tracker=")] + ["thief.recipe.epochs=2", "query.count=100"]
    env = {name: value for name, value in environment().items() if name != "MLFLOW_TRACKING_URI"}
    for words in (["tracker=none"], *(["-m", f"tracker={each}", f"sweep_id={each}"] for each in SERVICES)):
        done = Command((*words, *job), root, env).done()
        assert done.returncode == 0, done.stdout + done.stderr
    return root


SERVICES = ("tensorboard", "mlflow")


def curve(root: Path) -> dict[int, float]:
    """The thief's loss as the theft has it, by epoch."""
    found = {int(x): value for _, x, name, value in read_points(only_theft(root).curves) if name == "thief/loss"}
    assert len(found) >= 2
    return found


@pytest.mark.slow
def test_tensorboard_has_the_curves_of_a_theft_that_was_finished_before(root: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = root.glob("outputs/sweeps/tensorboard/*/tensorboard")
    events = EventAccumulator(str(folder)).Reload()
    points = events.Scalars("thief/loss")
    assert len(points) == len(curve(root)) and {each.step: each.value for each in points} == pytest.approx(curve(root))
    assert {"thief/lr", "test/agreement", "test/agreement_at_5", "attack/usd"} <= set(events.Tags()["scalars"])
    assert "test/confusion/text_summary" in events.Tags()["tensors"]


@pytest.mark.slow
def test_mlflow_has_the_curves_of_a_theft_that_was_finished_before(root: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'outputs' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("fmsteal").experiment_id], "tags.group = 'mlflow'")
    history = client.get_metric_history(run.info.run_id, "thief/loss")
    assert len(history) == len(curve(root)) and {m.step: m.value for m in history} == pytest.approx(curve(root))
    assert {"thief/lr", "test/agreement", "test/agreement_at_5", "attack/usd"} <= run.data.metrics.keys()
    assert run.data.params["axis_budget"] == "100" and run.info.status == "FINISHED"
    assert "test/confusion.csv" in {each.path for each in client.list_artifacts(run.info.run_id, "test")}
