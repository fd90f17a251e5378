"""Attackers that undo the API's defense: what they make up, what they simulate, and what they leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.prior import draw_rows
from fmsteal.attacks.simulation import AT_ONCE, Simulation
from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.data.images import Images
from fmsteal.defenses.base import RowDefense
from fmsteal.defenses.noise import Gaussian
from fmsteal.identity.keys import identity
from fmsteal.oracle.guard import Ask
from fmsteal.oracle.oracle import Budget
from fmsteal.victims.base import Victim
from tests.attacks import linear_api
from tests.support.an_api import in_front_of
from tests.support.colour_api import POOL, QUICK, Colours, same_weights, steal
from tests.support.composing import composed
from tests.support.simplex import dirichlet
from tests.support.small_task import context

SMALL = ("attack.rows=300", "attack.prior=answers")
EACH = {
    "partial_bayes": SMALL,
    "ddae": (*SMALL, "attack.restorer.epochs=1"),
    "ddae_plus": (*SMALL, "attack.restorer.epochs=1"),
}


@given(st.integers(1, 6), st.integers(2, 6), st.integers(6, 60), st.integers(0, 99))
@settings(max_examples=30)
def test_made_up_rows_are_distributions_spread_evenly(centres: int, classes: int, count: int, seed: int) -> None:
    rows, of = draw_rows(dirichlet(seed, centres, classes), count, 8.0, 0.05, seed)
    assert rows.shape == (count, classes) and bool((rows >= 0).all())
    torch.testing.assert_close(rows.sum(1), torch.ones(count))
    assert np.bincount(of, minlength=centres).min() >= count // centres and bool((np.diff(of) >= 0).all())
    again, _ = draw_rows(dirichlet(seed, centres, classes), count, 8.0, 0.05, seed)
    assert torch.equal(rows, again)


def test_made_up_rows_lie_around_their_centres() -> None:
    """A Dirichlet row has its parameters' shares as means, and m (1 - m) / (sum + 1) as variances."""
    centres = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.0, 0.0, 0.0, 0.0]])
    rows, of = draw_rows(centres, 40_000, 5.0, 0.05, 0)
    for number, centre in enumerate((centres[0], torch.full((4,), 0.25))):
        alpha = 4 * 5.0 * centre + 0.05
        mean = alpha / alpha.sum()
        some = rows[torch.from_numpy(of == number)]
        torch.testing.assert_close(some.mean(0), mean, atol=4e-3, rtol=0)
        torch.testing.assert_close(some.var(0), mean * (1 - mean) / (alpha.sum() + 1), atol=1e-3, rtol=0)


class Looking(RowDefense):
    """Answers with the mean colour of the image."""

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        grey = ask.images().float().mean((1, 2, 3))[:, None] / 255
        return torch.cat([grey, 1 - grey, torch.zeros(len(grey), answers.shape[1] - 2)], dim=1)


def test_a_simulated_defense_looks_at_the_image_that_a_row_is_about() -> None:
    ids = np.random.default_rng(0).integers(len(POOL), size=AT_ONCE + 9)  # more than one part
    rows = Simulation(Looking(), 4, POOL, 0).answer(dirichlet(0, len(ids), 4), ids)
    due = torch.tensor([float(POOL.pixels[number].mean()) / 255 for number in ids])
    torch.testing.assert_close(rows[:, 0], due)


def test_a_simulated_defense_draws_numbers_of_its_own(tmp_path: Path) -> None:
    """The same class, options, seed of the job and images: but what the API has drawn, the attacker does not know."""
    ctx, defense = context(tmp_path), Gaussian(0.2, per="image")
    oracle = in_front_of(Victim("colours", Colours(), "probabilities"), POOL, ctx, 40, defense)
    ids = np.arange(40)
    clean = Colours()(torch.from_numpy(np.array(POOL.pixels[ids]))).softmax(1)
    theirs, ours = oracle.ask(ids), Simulation(defense, 4, POOL, ctx.seed).answer(clean, ids)
    assert float((theirs - ours).abs().sum(1).min()) > 1e-3
    assert torch.equal(ours, Simulation(defense, 4, POOL, ctx.seed).answer(clean, ids))
    same = Simulation(defense, 4, POOL, ctx.seed).answer(clean[:1].expand(9, 4), ids[:1].repeat(9))
    assert len(same.unique(dim=0)) == 9  # frozen for an image, but the attacker does not know how


