"""An honest client: figures against plain formulas, through real guards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from scipy.special import rel_entr
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import seed_block
from fmsteal.config import build
from fmsteal.data.digits import digits
from fmsteal.defenses.base import NoDefense, RowDefense
from fmsteal.defenses.chain import Chain
from fmsteal.defenses.embeddings import FeatureTopK
from fmsteal.defenses.gradient_redirection import GradientRedirection
from fmsteal.defenses.noise import Gaussian
from fmsteal.defenses.prada import Prada
from fmsteal.defenses.truncation import Rounding, TopK
from fmsteal.evaluation.base import Pair, sample
from fmsteal.evaluation.encoder import EncoderEvaluation
from fmsteal.evaluation.heads import LinearHead
from fmsteal.evaluation.honest import HonestClassifier, HonestEncoder, calibration_error, divergence
from fmsteal.job.honest import open_door
from fmsteal.networks.backbones import BackboneSpec
from fmsteal.oracle.guard import Ask
from fmsteal.victims.base import Victim
from tests.support import guards
from tests.support.foreign_victims import Model
from tests.support.simplex import dirichlet, seeds, simplex
from tests.support.small_task import context, part

TASK = digits(size=8, train_count=300)
LEARNERS = part("victim"), part("thief")
SCANS = {"_target_": "fmsteal.data.digits.digits", "size": 12, "test": 50, "train_count": 120, "seed": 1}


class Same(RowDefense):
    """A defense that changes nothing, and is none of ours."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        return answers.clone()


@dataclass
class Guarded:
    """A defense of one guard."""

    guard: Any
    depends: str = "client"

    def prepare(self, victim: Any, train: Any, ctx: Any) -> Any:
        return self.guard(victim.width)


def pair_of(folder: Path, defense: Any, model: nn.Module | None = None, **victim: Any) -> Pair:
    ctx = context(folder)
    made = Victim("small", model or Model(10).eval(), **victim)
    return Pair(made, made.model, LEARNERS, TASK, ctx, meet=open_door(defense, made, TASK, ctx))


def found(folder: Path, defense: Any, **options: Any) -> dict[str, float]:
    pair = pair_of(folder, defense)
    return HonestClassifier(**options).run(pair, pair.ctx).values


@given(simplex(), st.integers(1, 20), seeds)
@settings(max_examples=60)
def test_the_calibration_error_is_a_loop_over_bins(p: Tensor, bins: int, seed: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, p.shape[1], len(p)))
    sure, right = p.double().numpy().max(1), p.argmax(1).numpy() == labels.numpy()
    wanted = 0.0
    for b in range(bins):
        inside = (sure * bins > b) & (sure * bins <= b + 1)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert float(calibration_error(p.double().clip(max=1), labels, bins)) == pytest.approx(wanted, abs=1e-6)


@given(simplex(), seeds)
@settings(max_examples=40)
def test_kl_is_scipys_and_finite_where_an_answer_has_zeros(y: Tensor, seed: int) -> None:
    p = dirichlet(seed, len(y), y.shape[1]).double()
    wanted = rel_entr(y.double().numpy(), np.maximum(p.numpy(), 1.2e-38)).sum(1)
    np.testing.assert_allclose(divergence(3 * y.double(), p), wanted, atol=1e-6)
    assert divergence(y.double(), torch.eye(y.shape[1])[[0] * len(y)].double()).isfinite().all()


def test_an_answer_of_zeros_says_as_much_as_a_flat_one() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25]]).double()
    assert torch.equal(divergence(torch.zeros(1, 3).double(), p), divergence(torch.full((1, 3), 1 / 3).double(), p))


