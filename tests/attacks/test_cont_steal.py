from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.attacks.cont_steal import cont_steal_loss
from tests.attacks.published import cont_steal
from tests.support.exact import agree, dimensions, embeddings, images, seeds


@given(images, dimensions, seeds, st.sampled_from([0.1, 0.5]))
@settings(max_examples=40)
def test_is_what_its_code_computes(n: int, d: int, seed: int, temperature: float) -> None:
    thief, victim = embeddings(seed, (n, d), (n, d))
    agree(lambda s, v: cont_steal_loss(s, v, temperature), lambda s, v: cont_steal(s, v, temperature), thief, victim)


def test_a_single_image_gives_nothing_to_learn() -> None:
    thief, victim = embeddings(0, (1, 8), (1, 8))
    assert cont_steal_loss(thief, victim) == 0
