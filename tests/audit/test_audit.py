"""An audit from end to end: in one process, killed in the middle, and against a service over loopback."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fmsteal.base.store import read_json
from fmsteal.records.folders import SweepFolder
from tests.support.commands import environment, finish, start
from tests.support.composing import SMALL
from tests.support.html import Html
from tests.support.serving import KEY, serve
from tests.support.warm import Command

YES = "i_am_authorised=true"
WORDS = ("audit", YES, *SMALL, "data.train_count=600", "--name", "mine", "--ladder", "20,60")
THIEF = (
    "tracker=none", "trainer=cpu", "thief=resnet10t", "thief.backbone.model=test_resnet", "thief.recipe.epochs=1",
    "thief.recipe.min_steps=0", "query.count=300",
)  # fmt: skip
SHELF = ("--attacks", "own_data,knockoff", "--defenses", "prada", "--queries", "160")  # what it asks in all


def read_audit(root: Path) -> dict[str, Any]:
    found = read_json(SweepFolder(root / "outputs" / "sweeps" / "mine").audit.document)
    assert isinstance(found, dict)
    return found


def count_answers(root: Path) -> list[int]:
    """How many answers each theft's ledger holds, by the figures of what was sealed."""
    return sorted(int(read_json(seal)["cost"]["cost/queries"]) for seal in root.glob("outputs/thefts/*/theft.json"))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished audit, and what it said."""
    root = tmp_path_factory.mktemp("audit")
    return root, finish(start(*WORDS, *SHELF, cwd=root))


def test_an_audit_leaves_a_page_and_figures(done: tuple[Path, str]) -> None:
    root, said = done
    document = read_audit(root)
    assert count_answers(root) == [0, 20, 20, 60, 60] and document["spent"]["cost/queries"] == 160
    assert document["finished"] == document["planned"]["thefts"] == 5 and document["planned"]["queries"] == 160
    figures = {(t["attack"], t["defense"]): [point["agreement"] for point in t["points"]] for t in document["thieves"]}
    assert figures["knockoff", "none"] == figures["knockoff", "prada"], "a detector changes no answer"
    (guard,) = document["defenses"]
    assert set(guard["flagged"]) == {"prada"} and {"accuracy", "flags/prada"} <= set(guard["honest"])
    page = Html(SweepFolder(root / "outputs" / "sweeps" / "mine").audit.page.read_text())
    for words in ("Verdict: ", "own_data", "behind prada", document["verdict"]["headline"], "asks nothing"):
        assert words in page.words
    assert document["verdict"]["headline"].split(":")[0] in said and "at most 160 queries, 0.24 USD" in said
    assert all((root / "outputs" / "sweeps" / "mine" / "audit" / link).exists() for link in page.links)


def test_the_same_command_again_asks_nothing(done: tuple[Path, str]) -> None:
    root, _ = done
    before = {file: file.stat().st_mtime_ns for file in root.glob("outputs/thefts/*/*") if file.is_file()}
    said = finish(start(*WORDS, *SHELF, cwd=root))
    assert "5 finished already" in said and "Launching" not in said
    assert before == {file: file.stat().st_mtime_ns for file in root.glob("outputs/thefts/*/*") if file.is_file()}


@pytest.mark.slow
def test_a_killed_audit_goes_on_where_it_was(done: tuple[Path, str], tmp_path: Path) -> None:
    words = (*WORDS, *SHELF, f"cache={done[0] / 'outputs' / 'cache'}")
    running = start(*words, cwd=tmp_path)
    while len(list(tmp_path.glob("outputs/thefts/*/theft.json"))) < 2:
        assert running.poll() is None, running.said()
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    said = finish(start(*words, cwd=tmp_path))
    assert "0 finished already" not in said
    assert count_answers(tmp_path) == [0, 20, 20, 60, 60]
    undisturbed, document = read_audit(done[0]), read_audit(tmp_path)
    assert document["thieves"] == undisturbed["thieves"] and document["verdict"] == undisturbed["verdict"]


def test_it_refuses_a_target_that_nobody_answers_for(tmp_path: Path) -> None:
    said = finish(
        start("audit", "victim=http", "victim.name=x", "victim.url=http://127.0.0.1:9", cwd=tmp_path), ok=False
    )
    assert "i_am_authorised=true. Nothing was asked." in said and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_service_is_audited_within_its_limits(done: tuple[Path, str], tmp_path: Path) -> None:
    limit = 2 * (20 + 60) + 600 + 8
    words = (
        "audit", YES, *THIEF, "data.train_count=600", "--name", "mine", "--ladder", "20,60", "--attacks", "knockoff",
        "--defenses", "prada", "--usd", f"{limit * 4 / 1000}", "victim=http", "victim.name=theirs", "overlap=allow",
        "victim.headers={Authorization: 'Bearer env:THEIR_KEY'}", "victim.usd_per_1000=4",
    )  # fmt: skip
    cache = f"cache={done[0] / 'outputs' / 'cache'}"
    with serve(tmp_path / "service", cache, "data.train_count=600", "--budget", str(limit)) as service:
        env = {**environment(), "THEIR_KEY": KEY}
        url = f"victim.url=http://127.0.0.1:{service.port}"
        finish(Command((*words, url), tmp_path, env, joined=True))
        asked, _ = service.usage()
    document = read_audit(tmp_path)
    assert document["planned"]["queries"] == limit and document["finished"] == 4
    spent = document["spent"]
    billed = sum(spent[f"cost/{name}"] for name in ("queries_billed", "evaluation_queries", "preparation_queries"))
    assert billed == 60 + 600, "thefts share their images, and each is paid for once"
    assert asked == billed + 8 <= limit, "and those that tell who it is"
    assert spent["cost/queries"] == 160 and spent["cost/usd"] == pytest.approx(0.64)
    kept = [file for file in (tmp_path / "outputs").rglob("*") if file.is_file()]
    assert len(kept) > 20 and not [file for file in kept if KEY.encode() in file.read_bytes()]