@pytest.mark.parametrize(
    ("defense", "protect"),
    [
        (Rounding(1), lambda p: p.round(1)),
        (TopK(2), lambda p: np.where(p >= np.sort(p, axis=1)[:, [-2]], p, 0)),
        (Chain({"a": TopK(2), "b": Rounding(1)}), lambda p: np.where(p >= np.sort(p, 1)[:, [-2]], p, 0).round(1)),
    ],
)
def test_figures_are_those_of_plain_formulas(tmp_path: Path, defense: Any, protect: Any) -> None:
    values = found(tmp_path, defense, questions=200)
    ids = np.random.default_rng(0).permutation(len(TASK.test))[:200]
    assert TASK.test.labels is not None
    pixels, labels = torch.from_numpy(np.array(TASK.test.pixels[ids])), TASK.test.labels[ids]
    p = Model(10)(pixels).detach().softmax(1).numpy()
    y, p = protect(p).astype(np.float64), p.astype(np.float64)
    said = y.argmax(1)
    rows = y / y.sum(1, keepdims=True)
    wanted = {
        "questions": 200, "accuracy": (said == labels).mean(), "victim_accuracy": (p.argmax(1) == labels).mean(),
        "label_kept": (said == p.argmax(1)).mean(), "l1": np.abs(y - p).sum(1).mean(),
        "l2": np.sqrt(((y - p) ** 2).sum(1)).mean(), "kl": rel_entr(rows, p).sum(1).mean(),
        "false_alarms": 0, "refused": 0, "usd": 0, "seconds": 0,
    }  # fmt: skip
    for name, rows_ in (("ece", y), ("victim_ece", p)):
        sure, right = rows_.max(1), rows_.argmax(1) == labels
        place = np.clip(np.ceil(sure * 15) - 1, 0, None)
        wanted[name] = sum(abs((right - sure)[place == b].sum()) for b in range(15)) / 200
    assert values.keys() == {f"honest/{name}" for name in (*wanted, "ms_per_query")}
    for name, value in wanted.items():
        assert values[f"honest/{name}"] == pytest.approx(value, abs=1e-6), name
    assert 0 < values["honest/ms_per_query"] < 1000


def test_a_defense_that_changes_nothing_costs_nothing(tmp_path: Path) -> None:
    values = found(tmp_path, Same())
    assert values["honest/l1"] == values["honest/l2"] == 0 and values["honest/label_kept"] == 1
    assert values["honest/accuracy"] == values["honest/victim_accuracy"]
    assert values["honest/ece"] == values["honest/victim_ece"] and abs(values["honest/kl"]) < 1e-6
    pair = pair_of(tmp_path, NoDefense())
    assert pair.meet is None and not HonestClassifier().run(pair, pair.ctx).metrics
    assert not HonestEncoder().run(pair, pair.ctx).metrics


