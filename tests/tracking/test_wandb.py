from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from fmsteal.base.errors import ConfigError
from fmsteal.tracking.base import CsvTracker
from fmsteal.tracking.offline import plan
from fmsteal.tracking.signals import MARKS
from fmsteal.tracking.wandb import WandbTracking
from tests.support.commands import environment
from tests.support.wandb_file import OfflineRun, offline_runs
from tests.tracking.infos import info


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login from outside."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def test_runs_of_one_process_are_runs_of_their_own(tmp_path: Path) -> None:
    tracking = WandbTracking()
    for key in ("a", "b"):
        with tracking.open(info(tmp_path / key, key)) as tracker:
            for epoch in range(3):
                tracker.log({"thief/loss": 1.0 / (epoch + 1)}, x=("thief/epoch", epoch + 1))
            tracker.summary({"test/agreement": 0.5})
            assert str(tmp_path / key) in tracker.place and "wandb sync" in tracker.place
    with pytest.raises(ZeroDivisionError), tracking.open(info(tmp_path / "c", "c")):
        raise ZeroDivisionError
    assert wandb.run is None
    runs = {r.run.display_name: r for r in offline_runs(tmp_path)}
    assert {name: run.exit_code for name, run in runs.items()} == {"a": 0, "b": 0, "c": 1}
    assert len({r.run.run_id for r in runs.values()}) == 3
    assert runs["a"].config["axis_victim"] == "v" and runs["a"].config["git"] == "abc"
    assert runs["a"].summary["test/agreement"] == 0.5
    assert (tmp_path / "a" / "metrics.csv").read_text().count("thief/loss") == 3


def test_the_same_job_has_the_same_id_and_another_sweep_another(tmp_path: Path) -> None:
    ids = []
    for place, group in (("a", "one"), ("b", "one"), ("c", "two")):
        with WandbTracking().open(info(tmp_path / place, group=group)):
            ids.append(wandb.run.id)  # type: ignore[union-attr]
    assert ids[0] == ids[1] != ids[2]


def test_wandbs_own_variables_count_where_the_config_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"PROJECT": "theirs", "NAME": "mine", "ENTITY": "team", "TAGS": "a,b", "NOTES": "why", "RUN_GROUP": "set"}
    for name, value in said.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # it has read its variables already
    for place, group, how in (("alone", None, {}), ("swept", "sweep", {"project": "ours", "tags": ["c"]})):
        with WandbTracking(mode="offline", **how).open(info(tmp_path / place, group=group)):  # type: ignore[arg-type]
            pass
    wandb.teardown()
    alone, swept = ({r.run.run_group: r.run for r in offline_runs(tmp_path)}[group] for group in ("set", "sweep"))
    assert (alone.project, alone.display_name, alone.entity, alone.notes) == ("theirs", "mine", "team", "why")
    assert (swept.project, swept.display_name, list(swept.tags)) == (
        "ours", "mine · job", ["c", "victim=v", "budget=1k"]
    )  # fmt: skip
    own = ["victim=v", "budget=1k"]
    assert list(alone.tags) == ["a", "b", *own]


@pytest.mark.parametrize(("mode", "wanted"), [("dryrun", "offline"), ("offline", "offline"), ("disabled", None)])
def test_the_modes_of_wandb_mean_what_they_say_there(
    mode: str, wanted: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)  # else it would be offline anyhow
    with WandbTracking().open(info(tmp_path / "a")) as tracker:
        assert tracker.place.startswith(wanted or str(tmp_path))
    wandb.teardown()
    assert len(offline_runs(tmp_path)) == (wanted == "offline")


@pytest.mark.parametrize(
    ("how", "variables", "says"),
    [
        ({"project": "a/b"}, {}, "Invalid project name 'a/b'"),
        ({"project": "p" * 129}, {}, "exceeded 128 characters"),
        ({"tags": ["x" * 65]}, {}, "is 65 characters"),
        ({"tags": ["x", ""]}, {}, "Tag at index 1 is empty"),
        ({}, {"WANDB_PROJECT": "what?"}, "Invalid project name"),
        ({}, {"WANDB_TAGS": "a,,b"}, "Tag at index 1 is empty"),
        ({}, {"WANDB_MODE": "onlin"}, "WANDB_MODE=onlin is not known"),
        ({}, {"WANDB_BASE_URL": "nonsense"}, "base_url Input should be a valid URL"),
    ],
)
def test_what_wandb_would_refuse_is_refused_before_a_job_begins(
    how: dict[str, Any], variables: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=re.escape(says)) as raised:
        WandbTracking(**how)
    assert "WANDB_" in str(raised.value) and "\n" not in str(raised.value)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    WandbTracking(**how)


def test_a_login_without_a_network_leaves_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    earlier = tmp_path / "a" / "wandb" / "run-20200101_000000-0123456789abcdef"  # that had a network
    earlier.mkdir(parents=True)
    with WandbTracking(init_timeout=1.0).open(info(tmp_path / "a")) as tracker:
        tracker.log({"thief/loss": 1.0}, x=("thief/epoch", 1))
        assert tracker.place.startswith("offline")
    wandb.teardown()
    (file,) = tmp_path.rglob("*.wandb")
    assert file.parent.name.startswith("offline-run-") and earlier.is_dir()
    (run,) = offline_runs(tmp_path)
    assert run.curve("thief/epoch", "thief/loss") == [(1, 1.0)]


