"""CREDIT's answers: noise that averages out, and a shift that does not."""

from __future__ import annotations

import pytest
import torch

from fmsteal.base.directions import draw_direction
from fmsteal.base.errors import ConfigError
from fmsteal.config import answers
from fmsteal.defenses.credit import Credit
from tests.support.asking import question, reply
from tests.support.composing import composed
from tests.support.exact import embeddings


def test_noise_averages_out_and_the_shift_is_left() -> None:
    (v,) = embeddings(0, (1, 64))
    asks = [question(3, nth=nth) for nth in range(3000)]
    added = (reply(Credit(0.5, seed=2), v.expand(3000, -1), asks).answers - v).double()
    assert float(added.std(0).mean()) == pytest.approx(0.5, rel=0.02)
    mean, shift = added.mean(0), 0.5 * draw_direction(64, 2)
    assert float((mean - shift).norm()) < 0.5 * float(shift.norm()) == pytest.approx(0.25)
    assert float(mean @ shift / shift.norm()) == pytest.approx(0.5, abs=0.05)
    assert abs(float(mean @ draw_direction(64, 3))) < 0.15, "in a direction of another seed there is none"


def test_rows_are_answered_one_by_one_and_anew_for_each_ask() -> None:
    (v,) = embeddings(0, (7, 16))
    whole = reply(Credit(), v).answers
    alone = [reply(Credit(), v[i : i + 1], [question(i)]).answers for i in range(7)]
    assert torch.equal(whole, torch.cat(alone)) and whole.dtype == torch.float32
    others = [reply(Credit(), v[:1], [q]).answers for q in (question(4), question(0, client=1), question(0, nth=1))]
    assert all(float((other - whole[:1]).abs().max()) > 0.01 for other in others)
    assert reply(Credit(), v[:0]).answers.shape == (0, 16)


@pytest.mark.parametrize("width", [1, 2, 512])
def test_a_direction_has_length_one_and_its_seed_to_itself(width: int) -> None:
    drawn = draw_direction(width, 0)
    assert float(drawn.norm()) == pytest.approx(1) and torch.equal(drawn, draw_direction(width, 0))
    assert width < 3 or abs(float(drawn @ draw_direction(width, 1))) < 0.2


def test_what_makes_no_sense_is_refused_by_name() -> None:
    for sigma in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"defense\.sigma must be above 0"):
            Credit(sigma)
    with pytest.raises(ConfigError, match=r"Credit\) is made for embeddings.*task=embed"):
        answers.check(composed("defense=credit"))
