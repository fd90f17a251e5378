"""A chain is its defenses one after the other, in one guard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fmsteal.base.errors import ConfigError, DefenseError
from fmsteal.config import answers, build
from fmsteal.defenses.base import Defense, NoDefense, RowDefense
from fmsteal.defenses.chain import Chain
from fmsteal.defenses.embeddings import FeatureNoise, FeatureTopK
from fmsteal.defenses.truncation import HardLabel, Rounding, TopK
from fmsteal.oracle.guard import Ask, Depends, Guard, Reply
from fmsteal.oracle.ledger import Question
from tests.support.asking import asked, guard_of, question, reply
from tests.support.composing import composed
from tests.support.exact import embeddings
from tests.support.guards import WIDTH, Charges, Counts, Delays, Flags, Refuses, Stateless, Widens, api, files, patient


class Of:
    """A defense whose guard is there already."""

    def __init__(self, guard: Any, depends: Depends = "row") -> None:
        self.guard, self.depends = guard, depends

    def prepare(self, *args: Any) -> Guard:
        return self.guard


def chain(*defenses: Defense) -> Chain:
    return Chain(dict(zip("abcdef", defenses, strict=False)))


def test_it_is_what_its_defenses_do_one_after_the_other() -> None:
    p = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    by_hand = reply(Rounding(2), reply(TopK(3, renormalise=True), p).answers).answers
    torch.testing.assert_close(reply(chain(TopK(3, renormalise=True), Rounding(2)), p).answers, by_hand, rtol=0, atol=0)
    other = reply(chain(Rounding(2), TopK(3, renormalise=True)), p).answers
    assert not torch.equal(other, by_hand), "the order counts"


def test_the_first_draws_as_if_alone_and_the_second_anew() -> None:
    (v,) = embeddings(0, (5, 16))
    alone = reply(FeatureNoise(0.5), v).answers
    torch.testing.assert_close(reply(chain(FeatureNoise(0.5), FeatureTopK(99)), v).answers, alone, rtol=0, atol=0)
    twice = reply(chain(FeatureNoise(0.5), FeatureNoise(0.5)), v).answers
    same = torch.nn.functional.normalize(alone, dim=1) + (alone - torch.nn.functional.normalize(v, dim=1))
    assert float((twice - same).abs().max()) > 0.1


def test_the_order_is_that_of_the_names_as_a_key_knows_no_other() -> None:
    p = torch.randn(7, 10, generator=torch.Generator().manual_seed(0)).softmax(1)
    one, other = Chain({"a": TopK(3), "b": Rounding(1)}), Chain({"b": Rounding(1), "a": TopK(3)})
    assert list(one.of) == list(other.of) and torch.equal(reply(one, p).answers, reply(other, p).answers)


def test_it_depends_on_what_the_most_dependent_one_does() -> None:
    assert chain(TopK(1), HardLabel()).depends == "row" and chain(TopK(1)).answers == "probabilities"
    assert chain(NoDefense(), Counts("client")).depends == "client" and chain(NoDefense()).answers is None
    assert chain(Counts("all"), Counts("client")).depends == "all"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: chain(), r"defense\.of must name at least one.*\+defense@defense\.of\.a="),
        (lambda: chain(TopK(1), FeatureTopK(1)), r"a \(fmsteal.*TopK\) for probabilities, b .* for embeddings"),
        (lambda: chain(Of(None, "batch"), Counts("all")), "a on batch, b on all"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(make: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        make()


def test_charges_delays_and_flags_add_up_and_a_refusal_of_one_is_a_refusal(tmp_path: Path) -> None:
    defense = chain(Of(Charges()), Of(Delays()), Of(Charges()), Of(Flags()), Of(Flags()), Of(Refuses()))
    oracle = api(tmp_path, guard_of(defense, WIDTH))
    rows, answered = patient(lambda: oracle.ask(np.array([0, 1, 0])))
    assert answered.tolist() == [True, True, False] and rows[:, 0].tolist() == [0, 2]
    wanted = {
        "defense_usd": 2 * (0.5 + 0.5 + 1),
        "delay_seconds": 6,
        "refused": 1,
        "flags/d/again": 1,
        "flags/e/again": 1,
    }
    assert oracle.costs() == {f"cost/{name}": value for name, value in wanted.items()}


def test_what_is_refused_is_not_seen_by_those_after_it(tmp_path: Path) -> None:
    guard = guard_of(chain(Of(Refuses()), Counts("all")), WIDTH)
    patient(lambda: api(tmp_path, guard).ask(np.array([0, 0, 1, 1, 1, 2])))
    again = Counts("all")
    again.fold([question(0)] * 3, [b"1", b"2", b"3"])
    assert guard._links[1].guard.seen == again.seen  # type: ignore[attr-defined]


def test_all_may_be_refused_by_the_first(tmp_path: Path) -> None:
    oracle = api(tmp_path, guard_of(chain(Of(Refuses()), TopK(1)), WIDTH))
    oracle.ask(np.array([0]))
    assert patient(lambda: oracle.ask(np.array([0, 0])))[1].tolist() == [False, False]


def test_each_has_its_own_state_which_survives(tmp_path: Path) -> None:
    def run(folder: Path, asks: list[list[int]]) -> list[Any]:
        guard: Any = guard_of(chain(Counts("client"), TopK(2), Counts("all")), WIDTH)
        oracle = api(folder, guard)
        for ids in asks:
            patient(lambda now=ids: oracle.ask(np.array(now)))  # type: ignore[misc]
        return [link.guard.state for link in guard._links if isinstance(link.guard, Counts)]

    whole = run(tmp_path / "whole", [[0, 1, 2, 3, 4, 5, 6]])
    run(tmp_path / "parts", [[0, 1], [2]])
    assert run(tmp_path / "parts", [[0, 1], [2], [3, 4, 5, 6]]) == whole != [Counts().state] * 2
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_one_that_widens_is_followed_by_one_as_wide(tmp_path: Path) -> None:
    guard = guard_of(chain(Of(Widens()), TopK(2), NoDefense()), WIDTH)
    assert guard.width == 6 and api(tmp_path, guard).ask(np.arange(4)).shape == (4, 6)


def test_the_one_that_is_wrong_is_named(tmp_path: Path) -> None:
    class Narrow(RowDefense):
        def protect(self, answers: Tensor, ask: Ask) -> Tensor:
            return answers[:, :2]

    with pytest.raises(DefenseError, match=r"Narrow returned \(4, 2\) where \(4, 3\) was due"):
        api(tmp_path, guard_of(chain(TopK(1), Narrow(), TopK(1)), WIDTH)).ask(np.arange(4))


def test_a_batch_goes_through_as_a_batch(tmp_path: Path) -> None:
    class Pairs(Stateless):
        batch = 2

        def reply(self, ask: Ask) -> Reply:
            return Reply(ask.answers.mean(0, keepdim=True).expand(len(ask.answers), -1))

        def fold(self, questions: Sequence[Question], log: Sequence[bytes]) -> None:
            """Nothing."""

    guard = guard_of(chain(NoDefense(), Of(Pairs(), "batch")), WIDTH)
    got = api(tmp_path, guard).ask(np.arange(5))
    assert torch.equal(got[0], got[1]) and torch.equal(got[2], got[3]) and not torch.equal(got[1], got[2])
    with pytest.raises(DefenseError, match="lacks reply, batch"):
        guard_of(Of(Stateless(), "batch"), WIDTH)


def test_it_is_composed_of_the_files_of_its_defenses() -> None:
    words = ("defense=chain", "+defense@defense.of.a=top_k", "+defense@defense.of.b=rounding", "defense.of.a.k=1")
    cfg = composed(*words)
    build.check(cfg)
    answers.check(cfg)
    defense = build.make(cfg.defense)
    assert [type(link) for link in defense.of.values()] == [TopK, Rounding] and defense.of["a"].k == 1
    with pytest.raises(ConfigError, match=r"defense\.of\.b .* is made for embeddings"):
        answers.check(composed(*words[:2], "+defense@defense.of.b=feature_noise"))
    with pytest.raises(ConfigError, match=r"defense\.of\.a\.kk"):
        build.check(composed(*words[:2], "+defense.of.a.kk=1"))


def test_its_ask_is_a_part_of_the_whole() -> None:
    (v,) = embeddings(0, (5, 16))
    whole = asked(v)
    part = whole.part([3, 1])
    assert part.questions == [question(3), question(1)] and torch.equal(part.answers, v[[3, 1]])
    assert torch.equal(part.images(), whole.images()[[3, 1]])
    assert part.generator(0).initial_seed() == whole.generator(3).initial_seed()
