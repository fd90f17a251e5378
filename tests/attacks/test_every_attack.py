"""Every attack, by its being there: it runs as configured, within its budget, and returns a fitting thief."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmsteal.attacks.base import AttackContext
from fmsteal.base.errors import BudgetExceeded, ConfigError
from fmsteal.config import build
from fmsteal.config.answers import choices
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Budget
from fmsteal.training.inference import compute_outputs
from tests.attacks import embedding_api
from tests.support import colour_api
from tests.support.composing import composed
from tests.support.small_task import context

SMALL_DFME = ("attack.batch=8", "attack.noise=8", "attack.width=8", "attack.size=16")  # 256 images make no smoke
UNDONE = ("defense=modelguard_w", "attack.rows=200")  # what an attacker undoes that knows the defense
RESTORED = (*UNDONE, "attack.restorer.epochs=1")
RECOVERED = ("attack.recovery.shadows=2", "attack.recovery.pairs=1", "attack.recovery.restorer.epochs=1")
SMALLER = {
    "dfme": SMALL_DFME,
    "dfme_standardised": SMALL_DFME,
    "partial_bayes": UNDONE,
    "ddae": RESTORED,
    "ddae_plus": RESTORED,
    "besa": RECOVERED,
    "besa_direct": (*RECOVERED, "attack.recovery.trunk.size=32"),
}
FROZEN = ("task=embed", "thief=encoder_efficientnet_lite0_probe", "thief.backbone.size=32")  # a public trunk, kept
LITE0 = ("thief=efficientnet_lite0", "thief.backbone.size=32")  # the one trunk whose weights are always at hand
OTHERS = ("~attack.candidates.efficientnet_lite1", "~attack.candidates.efficientnet_lite2")
TRUNK = (*LITE0, *colour_api.QUICK[len(colour_api.THIEF) :])
MAPS = dict.fromkeys(["linear_map", "repeat_average_map", "sybil_remap_map", "besa", "public_encoder"], FROZEN)
QUICK = {**MAPS, "solve": TRUNK, "trunk_inference": (*TRUNK, *OTHERS)}
ASK_NOTHING = {"pretrain", "public_encoder", "own_data", "own_data_ceiling"}
OWN_WIDTH = {"pretrain", "public_encoder"}
LABELLED = replace(colour_api.POOL, labels=np.arange(80) % colour_api.CLASSES, classes=tuple("abcd"))
EMBED = sorted(choices("attack", "embeddings"))
CLASSIFY = sorted(choices("attack", "probabilities"))
NAMES = EMBED + CLASSIFY
KINDS = {  # the others differ from one of these in a part or a setting
    "stolen_encoder", "cont_steal", "direct", "linear_map", "besa", "pretrain", "knockoff", "activethief", "jbda",
    "dfme", "solve", "trunk_inference", "partial_bayes", "ddae", "own_data", "mixmatch",
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_an_attack_runs_within_its_budget(name: str, tmp_path: Path) -> None:
    api, quick = (embedding_api, embedding_api.QUICK) if name in EMBED else (colour_api, colour_api.QUICK)
    cfg = composed(*QUICK.get(name, quick), f"attack={name}", *SMALLER.get(name, ()))
    ctx, budget = context(tmp_path), 0 if name in ASK_NOTHING - {"pretrain"} else 60
    attack, learner, oracle = build.make(cfg.attack), build.make(cfg.thief), api.oracle_for(ctx, budget)
    attack.check(oracle.budget, api.POOL)
    getattr(attack, "check_thief", lambda thief: None)(learner)
    thief = attack.run(oracle, api.POOL, AttackContext(learner, ctx, labelled=LABELLED))
    assert oracle.used == len(Ledger(ctx.run_dir / "ledger.bin", "job")) <= 60
    assert oracle.used == 0 if name in ASK_NOTHING else oracle.used > 45
    outputs = compute_outputs(thief, api.POOL, np.arange(3), ctx)
    assert outputs.isfinite().all() and (outputs.shape == (3, oracle.width) or name in OWN_WIDTH)


@pytest.mark.parametrize("name", NAMES)
def test_no_attack_takes_a_budget_of_nothing_for_something(name: str) -> None:
    api, quick = (embedding_api, embedding_api.QUICK) if name in EMBED else (colour_api, colour_api.QUICK)
    attack = build.make(composed(*QUICK.get(name, quick), f"attack={name}").attack)
    wrong = Budget(60) if name in ASK_NOTHING - {"pretrain"} else Budget(0)
    with pytest.raises(ConfigError, match=f"[Bb]udget (is|of) {wrong.queries} queries"):
        attack.check(wrong, api.POOL)


@given(
    st.lists(st.tuples(st.sampled_from(["pool", "images"]), st.integers(0, 9), st.integers(0, 1)), max_size=12),
    st.integers(1, 30),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_schedule_of_questions_gets_an_answer_for_nothing(
    tmp_path_factory: pytest.TempPathFactory, schedule: list[tuple[str, int, int]], budget: int
) -> None:
    """Whatever is asked, in whatever order, by whomever: the ledger grows by what is answered, within the budget."""
    ctx = context(tmp_path_factory.mktemp("schedule"))
    oracle, answered = colour_api.oracle_for(ctx, budget), 0
    for way, count, client in schedule:
        ids = np.arange(count) % 3  # the same images again and again
        try:
            images = colour_api.tensor(ids)
            answers = oracle.ask(ids, client) if way == "pool" else oracle.ask_images(images, client)
        except BudgetExceeded:
            assert answered + count > budget
        else:
            assert len(answers) == count
            answered += count
        assert oracle.used == answered <= budget
    assert len(Ledger(ctx.run_dir / "ledger.bin", "job")) == answered