def test_a_run_left_open_is_refused(tmp_path: Path) -> None:
    with (
        WandbTracking().open(info(tmp_path / "a")),
        pytest.raises(RuntimeError, match="still open"),
        WandbTracking().open(info(tmp_path / "b")),
    ):
        pass


def test_a_picture_reaches_the_run(tmp_path: Path) -> None:
    drawn = tmp_path / "retrieval.png"
    Image.new("RGB", (7, 5), (0, 160, 60)).save(drawn)
    with WandbTracking().open(info(tmp_path / "a")) as tracker:
        tracker.image("fidelity/retrieval", drawn)
    CsvTracker(tmp_path / "a").image("fidelity/retrieval", drawn)
    (run,) = offline_runs(tmp_path)
    (shown,) = [row for row in run.history if "fidelity/retrieval/path" in row]
    assert [shown[f"fidelity/retrieval/{key}"] for key in ("_type", "width", "height")] == ["image-file", 7, 5]
    (kept,) = (tmp_path / "a").rglob(f"files/{shown['fidelity/retrieval/path']}")
    assert kept.read_bytes() == drawn.read_bytes()


def open_fragments(folder: Path, *blocks: type[BaseException] | None) -> list[OfflineRun]:
    """One job, opened as often, each time a point further; a block ends as it is told."""
    for number, error in enumerate(blocks, start=1):
        with suppress(BaseException), WandbTracking().open(info(folder)) as tracker:
            tracker.log({"thief/loss": 1.0 / number}, ("thief/epoch", number))
            if error:
                raise error
        time.sleep(1.1)  # a fragment's folder is named by the second
    return offline_runs(folder)


def test_of_a_runs_fragments_the_last_finished_one_is_uploaded(tmp_path: Path) -> None:
    fragments = open_fragments(tmp_path / "sweep" / "job", None, ZeroDivisionError, None)
    assert [len(f.curve("thief/epoch", "thief/loss")) for f in fragments] == [1, 2, 3]
    files = sorted((tmp_path / "sweep" / "job").glob("wandb/offline-run-*/*.wandb"))
    assert [f.file for f in plan([tmp_path / "sweep"]).upload] == [files[2]]
    assert plan([tmp_path / "sweep", tmp_path / "sweep" / "job"]).older == 2
    whole = files[2].read_bytes()
    files[2].write_bytes(whole[: len(whole) // 2])  # as a kill leaves it
    assert [f.file for f in plan([tmp_path]).upload] == [files[1]]
    for file in files[:2]:
        file.write_bytes(file.read_bytes()[:200])
    assert [f.file for f in plan([tmp_path]).upload] == [files[2]]


def test_a_job_that_slurm_queues_again_is_marked_as_preempting(tmp_path: Path) -> None:
    for name, requeued in (("slurm", True), ("elsewhere", False)):
        with pytest.raises(SystemExit), WandbTracking().open(replace(info(tmp_path / name, name), requeued=requeued)):
            raise SystemExit(-1)  # as submitit's handler does, after it has asked Slurm
    runs = {r.run.display_name: r for r in offline_runs(tmp_path)}
    assert {name: run.preempting for name, run in runs.items()} == {"slurm": True, "elsewhere": False}
    assert {run.exit_code for run in runs.values()} == {1}


def test_a_warning_marks_the_run_and_is_passed_on(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with WandbTracking().open(replace(info(tmp_path / "a"), requeued=True)):
            os.kill(os.getpid(), signal.SIGTERM)
            for thread in threading.enumerate():
                if thread.name == MARKS:
                    thread.join()
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    (run,) = offline_runs(tmp_path)
    assert heard == [signal.SIGTERM] * 2 and run.preempting and run.exit_code == 0


def test_a_run_is_whole_before_submitit_has_the_job_killed(tmp_path: Path) -> None:
    """In a process of its own, whose service is killed as soon as Slurm is asked to queue the job again."""
    code = (
        "import os, signal, sys; from dataclasses import replace; from pathlib import Path\n"
        "from fmsteal.tracking.wandb import WandbTracking; from tests.tracking.infos import info\n"
        "def requeue(number, frame):\n"
        "    for service in ' '.join(p.read_text() for p in Path('/proc/self/task').glob('*/children')).split():\n"
        "        os.kill(int(service), signal.SIGKILL)\n"
        "    sys.exit(-1)\n"
        "signal.signal(signal.SIGUSR2, requeue)\n"
        "with WandbTracking().open(replace(info(Path(sys.argv[1])), requeued=True)) as tracker:\n"
        "    tracker.log({'thief/loss': 1.0}, x=('thief/epoch', 1.0))\n"
        "    os.kill(os.getpid(), signal.SIGUSR2)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], env=environment(), capture_output=True, text=True)
    (run,) = offline_runs(tmp_path)
    assert done.returncode == 255 and "Traceback" not in done.stderr, done.stderr
    assert run.preempting and run.exit_code == 1 and run.curve("thief/epoch", "thief/loss") == [(1.0, 1.0)]


@pytest.mark.parametrize(("jobs", "limit", "logged"), [(1, 10, True), (10, 10, True), (11, 10, False), (1, 0, False)])
def test_large_sweeps_log_no_system_metrics(
    jobs: int, limit: int, logged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(wandb, "init", lambda **options: asked.append(options["settings"].x_disable_stats))
    WandbTracking(system_metrics=limit)._init(replace(info(tmp_path), jobs=jobs), "offline")
    assert asked == [not logged]
