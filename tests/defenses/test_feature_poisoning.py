"""Poisoned embeddings against the published loop, a head that knows views from other images, and batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.base.errors import ConfigError
from fmsteal.config import answers, build
from fmsteal.data.digits import digits
from fmsteal.data.images import Ids, Images
from fmsteal.data.random_views import draw_views
from fmsteal.defenses.base import prepare
from fmsteal.defenses.chain import Chain
from fmsteal.defenses.embeddings import FeatureTopK
from fmsteal.defenses.feature_poisoning import FeatureOffset, FeaturePoisoning, find_near
from fmsteal.defenses.projection_head import train_head
from fmsteal.training.context import Context
from tests.support.asking import asked, guard_of, question, reply
from tests.support.composing import composed
from tests.support.exact import embeddings
from tests.support.guards import LOGITS, WIDTH, api
from tests.support.small_task import context


def made(*words: str) -> Any:
    return build.make(composed("task=embed", "defense=feature_poisoning", *words).defense)


def by_loop(rows: Tensor, threshold: float) -> list[bool]:
    """The published loop: each row with all before it; ``(cosine + 1) / 2`` above ``(threshold + 1) / 2``."""
    known, found = [rows[0].double()], [False]
    for row in rows[1:].double():
        cosines = [float(row @ other / (row.norm() * other.norm())) for other in known]
        found.append((max(cosines) + 1) / 2 > (threshold + 1) / 2)
        known.append(row)
    return found


@given(st.integers(1, 20), st.integers(1, 5), st.floats(-0.95, 0.95), st.integers(0, 999))
@settings(max_examples=60)
def test_rows_near_an_earlier_one_are_those_of_the_published_loop(n: int, d: int, threshold: float, seed: int) -> None:
    (rows,) = embeddings(seed, (n, d + 1))
    assert find_near(rows, threshold).tolist() == by_loop(rows, threshold)


def test_they_alone_are_replaced_by_noise_around_a_thousand() -> None:
    guard: Any = guard_of(made("defense.epochs=1"), 3)
    (v,) = embeddings(0, (45, 3))
    raw = torch.randn(45, 3, generator=torch.Generator().manual_seed(0))
    raw[40:] = raw[:5]
    said = guard.reply(replace(asked(v), raw=raw))
    near = said.flags["poisoned"]
    assert near[40:].all() and not near[0] and near.tolist() == by_loop(guard._head(raw), 0.6)
    assert torch.equal(said.answers[~near], v[~near])
    gone = said.answers[near]
    assert float(gone.mean()) == pytest.approx(1000, abs=0.3) and float(gone.std()) == pytest.approx(0.5, rel=0.3)


def test_the_head_knows_views_of_an_image_where_the_embeddings_do_not(tmp_path: Path) -> None:
    """The victim's features are positive, so that all images have cosines above .6 with each other."""
    task, ctx = digits(size=16, test=60, train_count=200), context(tmp_path)
    weight = torch.randn(3 * 256, 64, generator=torch.Generator().manual_seed(0)) / 16

    def raw(images: Images, ids: Ids, ctx: Context) -> Tensor:
        return (torch.from_numpy(np.array(images.pixels[ids])).flatten(1).float() / 255 @ weight + 0.5).relu()

    victim: Any = SimpleNamespace(width=64, key="positive", raw=raw)
    defense = made("defense.epochs=60")
    guard: Any = prepare(defense, victim, task.train, ctx)
    ids = np.arange(len(task.test))
    pair = [Images.of(draw_views(defense.views, task.test, ids, "test", number)) for number in (0, 1)]
    one, other = (raw(images, ids, ctx) for images in pair)
    apart = ~torch.eye(len(ids), dtype=torch.bool)

    def cosines(rows: Tensor, others: Tensor) -> tuple[float, float]:
        """Mean cosine of two views of one image, and of views of two images."""
        table = F.normalize(rows, dim=1) @ F.normalize(others, dim=1).T
        return float(table.diagonal().mean()), float(table[apart].mean())

    before, after = cosines(one, other), cosines(guard._head(one), guard._head(other))
    assert before[1] > 0.6, "as they are, embeddings of any two images are near"
    assert after[1] < 0.4 and after[0] - after[1] > 2 * (before[0] - before[1])
    again: Any = prepare(defense, victim, task.train, ctx)
    assert torch.equal(again._head(one), guard._head(one)), "found in the store"
    assert len(list((tmp_path / "cache" / "defenses").iterdir())) == 1


