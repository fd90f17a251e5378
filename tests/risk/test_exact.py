"""The number of answers from which a head is solved for is the one at which the attack does it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmsteal.attacks.equations import Equations
from fmsteal.attacks.solved_head import solve_exactly
from fmsteal.defenses.truncation import top_k
from fmsteal.risk.exact import count_exact


def is_solved(answers: int, width: int, classes: int, known: int | None = None, seed: int = 0) -> bool:
    """Whether a random head on random features is solved for from so many answers."""
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(answers, width, generator=random, dtype=torch.float64)
    head = torch.randn(width, classes, generator=random, dtype=torch.float64) / width**0.5
    given_ = (features @ head).softmax(1).float()
    given_ = given_ if known is None else top_k(given_, known)
    return solve_exactly(features.float(), Equations.of(given_), seed=0) is not None


@pytest.mark.parametrize(("width", "classes"), [(3, 2), (20, 10), (64, 3), (200, 10), (620, 4)])
def test_one_answer_less_is_too_few(width: int, classes: int) -> None:
    enough = count_exact(width, classes)
    assert is_solved(enough, width, classes) and not is_solved(enough - 1, width, classes)


@pytest.mark.parametrize(("width", "classes", "known"), [(20, 10, 3), (20, 10, 5), (40, 4, 2)])
def test_truncated_answers_take_about_as_many_as_their_equations(width: int, classes: int, known: int) -> None:
    enough = count_exact(width, classes, known)
    assert is_solved(2 * enough, width, classes, known) and not is_solved(enough * 4 // 5, width, classes, known)


def test_the_miniatures_head_is_solved_for_at_what_its_table_has() -> None:
    assert 1281 < count_exact(1280, 10) <= 1300


@given(st.integers(1, 3000), st.integers(2, 300), st.none() | st.integers(2, 300))
def test_it_is_the_least_that_satisfies_the_conditions(width: int, classes: int, known: int | None) -> None:
    each, unknowns = min(known or classes, classes) - 1, (width + 1) * (classes - 1)

    def suffices(answers: int) -> bool:
        kept = answers - max(5, answers // 100)
        return answers * each > unknowns and kept * each >= unknowns

    found = count_exact(width, classes, known)
    assert suffices(found) and not suffices(found - 1)
