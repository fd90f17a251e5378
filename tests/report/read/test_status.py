from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fmsteal.base.lease import lease
from fmsteal.base.store import write_json
from fmsteal.oracle.ledger import Ledger, Question, count_paid
from fmsteal.records import results
from fmsteal.records.folders import JobFolder, TheftFolder, find_theft
from fmsteal.report.commands import main
from fmsteal.report.read.progress import JobProgress, estimate_time_left, format_duration, read_progress
from fmsteal.report.read.status import Status, continue_command
from tests.support.commands import environment
from tests.support.job_folders import aged, begun, finish, plan, said


def ask(folder: Path, number: int) -> None:
    questions = [Question(0, bytes([i]) * 16, 0) for i in range(number)]
    Ledger(folder / "ledger.bin", "job").append(questions, np.zeros((number, 2), np.float32))


def states(sweep: Path) -> dict[str, str]:
    return {job.key: job.state for job in Status.of(sweep).jobs}


def test_every_state_is_told_apart(tmp_path: Path) -> None:
    plan(tmp_path, "never", "done", "failed", "running", "killed", "fresh", "torn", "newer")
    finish(begun(tmp_path, "done"))
    write_json(begun(tmp_path, "failed") / "failure.json", {"job_key": "failed", "error": "ValueError: no"})
    killed, running = aged(begun(tmp_path, "killed")), aged(begun(tmp_path, "running"))
    begun(tmp_path, "fresh")  # Hydra has made its folder, the job has not come to take its lease
    (begun(tmp_path, "torn") / "result.json").write_text('{"schema": 1, "job_k')
    finish(begun(tmp_path, "newer"), schema=results.SCHEMA + 1)
    finish(begun(tmp_path, "unplanned"))
    child = "from pathlib import Path; import sys, time; from fmsteal.base.lease import lease\n"
    child += "with lease(Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", child, str(killed / ".running")], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with lease(running / ".running", "running"):
        assert states(tmp_path)["killed"] == "running"
        holder.kill()
        holder.communicate()
        assert states(tmp_path) == {
            "never": "missing", "done": "done", "failed": "failed", "running": "running", "killed": "killed",
            "fresh": "running", "torn": "unreadable", "newer": "unreadable", "unplanned": "done",
        }  # fmt: skip


def test_on_another_host_the_heartbeat_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = aged(begun(tmp_path, "job"))
    with lease(folder / ".running", "job"):
        monkeypatch.setattr("socket.gethostname", lambda: "another-host")
        assert states(tmp_path) == {"job": "running"}
        marker = folder / ".running.lease"
        os.utime(marker, (time.time() - results.LEASE_SECONDS - 1,) * 2)
        assert states(tmp_path) == {"job": "killed"}


def test_the_file_written_last_tells_how_far_a_job_is(tmp_path: Path) -> None:
    folder = begun(tmp_path, "job")
    assert read_progress(folder).text == "starting"
    curves = "x_name,x,metric,value\nvictim/epoch,1.0,victim/loss,0.5\nvictim/epoch,2.0,victim/loss,0.4\n"
    (folder / "metrics.csv").write_text(curves)
    assert read_progress(folder).text == "victim epoch 2"  # whose recipe does not say how many there are
    ask(folder, 120)
    os.utime(folder / "metrics.csv", (time.time() - 60,) * 2)
    assert read_progress(folder).text == "queries 120 of 300"
    write_json_in(folder / "work" / "cost.json", {"cost/seconds": 7.5})
    with (folder / "metrics.csv").open("a") as stream:
        stream.write("thief/epoch,9.0,thief/loss,0.1\nthief/epoch,10.0,thi")  # torn: the writer is in the middle of it
    at = read_progress(folder)
    assert at.text == "thief epoch 9 of 20" and at.seconds == 7.5
    write_json_in(folder / "work" / "thief" / "epochs.json", 114)  # more than its recipe's, for the least of steps
    assert read_progress(folder).text == "thief epoch 9 of 114"