def test_charges_delays_flags_and_refusals_are_counted(tmp_path: Path) -> None:
    """Every fifth question is refused, each third is delayed by .7 s, the n-th costs n tenths of a dollar."""
    pair = pair_of(tmp_path, guards.Counts())
    n = len(sample(TASK.test, 100))
    measured = HonestClassifier(questions=100).run(pair, pair.ctx)
    values = measured.values
    assert values["honest/refused"] == pytest.approx(np.mean([k % 5 == 0 for k in range(1, n + 1)]))
    assert values["honest/usd"] == pytest.approx(sum(k / 10 for k in range(1, n + 1) if k % 5))
    assert values["honest/seconds"] == pytest.approx(0.7 * (n // 3))
    assert values["honest/flags/odd"] == pytest.approx(0.5)
    flagged = np.array([k % 2 == 1 or k % 5 == 0 for k in range(1, n + 1)])
    assert values["honest/false_alarms"] >= flagged.mean()  # noise, its other flag, is hardly ever 0
    assert measured.intervals["honest/refused"][0] < values["honest/refused"] < measured.intervals["honest/refused"][1]
    assert int(measured.predictions["honest_refused"].sum()) == n // 5


def test_each_client_meets_a_defense_that_remembers_nobody(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, guards.Counts())
    assert pair.meet is not None
    ids = sample(TASK.test, 30)
    first, second = pair.meet(), pair.meet()
    one, other = first.ask(TASK.test, ids), second.ask(TASK.test, ids)
    assert torch.equal(one.answers, other.answers) and torch.equal(one.refused, other.refused)
    again = first.ask(TASK.test, ids)
    assert not torch.equal(again.answers, one.answers) and again.usd > one.usd, "it remembers its own"


@pytest.mark.parametrize("defense", [Gaussian(0.2), Prada(), GradientRedirection(batch=64), GradientRedirection()])
def test_questions_in_pieces_are_answered_like_questions_at_once(tmp_path: Path, defense: Any) -> None:
    pair = pair_of(tmp_path, defense)
    assert pair.meet is not None
    ids = sample(TASK.test, 192)
    whole, client = pair.meet().ask(TASK.test, ids), pair.meet()
    parts = [client.ask(TASK.test, part) for part in np.split(ids, [64, 128])]
    torch.testing.assert_close(torch.cat([part.answers for part in parts]), whole.answers, rtol=0, atol=1e-6)
    assert whole.flags.keys() == parts[0].flags.keys()


def test_answers_of_another_width_are_not_compared(tmp_path: Path) -> None:
    pair = pair_of(tmp_path, Guarded(lambda width: guards.Stateless(width + 1)))
    wide = replace(pair, meet=open_door(Guarded(Wide), pair.victim, TASK, pair.ctx))
    values = HonestClassifier(questions=20).run(wide, pair.ctx).values
    assert "honest/accuracy" not in values and values["honest/questions"] == 20


class Wide(guards.Stateless):
    """Adds a column of zeros."""

    def __init__(self, width: int) -> None:
        super().__init__(width + 1)

    def reply(self, ask: Ask) -> Any:
        return guards.Reply(torch.nn.functional.pad(ask.answers, (0, 1)))


def encoders(folder: Path, defense: Any) -> tuple[Pair, Any]:
    with seed_block(0):
        model = BackboneSpec("test_resnet", size=32).build(pretrained=False).eval()
    learners = part("victim", "task=embed"), part("thief", "task=embed")
    pair = replace(pair_of(folder, defense, model, answers="embeddings"), learners=learners)
    return pair, pair.ctx


def test_of_an_encoder_the_defended_embeddings_are_judged_downstream(tmp_path: Path) -> None:
    pair, ctx = encoders(tmp_path, Same())
    sets = {"scans": SCANS}
    undefended = EncoderEvaluation(sets, "linear", {"linear": LinearHead()}).run(pair, ctx).values
    same = HonestEncoder(sets, LinearHead()).run(pair, ctx).values
    assert same["honest/downstream/scans/accuracy"] == undefended["downstream/scans/target_accuracy"]
    assert same["honest/downstream_accuracy"] == same["honest/downstream/scans/accuracy"]
    assert same["honest/cosine"] == pytest.approx(1) and same["honest/l2"] == pytest.approx(0, abs=1e-6)

    pair, ctx = encoders(tmp_path, FeatureTopK(5))
    values = HonestEncoder(sets, LinearHead(), questions=100).run(pair, ctx).values
    ids = np.random.default_rng(0).permutation(len(TASK.test))[:100]
    v = pair.logits[0][torch.from_numpy(ids)].double().numpy()
    y = top(v, 5)
    lengths = np.linalg.norm(v, axis=1), np.linalg.norm(y, axis=1)
    assert values["honest/cosine"] == pytest.approx(((v * y).sum(1) / lengths[0] / lengths[1]).mean(), abs=1e-6)
    apart = np.linalg.norm(v / lengths[0][:, None] - y / lengths[1][:, None], axis=1).mean()
    assert values["honest/l2"] == pytest.approx(apart, abs=1e-6)
    task = build.make(OmegaConf.create(SCANS))
    rows = [
        torch.from_numpy(top(pair.victim.raw(images, np.arange(len(images)), ctx).numpy(), 5))
        for images in (task.train, task.test)
    ]
    said = LinearHead().fit_predict(rows[0], torch.from_numpy(task.train.labels), rows[1], 10, 0)
    assert values["honest/downstream/scans/accuracy"] == pytest.approx((said.numpy() == task.test.labels).mean())


def top(rows: Any, k: int) -> Any:
    """The k largest entries of each row, zeros elsewhere."""
    kept = np.zeros_like(rows)
    for row, out in zip(rows, kept, strict=True):
        some = np.argsort(-row, kind="stable")[:k]
        out[some] = row[some]
    return kept


def test_a_defense_that_answers_too_little_trains_no_head(tmp_path: Path) -> None:
    pair, ctx = encoders(tmp_path, Guarded(Silent))
    values = HonestEncoder({"scans": SCANS}, LinearHead(), questions=10).run(pair, ctx).values
    assert values["honest/refused"] == values["honest/false_alarms"] == 1
    assert not [name for name in values if "downstream" in name or "cosine" in name]


class Silent(guards.Stateless):
    """Refuses everybody."""

    def reply(self, ask: Ask) -> Any:
        return guards.Reply(ask.answers, refused=torch.ones(len(ask.questions), dtype=torch.bool))


def test_nonsense_is_refused() -> None:
    for options in ({"questions": 0}, {"bins": 0}):
        with pytest.raises(ConfigError, match="questions and bins of at least 1"):
            HonestClassifier(**options)
    with pytest.raises(ConfigError, match="at least 1, not 0"):
        HonestEncoder(questions=0)
    with pytest.raises(ConfigError, match="client of scans needs a head"):
        HonestEncoder({"scans": SCANS})
