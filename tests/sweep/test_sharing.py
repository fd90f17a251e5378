"""Taking a finished job over from another sweep: the very same job, whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig

from fmsteal import results
from fmsteal.store import read_json, write_json
from fmsteal.sweep.sharing import Shelf, take_over
from tests.conftest import composed

KEY = "digits-x-s0-12345678"


@pytest.fixture
def cfg(tmp_path: Path) -> DictConfig:
    (tmp_path / "birds" / "wren").mkdir(parents=True)
    return composed("data=image_folder", f"data.root={tmp_path / 'birds'}", f"output={tmp_path / 'out'}")


def finished(folder: Path, cfg: DictConfig, key: str = KEY) -> Path:
    """A finished job, as its files show it."""
    job = folder / key
    (job / ".hydra").mkdir(parents=True)
    (job / ".hydra" / "overrides.yaml").write_text("- seed=0\n")
    (job / "thief.safetensors").write_bytes(b"weights")
    (job / "ledger.bin").write_bytes(b"paid")
    write_json(job / results.RESULT, {"job_key": key, "paths": results.paths(cfg), "sweep_id": folder.name})
    return job


def test_only_the_very_same_job_is_found(cfg: DictConfig, tmp_path: Path) -> None:
    out, own = tmp_path / "out", tmp_path / "out" / "sweeps" / "mine"
    assert Shelf(out, own).find(KEY, cfg) is None
    finished(own, cfg)
    assert Shelf(out, own).find(KEY, cfg) is None  # its own results are not another's
    single = finished(out / "runs", cfg)
    assert Shelf(out, own).find(KEY, cfg) == single
    other = finished(out / "sweeps" / "other", cfg)
    assert Shelf(out, own).find(KEY, cfg) == other  # the newest
    assert Shelf(out, own).find("another-key", cfg) is None
    write_json(other / results.FAILURE, {"error": "it was run again, and failed"})
    assert Shelf(out, own).find(KEY, cfg) == single
    (tmp_path / "birds" / "wren" / "new.png").touch()  # the folder's name is the same, its content is not
    assert Shelf(out, own).find(KEY, cfg) is None


def test_results_of_other_jobs_are_not_read(cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    for number in range(20):
        finished(out / "sweeps" / "other", cfg, f"job-{number}")
    read: list[Path] = []
    real = results.read_json
    monkeypatch.setattr(results, "read_json", lambda path: read.append(path) or real(path))
    shelf = Shelf(out, out / "sweeps" / "mine")
    assert shelf.find("job-3", cfg) and shelf.find("absent", cfg) is None
    assert read == [out / "sweeps" / "other" / "job-3" / results.RESULT]


def test_it_says_whose_it_was_and_stands_alone(cfg: DictConfig, tmp_path: Path) -> None:
    source, folder = finished(tmp_path / "out" / "sweeps" / "other", cfg), tmp_path / "mine" / KEY
    assert take_over(source, folder, "mine")
    result = read_json(folder / results.RESULT)
    assert (result["shared_from"], result["sweep_id"]) == (str(source), "mine")
    assert results.finished(folder, KEY, cfg) and [e.state for e in results.begun(folder.parent)] == [results.DONE]
    with (folder / "ledger.bin").open("ab") as ledger:  # a job that goes on appends
        ledger.write(b" more")
    assert (source / "ledger.bin").read_bytes() == b"paid"
    assert not [p.name for p in folder.iterdir() if p.name.endswith((".shared", ".lease"))]
    (source / "thief.safetensors").unlink()
    assert (folder / "thief.safetensors").read_bytes() == b"weights"


def test_a_job_that_is_done_again_meanwhile_is_left_alone(cfg: DictConfig, tmp_path: Path) -> None:
    source, folder = finished(tmp_path / "out" / "sweeps" / "other", cfg), tmp_path / "mine" / KEY
    (source / results.RESULT).unlink()
    assert not take_over(source, folder, "mine") and not (folder / results.RESULT).exists()
