"""Which defenses an attacker can simulate that knows them; the others are refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.config.answers import choices
from fmsteal.defenses.base import RowDefense, RowGuard
from fmsteal.oracle.guard import Ask, Guard
from fmsteal.oracle.ledger import Question
from fmsteal.oracle.simulated import simulate
from tests.support.composing import composed
from tests.support.simplex import dirichlet

ALONE = {
    "chain", "gaussian", "hard_label", "laplace", "mad", "mad_argmax", "modelguard_w", "none", "reverse_sigmoid",
    "rounding", "top_k",
}  # fmt: skip
LINKS = ("+defense@defense.of.a=reverse_sigmoid", "+defense@defense.of.b=rounding")


def made(name: str, *overrides: str) -> Any:
    links = LINKS if name == "chain" else ()
    return build.make(composed(f"defense={name}", *links, *overrides).defense)


def ask(p: torch.Tensor) -> Ask:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (len(p), 3, 8, 8)).astype(np.uint8))
    questions = [Question(0, row.to_bytes(16), 0) for row in range(len(p))]
    return Ask(questions, p, p.log(), lambda: images)


@pytest.mark.parametrize("name", sorted(choices("defense", "probabilities")))
def test_a_defense_is_simulated_without_a_victim_or_refused_by_name(name: str) -> None:
    defense, p = made(name), dirichlet(0, 20, 5)
    if name not in ALONE:
        with pytest.raises(ConfigError, match=rf"{type(defense).__name__} cannot be simulated by an attacker"):
            simulate(defense, 5, 0)
        return
    guard = simulate(defense, 5, 0)
    answers = guard.reply(ask(p)).answers
    assert guard.width == 5 and answers.shape == p.shape and bool(answers.isfinite().all())
    assert torch.equal(answers, p) == (name == "none")


class Prepared(RowDefense):
    """Knows something of the victim, and does not say how to do without."""

    def prepare(self, victim: Any, train: Any, ctx: Any) -> Guard:
        return RowGuard(self, victim.width)


def test_one_that_is_prepared_and_says_no_more_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Prepared cannot be simulated by an attacker"):
        simulate(Prepared(), 5, 0)


def test_a_chain_is_simulated_link_by_link() -> None:
    p = dirichlet(0, 20, 5)
    first = simulate(made("reverse_sigmoid"), 5, 0).reply(ask(p)).answers
    both = simulate(made("chain"), 5, 0).reply(ask(p)).answers
    assert torch.equal(both, torch.round(first, decimals=1))


def test_what_a_defense_draws_once_is_drawn_from_the_attackers_seed() -> None:
    for defense in (made("mad"), made("gradient_redirection", "defense.z=ones")):
        p = dirichlet(0, 20, 5)
        one, other, again = (simulate(defense, 5, seed).reply(ask(p)).answers for seed in (1, 2, 1))
        assert torch.equal(one, again) and not torch.equal(one, other)