def test_a_job_is_followed_into_the_folder_of_its_theft(tmp_path: Path) -> None:
    folder, theft = begun(tmp_path, "job"), TheftFolder(tmp_path / "thefts" / "mine-0123456789abcdef")
    (folder / "metrics.csv").write_text("x_name,x,metric,value\nvictim/epoch,2.0,victim/loss,0.4\n")
    assert find_theft(JobFolder(folder)) is None and read_progress(folder).text == "victim epoch 2"
    JobFolder(folder).theft.write_text("../thefts/mine-0123456789abcdef\n")
    theft.work.mkdir(parents=True)
    os.utime(folder / "metrics.csv", (time.time() - 60,) * 2)
    ask(theft.path, 120)
    write_json_in(theft.cost, {"cost/seconds": 7.5})
    assert read_progress(folder) == JobProgress("queries", 120, 300, 7.5)
    theft.curves.write_text("x_name,x,metric,value\nthief/epoch,9.0,thief/loss,0.1\n")
    assert read_progress(folder).text == "thief epoch 9 of 20"
    write_json_in(theft.work / "thief" / "epochs.json", 114)
    assert read_progress(folder).text == "thief epoch 9 of 114"
    write_json(theft.seal, {})
    assert read_progress(folder).text == "measuring"


def test_where_a_theft_is_says_the_result_or_the_job_under_way(tmp_path: Path) -> None:
    job = JobFolder(begun(tmp_path, "job"))
    job.theft.write_text(str(tmp_path / "absolute"))
    assert find_theft(job) == TheftFolder(tmp_path / "absolute")
    finish(job.path, theft="../../thefts/x")
    assert find_theft(job) == TheftFolder(job.path / "../../thefts/x"), "the result has the last word"
    finish(job.path)
    job.theft.write_text("")
    assert find_theft(job) is None
    job.theft.unlink()
    assert find_theft(job) is None, "one of schema 1"


def write_json_in(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, value)


def test_counting_the_answers_of_a_ledger_does_not_touch_it(tmp_path: Path) -> None:
    ask(tmp_path, 5)
    file = tmp_path / "ledger.bin"
    file.write_bytes(file.read_bytes()[:-3])  # as while another process is writing
    before = file.read_bytes()
    assert count_paid(file) == 4 and file.read_bytes() == before
    assert count_paid(tmp_path / "absent") == 0
    file.write_bytes(before[:10])
    assert count_paid(file) == 0


def test_time_left_is_what_jobs_like_the_rest_took(tmp_path: Path) -> None:
    plan(tmp_path, "slow", "quick")
    for name, seconds, words in (("slow", 100.0, ("budget=10k", "seed=0")), ("quick", 4.0, ("budget=100", "seed=0"))):
        finish(begun(tmp_path, name, *words), seconds)
    jobs = results.list_begun(tmp_path)

    def waiting(*words: str) -> results.JobOnDisk:
        return results.JobOnDisk("waiting", tmp_path / "waiting", results.MISSING, overrides=words)

    assert estimate_time_left([*jobs, waiting("budget=10k", "seed=1")]) == 100
    assert estimate_time_left([*jobs, waiting("budget=100", "seed=1"), waiting("budget=100", "seed=2")]) == 8
    assert estimate_time_left([*jobs, waiting("budget=1k", "seed=1")]) == 52
    running = begun(tmp_path, "running", "budget=10k", "seed=2")
    write_json_in(running / "work" / "cost.json", {"cost/seconds": 30.0})
    at_work = [results.JobOnDisk(f"r{n}", running, results.RUNNING, overrides=("budget=10k",)) for n in range(2)]
    assert estimate_time_left([*jobs, *at_work]) == 70  # side by side
    assert estimate_time_left([*jobs, *at_work, waiting("budget=10k")]) == pytest.approx((70 + 70 + 100) / 2)
    assert estimate_time_left([waiting("budget=10k")]) is None
    begins = (tmp_path / "quick" / ".hydra" / "overrides.yaml").stat().st_mtime
    os.utime(tmp_path / "quick" / "result.json", (begins + 12, begins + 12))  # eight seconds before its clock began
    assert estimate_time_left([*jobs, waiting("budget=100", "seed=1")]) == pytest.approx(12, abs=0.01)


