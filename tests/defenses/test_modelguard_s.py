"""ModelGuard-S against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.base.errors import ConfigError, DefenseError
from fmsteal.defenses.modelguard_s import ModelGuardS
from tests.support.asking import asked, guard_of, question, reply
from tests.support.simplex import dirichlet


@given(st.integers(0, 999), st.integers(2, 12), st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0]), st.booleans())
@settings(max_examples=40)
def test_it_is_a_loop_over_rows(seed: int, classes: int, epsilon: float, per_client: bool) -> None:
    p = dirichlet(seed, 40, classes, 1.0)
    questions = [question(n, client=n % 3) for n in range(40)]
    defense = ModelGuardS(epsilon, per="client" if per_client else "all")
    centroids: dict[object, list[np.ndarray]] = {}
    answers = reply(defense, p, questions).answers
    for question_, row, y in zip(questions, p.numpy(), answers.numpy(), strict=True):
        row = (row.astype(float) / row.astype(float).sum()).astype(np.float32)
        known = centroids.setdefault((question_.client if per_client else 0, int(row.argmax())), [])
        near = [c for c in known if np.abs(c - row).sum() <= epsilon]
        if not near:
            known.append(row)
        np.testing.assert_array_equal(y, near[0] if near else row)
    assert (answers - p).abs().sum(1).max() <= epsilon + 1e-5 and torch.equal(answers.argmax(1), p.argmax(1))


def test_what_it_depends_on_and_what_it_refuses() -> None:
    assert ModelGuardS().depends == "all" and ModelGuardS(per="client").depends == "client"
    with pytest.raises(ConfigError, match=r"defense\.epsilon"):
        ModelGuardS(-1.0)
    with pytest.raises(DefenseError, match=r"ModelGuardS perturbs probabilities, but 1 of 1 rows"):
        reply(ModelGuardS(), torch.tensor([[0.5, 0.1]]))
    assert reply(ModelGuardS(), torch.zeros(0, 4), []).answers.shape == (0, 4)


def test_replying_changes_nothing() -> None:
    p = dirichlet(0, 10, 5, 1.0)
    guard = guard_of(ModelGuardS(0.5), 5)

    first, again = guard.reply(asked(p)), guard.reply(asked(p))
    assert torch.equal(first.answers, again.answers) and first.log == again.log