def test_a_head_is_the_same_whenever_it_is_trained() -> None:
    rows = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0))
    one, other = (train_head(rows, 4, 0.5, 3, seed=1) for _ in range(2))
    assert torch.equal(one(rows[0]), other(rows[0]))
    assert not torch.equal(train_head(rows, 4, 0.5, 3, seed=2)(rows[0]), one(rows[0]))


def test_batches_are_the_same_however_questions_are_cut(tmp_path: Path) -> None:
    order = np.arange(40).repeat(2)
    whole = api(tmp_path / "whole", guard_of(made("defense.batch=16"), WIDTH))
    answers = whole.ask(order)
    pieces = api(tmp_path / "pieces", guard_of(made("defense.batch=16"), WIDTH))
    got = torch.cat([pieces.ask(part) for part in np.array_split(order, 11)])
    assert torch.equal(got, answers) and pieces.costs() == whole.costs()
    poisoned = (answers - 1000).abs().amax(1) < 10
    assert whole.costs()["cost/flags/poisoned"] == int(poisoned.sum())
    assert poisoned[1::2].all(), "the second question about an image lies where the first does"
    left = ~poisoned
    torch.testing.assert_close(answers[left], LOGITS[order].softmax(1)[left], rtol=0, atol=1e-6)


def test_offset_is_normal_around_five(tmp_path: Path) -> None:
    (v,) = embeddings(0, (40, 512))
    noise = reply(FeatureOffset(), v).answers - v
    assert float(noise.mean()) == pytest.approx(5, abs=0.02) and float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert reply(FeatureOffset(), v[:0]).answers.shape == (0, 512)
    first = reply(FeatureOffset(), v[:1], [question(3)]).answers
    assert torch.equal(reply(FeatureOffset(), v[:1], [question(3)]).answers, first)
    assert not torch.equal(reply(FeatureOffset(), v[:1], [question(3, nth=1)]).answers, first)


def test_in_a_chain_it_looks_at_the_victims_own_embeddings() -> None:
    chain = Chain({"a": FeatureTopK(1), "b": made("defense.epochs=1")})
    ask = asked(embeddings(0, (9, 3))[0])
    alone = guard_of(made("defense.epochs=1"), 3).reply(ask)
    assert torch.equal(guard_of(chain, 3).reply(ask).flags["poisoned"].bool(), alone.flags["poisoned"])


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("threshold=1.0", r"defense\.threshold"),
        ("threshold=-1.1", r"defense\.threshold"),
        ("sigma=-1", r"defense\.sigma"),
        ("mean=inf", r"defense\.mean"),
        ("batch=1", r"defense\.batch"),
        ("images=1", r"defense\.images"),
        ("drawn=1", r"defense\.drawn"),
        ("projection=0", r"defense\.projection"),
        ("epochs=0", r"defense\.epochs"),
        ("temperature=0", r"defense\.temperature"),
    ],
)
def test_settings_without_meaning_are_refused(word: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        made(f"defense.{word}")


def test_a_classifier_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"defense\.sigma"):
        FeatureOffset(sigma=float("nan"))
    for name in ("feature_poisoning", "feature_poisoning_offset"):
        with pytest.raises(ConfigError, match=r"feature_poisoning.* is made for embeddings.*task=embed"):
            answers.check(composed(f"defense={name}"))
    assert FeaturePoisoning.depends == "batch" and FeatureOffset.depends == "row"