def test_durations() -> None:
    told = [format_duration(s) for s in (0, 89, 90, 3599, 12000, 187200)]
    assert told == ["0 s", "89 s", "2 min", "1 h 0 min", "3 h 20 min", "2 d 4 h"]


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(tmp_path, "a", "bad", "w1", "w2", command="fmsteal -m seed=0,1 '+notes.why=a b' sweep_id=mine")
    finish(begun(tmp_path, "a"))
    bad = begun(tmp_path, "bad")
    write_json(bad / "failure.json", {"job_key": "bad", "error": "RuntimeError: at first\n\n  and at last\n"})
    (bad / "fmsteal.log").touch()
    ask(bad, 7)
    text = said(tmp_path, capsys)
    for words in (
        "4 jobs: 1 done, 1 failed, 2 missing", "nothing is under way, about 20 s of work left",
        "bad: thief, queries 7 of 300",
        "    and at last\n", f"log {bad / 'fmsteal.log'}\n", "not begun: 2 thieves; the first is w1",
        "done by: fmsteal -m seed=0,1 '+notes.why=a b' sweep_id=mine",
    ):  # fmt: skip
        assert words in text
    assert "at first" not in text and "no sweep.json" not in text


def test_without_a_plan_it_says_that_missing_jobs_are_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(begun(tmp_path, "a"))
    text = said(tmp_path, capsys)
    assert "1 jobs: 1 done" in text and "no sweep.json" in text and "what is left" not in text
    assert continue_command(tmp_path) == "the sweep's own command, given again"
    (tmp_path / "sweep.json").write_text('{"schema": 1, "jo')
    assert "no sweep.json" in said(tmp_path, capsys)


def refused(*words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return str(stopped.value.code)


@pytest.mark.parametrize("command", ["status", "results"])
def test_folders_that_are_no_sweep_are_refused(command: str, tmp_path: Path) -> None:
    assert "There is no folder" in refused(command, str(tmp_path / "absent"))
    assert "no sweep" in refused(command, str(tmp_path))
    finish(begun(tmp_path / "sweeps" / "mine", "a"))
    assert f"Sweeps below it: {tmp_path / 'sweeps' / 'mine'}" in refused(command, str(tmp_path / "sweeps"))
    assert "its sweep is" in refused(command, str(tmp_path / "sweeps" / "mine" / "a"))
    write_json(tmp_path / "sweeps" / "mine" / "sweep.json", {"schema": results.SCHEMA + 1, "jobs": {}})
    assert "newer fmsteal" in refused(command, str(tmp_path / "sweeps" / "mine"))


def test_neither_command_imports_torch_or_writes(tmp_path: Path) -> None:
    finish(begun(tmp_path / "mine", "a"))
    before = sorted(tmp_path.rglob("*"))
    code = (
        "import sys\nfrom fmsteal.cli import main\nmain()\n"
        "print('HEAVY', sorted({'torch', 'lightning', 'wandb', 'timm', 'scipy'} & set(sys.modules)))"
    )
    for words in (["status", "--watch"], ["results"], ["results", "--csv", "-"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words, str(tmp_path / "mine")],
            env=environment(), capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "HEAVY []" in done.stdout and ("done" in done.stdout)
    assert sorted(tmp_path.rglob("*")) == before
    assert json.loads((tmp_path / "mine" / "a" / "result.json").read_text())["job_key"] == "a"


def test_a_victim_that_failed_is_a_job_too(tmp_path: Path) -> None:
    plan(tmp_path, "a")
    write_json(begun(tmp_path / "victims", "v") / "failure.json", {"job_key": "v", "error": "x", "stage": "victim"})
    assert [(job.key, job.stage, job.state) for job in Status.of(tmp_path).jobs] == [
        ("v", "victim", "failed"), ("a", "thief", "missing"),
    ]  # fmt: skip