def test_a_surrogate_of_the_defense_is_not_the_apis(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    defense = build.make(composed("defense=mad", "defense.epsilon=0.3").defense)
    oracle = in_front_of(Victim("colours", Colours(), "probabilities"), POOL, ctx, 40, defense)
    ids = np.arange(40)
    clean = Colours()(torch.from_numpy(np.array(POOL.pixels[ids]))).softmax(1)
    ours, theirs = Simulation(defense, 4, POOL, ctx.seed).answer(clean, ids), oracle.ask(ids)
    assert bool(((ours - clean).abs().sum(1) <= 0.3 + 1e-5).all()) and not torch.equal(ours, theirs)


@pytest.mark.parametrize("name", EACH)
def test_without_a_defense_the_attack_is_knockoff(name: str, tmp_path: Path) -> None:
    """No shadow is trained, no answer is changed: the same thief to the last bit."""
    thief, oracle = steal(tmp_path / "undo", 40, f"attack={name}", *EACH[name], "attack.prior=shadow")
    plain, other = steal(tmp_path / "plain", 40, "attack=knockoff")
    assert same_weights(thief, plain) and oracle.used == other.used == 40
    assert not list((tmp_path / "undo").rglob("thief-shadow*"))


@pytest.mark.parametrize("name", EACH)
def test_a_defense_that_changes_answers_is_undone_before_a_thief_is_fitted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for the images held out, by which the best epoch is chosen; and alike when done again."""
    cfg = composed(*QUICK, "defense=modelguard_w", f"attack={name}", *EACH[name], "attack.validation=0.25")
    seen: list[Any] = []
    for folder in ("once", "again"):
        ctx, attack = context(tmp_path / folder), build.make(cfg.attack)
        oracle = in_front_of(Victim("colours", Colours(), "probabilities"), POOL, ctx, 40, build.make(cfg.defense))
        thief = AttackContext(build.make(cfg.thief), ctx)
        fit = thief.fit_thief
        monkeypatch.setattr(
            thief, "fit_thief", lambda *given, fit=fit, **named: seen.append((given, named)) or fit(*given, **named)
        )
        attack.check(oracle.budget, POOL)
        attack.run(oracle, POOL, thief)
        (moved,) = [metric.value for metric in thief.found if metric.name == "attack/moved"]
        assert oracle.used == 40 and moved > 0.01
    (_, ids, found, _), held = seen[0][0], seen[0][1]["held_out"]
    api = in_front_of(
        Victim("colours", Colours(), "probabilities"), POOL, context(tmp_path), 40, build.make(cfg.defense)
    )
    assert len(ids) == 30 and len(held.ids) == 10 and not set(ids) & set(held.ids)
    for rows, about in ((found, ids), (held.answers, held.ids)):
        torch.testing.assert_close(rows.sum(1), torch.ones(len(rows)))
        assert float((rows - api.ask(about)).abs().sum(1).max()) > 0.01
    assert torch.equal(found, seen[1][0][2]) and torch.equal(held.answers, seen[1][1]["held_out"].answers)


def test_what_the_attacker_takes_the_defense_for_is_part_of_the_key() -> None:
    known = identity(composed("attack=partial_bayes", "defense=mad", "defense.seed=3"))
    assert known["attack"]["defense"] == known["defense"] == {"name": "mad", "seed": 3}
    other = "attack.defense={_target_: fmsteal.defenses.mad.MAD, epsilon: 0.1}"
    wrong = identity(composed("attack=partial_bayes", "defense=mad", "defense.seed=3", other))
    assert wrong["attack"]["defense"] == {"name": "mad", "epsilon": 0.1} and wrong["defense"] == known["defense"]


def test_the_attackers_copy_takes_the_options_that_the_defense_takes() -> None:
    """Also a whole float where an int is due; the job's own defense stays as it was given."""
    cfg = composed("attack=partial_bayes", "defense=rounding", "defense.decimals=3.0")
    copy = build.make(cfg.attack).defense
    assert type(copy.decimals) is int and copy.decimals == 3 and type(cfg.defense.decimals) is float
    assert type(build.make(cfg.defense).decimals) is int
    with pytest.raises(ConfigError, match=r"attack\.defense.*no option 'bogus'"):
        build.check(composed("attack=partial_bayes", "attack.defense={_target_: fmsteal.defenses.mad.MAD, bogus: 1}"))


class Narrow(RowDefense):
    """Tells whether it is the first class, and no more."""

    def width(self, victim: int) -> int:
        return 2

    def protect(self, answers: Tensor, ask: Ask) -> Tensor:
        return torch.stack([answers[:, 0], 1 - answers[:, 0]], dim=1)


def test_a_defense_of_another_width_is_refused_before_a_query_is_paid(tmp_path: Path) -> None:
    cfg, ctx = composed(*QUICK, "attack=partial_bayes", "attack.defense=null"), context(tmp_path)
    oracle = in_front_of(Victim("colours", Colours(), "probabilities"), POOL, ctx, 40)
    given = {"selection": build.make(cfg.attack.selection), "loss": build.make(cfg.attack.loss), "defense": Narrow()}
    attack = build.locate(cfg.attack._target_)(**given)
    with pytest.raises(ConfigError, match=r"Narrow turns 4 classes into 2 numbers"):
        attack.run(oracle, POOL, AttackContext(build.make(cfg.thief), ctx))
    assert oracle.used == 0


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (("attack.rows=1",), r"attack\.rows must be at least 2"),
        (("attack.concentration=0",), r"attack\.concentration above 0"),
        (("attack.tolerance=-1",), r"attack\.tolerance must be 0 or more"),
        (("attack=ddae", "attack.hidden=[3]"), r"attack\.hidden must be two widths"),
        (("attack=ddae", "attack.restorer.batch_size=1"), r"batch_size must be at least 2"),
        (("attack=ddae", "+attack.restorer.label_smoothing=0.1"), r"label_smoothing has no effect"),
        (("defense=prada",), r"Prada cannot be simulated by an attacker.*attack=top1"),
        (("defense=gradient_redirection",), r"GradientRedirection cannot be simulated"),
        (("defense=chain", "+defense@defense.of.a=top_k", "+defense@defense.of.b=mmd"), r"MMD cannot be simulated"),
    ],
)
def test_what_cannot_work_is_refused_when_the_attack_is_made(overrides: tuple[str, ...], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        build.make(composed("attack=partial_bayes", *overrides).attack)


def test_a_budget_that_does_not_fit_is_refused() -> None:
    pool = Images(np.zeros((900, 3, 4, 4), np.uint8), "pool")
    attack = build.make(composed("attack=partial_bayes", "attack.rows=500").attack)
    attack.check(Budget(500), pool)
    with pytest.raises(ConfigError, match=r"attack\.rows=500 is fewer than the 501 images"):
        attack.check(Budget(501), pool)
    with pytest.raises(ConfigError, match=r"budget is 3 queries, but attack\.prior=shadow trains 2 first thieves"):
        attack.check(Budget(3), pool)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> tuple[Victim, tuple[str, ...]]:
    """A head on a public trunk, and the thief that has the same trunk."""
    file = linear_api.weights(tmp_path_factory.mktemp("trunk"), 0)
    overrides = (*linear_api.TRUNK, f"thief.backbone.weights={file}")
    return linear_api.a_victim(build.make(composed(*overrides).thief).backbone), overrides


QUICK_RESTORER = ("attack.restorer.optimizer=adam", "attack.restorer.batch_size=256", "attack.restorer.epochs=5")
BETTER = {  # how much of the L1 distance from the clean answers is left, at most
    ("partial_bayes", "modelguard_w"): 0.5,
    ("partial_bayes", "reverse_sigmoid"): 0.75,
    ("ddae", "modelguard_w"): 0.95,  # 1e-4 is all that says which of two classes is the top one
    ("ddae", "reverse_sigmoid"): 0.75,
}


@pytest.mark.parametrize(
    ("name", "defense"), [pytest.param(*pair, marks=pytest.mark.slow if "ddae" in pair else ()) for pair in BETTER]
)
def test_recovered_answers_are_nearer_to_the_clean_ones(
    name: str, defense: str, victim: tuple[Victim, tuple[str, ...]], tmp_path: Path
) -> None:
    made, thief = victim
    quick = QUICK_RESTORER if name == "ddae" else ()
    small = ("attack.rows=20000", "thief.recipe.l2=0.1")  # which penalty is chosen depends on a feature's last bits
    cfg = composed(*thief, f"defense={defense}", f"attack={name}", *small, *quick)
    ctx, ids, attack = context(tmp_path), np.arange(300), build.make(cfg.attack)
    clean = made.answer(made.raw(linear_api.POOL, ids, ctx))
    answers = in_front_of(made, linear_api.POOL, ctx, 300, build.make(cfg.defense)).ask(ids)
    copy = Simulation(attack.defense, linear_api.CLASSES, linear_api.POOL, ctx.seed)
    found = attack.recover(answers, ids, linear_api.POOL, copy, AttackContext(build.make(cfg.thief), ctx))
    before, after = (float((rows - clean).abs().sum(1).mean()) for rows in (answers, found))
    print(f"{name} {defense}: mean L1 {before:.3f} -> {after:.3f}")
    assert after < BETTER[name, defense] * before
