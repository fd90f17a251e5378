"""A database of MLflow's is read back by MLflow's own client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fmsteal.base.errors import ConfigError, FmstealError
from fmsteal.tracking import loggers
from fmsteal.tracking.columns import run_id
from fmsteal.tracking.mlflow import MlflowTracking
from tests.tracking.infos import info

pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder whose database all tests here share: making one takes seconds."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def read(output: Path, key: str) -> tuple[Any, Any]:
    """A client, and the one run of a job."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    place = client.get_experiment_by_name("fmsteal").experiment_id
    (run,) = client.search_runs([place], f"tags.`fmsteal.run` = '{run_id('sweep', key)}'")
    return client, run


def curve(client: Any, run: Any, name: str) -> list[tuple[int, float]]:
    return sorted((each.step, each.value) for each in client.get_metric_history(run.info.run_id, name))


def test_curves_figures_columns_tables_and_pictures_are_there(output: Path, tmp_path: Path) -> None:
    run = replace(info(tmp_path, "whole"), name="v <- t", config={"seed": 0, "notes": "table 2"})
    weights = tmp_path / "thief.safetensors"
    weights.write_bytes(b"weights")
    with MlflowTracking(str(output), artifacts=["thief"]).open(run) as tracker:
        for epoch in (1, 2):
            tracker.log({"thief/loss": 1.0 / epoch}, ("thief/epoch", epoch))
        tracker.link("victim_run", {"id": "0123", "url": None})
        tracker.summary({"test/agreement": 0.5, "test/agreement@5": 0.75})
        tracker.table("test/per_class", ("name", "share"), [("a", 0.5)])
        tracker.images("test/disagreements", [(Image.new("RGB", (4, 3)), "victim: 1")])
        tracker.artifact("thief", weights)
        tracker.artifact("predictions", weights)
        assert str(output / "mlflow.db") in tracker.place and tracker.identity is not None
    client, found = read(output, "whole")
    assert curve(client, found, "thief/loss") == [(1, 1.0), (2, 0.5)]
    assert found.data.metrics["test/agreement"] == 0.5 and found.data.metrics["test/agreement_at_5"] == 0.75
    assert found.data.params["axis_victim"] == "v" and found.data.params["job_key"] == "whole"
    tags = found.data.tags
    assert (tags["victim"], tags["group"], tags["job_type"], tags["victim_run"]) == ("v", "sweep", "thief", "0123")
    assert tags["mlflow.note.content"] == "table 2" and found.info.run_name == "v <- t"
    assert found.info.status == "FINISHED"
    files = {
        each.path
        for folder in ("test", "test/disagreements", "thief", "predictions", None)
        for each in client.list_artifacts(found.info.run_id, folder)
    }
    assert {"test/per_class.csv", "test/disagreements/0.png", "thief/thief.safetensors", "config.yaml"} <= files
    assert not any(name.startswith("predictions") for name in files)
    assert (output / "mlflow-files").is_dir()


def test_a_job_that_goes_on_continues_its_run_and_has_each_point_once(output: Path, tmp_path: Path) -> None:
    tracking = MlflowTracking(str(output))
    with pytest.raises(ZeroDivisionError), tracking.open(info(tmp_path, "on")) as tracker:
        tracker.log({"thief/loss": 1.0}, ("thief/epoch", 1))
        tracker.summary({"test/agreement": 0.5})
        raise ZeroDivisionError
    assert read(output, "on")[1].info.status == "FAILED"
    with tracking.open(info(tmp_path, "on")) as tracker:
        for epoch in (1, 2):  # as a sealed theft's curves are sent again
            tracker.log({"thief/loss": 1.0 / epoch}, ("thief/epoch", epoch))
        for value in (0.7, 0.5):
            tracker.summary({"test/agreement": value})
    client, run = read(output, "on")
    assert curve(client, run, "thief/loss") == [(1, 1.0), (2, 0.5)] and run.info.status == "FINISHED"
    assert run.data.metrics["test/agreement"] == 0.5


def test_a_service_that_fails_midway_costs_no_job(
    output: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with MlflowTracking(str(output)).open(info(tmp_path, "lost")) as tracker:
        client, run = read(output, "lost")
        client.delete_run(run.info.run_id)  # MLflow takes no points for it any more
        for epoch in (1, 2):
            tracker.log({"thief/loss": 1.0}, ("thief/epoch", epoch))
    assert (tmp_path / "metrics.csv").read_text().count("thief/loss") == 2
    (said,) = [record.getMessage() for record in caplog.records if "the tracker has failed" in record.getMessage()]
    assert "from here on the curves are in metrics.csv alone" in said


def test_what_cannot_be_a_place_is_named_before_anything_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^nonsense is no address of MLflow \(tracker.uri"):
        MlflowTracking(str(tmp_path), uri="nonsense")
    with pytest.raises(FmstealError, match=r"http://127.0.0.1:9 does not answer .*tracker=none"):
        MlflowTracking(str(tmp_path), uri="http://127.0.0.1:9").open(info(tmp_path)).__enter__()
    with pytest.raises(FmstealError, match=r"does not take the run: .*Another one: tracker.uri"):
        MlflowTracking(str(tmp_path), uri="nothing://here").open(info(tmp_path)).__enter__()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://theirs.example.org")
    assert MlflowTracking(str(tmp_path)).address == "https://theirs.example.org"
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tracker=mlflow needs mlflow.*pip install 'fmsteal\[mlflow\]'"):
        MlflowTracking(str(tmp_path))
