"""Defenses that remember: what they answer and keep is the same however questions are cut, and after any kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmsteal.base.errors import DefenseError
from fmsteal.data.random_views import Views
from fmsteal.defenses.b4b import B4B
from fmsteal.defenses.base import name_of
from fmsteal.defenses.chain import Chain
from fmsteal.defenses.client_limits import ClientLimits
from fmsteal.defenses.feature_poisoning import FeaturePoisoning
from fmsteal.defenses.mmd import MMD
from fmsteal.defenses.modelguard_s import ModelGuardS
from fmsteal.defenses.prada import Prada
from fmsteal.defenses.proof_of_work import ProofOfWork
from fmsteal.oracle.defense_log import DefenseLog
from tests.support.asking import guard_of, question
from tests.support.guards import WIDTH, api, files, patient

Asks = list[tuple[list[int], int]]  # pool ids, and who asks
EVERY: dict[str, Callable[[], Any]] = {
    "modelguard_s": lambda: ModelGuardS(0.4),
    "modelguard_s per client": lambda: ModelGuardS(0.4, per="client"),
    "prada": Prada,
    "proof_of_work": ProofOfWork,
    "mmd": lambda: MMD(window=4, benign=5),
    "client_limits": lambda: ClientLimits(3, per_second=0.5),
    "b4b": lambda: B4B(alpha=3.0, beta=20, lam=1e-2, projections=3, bits=4),
    "b4b twice as wide": lambda: B4B(beta=20, projections=2, bits=3, transform="diagonal_pad_shuffle"),
    "feature_poisoning": lambda: FeaturePoisoning(Views(), batch=5, epochs=1),
    "chain of b4b": lambda: Chain({"a": ClientLimits(8), "b": B4B(alpha=3.0, beta=20, bits=4)}),
    "chain": lambda: Chain({"a": ClientLimits(8, per_second=2.0), "b": ModelGuardS(0.4), "c": ProofOfWork()}),
}
ASKS = st.lists(st.tuples(st.lists(st.integers(0, 11), min_size=1, max_size=12), st.integers(0, 1)), max_size=4)
MORE: Asks = [([0, 12, 13], 0), ([1, 14], 1)]


def run(folder: Path, make: Callable[[], Any], asks: Asks) -> list[Any]:
    """What each question got, and what it all cost."""
    defense = make()
    oracle = api(folder, guard_of(defense, WIDTH), defense=name_of(defense))
    received: list[Any] = []
    for ids, client in asks:
        answers, answered = patient(lambda i=ids, c=client: oracle.ask(np.array(i, dtype=int), c))  # type: ignore[misc]
        rows = iter(answers.tolist())
        received += [next(rows) if yes else None for yes in answered]
    return [*received, oracle.costs()]


@pytest.mark.parametrize("name", EVERY)
@given(ASKS, st.lists(st.integers(0, 12), max_size=3).map(sorted), st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
def test_questions_may_be_cut_and_runs_killed_anywhere(
    name: str, tmp_path_factory: pytest.TempPathFactory, asks: Asks, cuts: list[int], data: st.DataObject
) -> None:
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    whole = run(one, EVERY[name], asks)
    pieces = [(ids[a:b], client) for ids, client in asks for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    assert run(other, EVERY[name], pieces) == whole and files(one) == files(other)
    kill(one, name, data)
    assert run(one, EVERY[name], asks) == whole and files(one) == files(other)
    assert run(one, EVERY[name], [*asks, *MORE]) == run(other, EVERY[name], [*asks, *MORE]), "the state is another"


def kill(folder: Path, name: str, data: st.DataObject) -> None:
    """Leave a beginning of the log, and of the ledger what is not ahead of it."""
    if not (folder / "ledger.bin").exists():
        return
    ledger, log = folder / "ledger.bin", folder / "defense.log"
    content = ledger.read_bytes()
    header, record = content.index(b"\n") + 1, 28 + 4 * guard_of(EVERY[name](), WIDTH).width
    if data.draw(st.booleans(), "the log is torn"):
        log.write_bytes(log.read_bytes()[: data.draw(st.integers(0, log.stat().st_size))])
        rows, _ = DefenseLog(log, "job", name_of(EVERY[name]()))._read()
        ledger.write_bytes(content[: header + record * sum(not row.refused for row in rows)])
    else:
        ledger.write_bytes(content[: data.draw(st.integers(0, len(content)))])


@pytest.mark.parametrize("name", [name for name in EVERY if "chain" not in name and name != "feature_poisoning"])
def test_the_state_of_another_defense_is_refused_by_name(name: str) -> None:
    guard = guard_of(EVERY[name](), WIDTH)
    with pytest.raises(DefenseError, match=rf"{name_of(EVERY[name]())} can.* 5 bytes of its log.*force=true"):
        guard.fold([question(0)], [b"12345"])


def test_the_state_for_another_victim_is_refused_by_name() -> None:
    for make in (EVERY["modelguard_s"], EVERY["mmd"]):
        with pytest.raises(DefenseError, match=r"40 bytes of its log.*another victim"):
            guard_of(make(), WIDTH).fold([question(0)], [bytes(4 * 10)])
