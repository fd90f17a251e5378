from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.attacks.cont_steal_two_view import Anchor, two_view_loss
from fmsteal.base.errors import AttackError, ConfigError
from fmsteal.config import build
from tests.attacks.published import two_view
from tests.support.composing import composed
from tests.support.exact import agree, dimensions, embeddings, seeds, several


@given(several, dimensions, seeds, st.sampled_from([0.07, 0.5]), st.sampled_from(["victim", "thief"]))
@settings(max_examples=40)
def test_is_its_formula(n: int, d: int, seed: int, temperature: float, anchor: Anchor) -> None:
    thief, victim = embeddings(seed, (n, d), (n, d))
    agree(
        lambda s, v: two_view_loss(s, v, temperature, anchor),
        lambda s, v: two_view(s, v, temperature, anchor),
        thief,
        victim,
    )


def test_the_positive_is_not_a_negative() -> None:
    far_apart = torch.eye(4)
    assert two_view_loss(far_apart, far_apart) < -10


def test_its_two_forms_are_two() -> None:
    thief, victim = embeddings(0, (5, 8), (5, 8))
    assert abs(float(two_view_loss(thief, victim) - two_view_loss(thief, victim, anchor="thief"))) > 0.01
    with pytest.raises(ConfigError, match=r"attack\.anchor must be one of victim, thief, not api"):
        build.make(composed("task=embed", "attack=cont_steal_two_view", "attack.anchor=api").attack)


def test_one_image_has_no_negatives() -> None:
    with pytest.raises(AttackError, match="two or more images"):
        two_view_loss(*embeddings(0, (1, 8), (1, 8)))
