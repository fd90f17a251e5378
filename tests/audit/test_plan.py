"""Which thefts an audit makes: what fits the limits, what is left out and why, what is refused by name."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from fmsteal.audit.plan import AuditPlan, make_plan
from fmsteal.audit.request import make_request
from fmsteal.base.errors import ConfigError
from tests.support.composing import SMALL

YES = "i_am_authorised=true"
HTTP = ("victim=http", "victim.name=mine", "victim.url=http://127.0.0.1:9", "victim.usd_per_1000=2")
THIEF = ("thief=resnet10t", "thief.backbone.model=test_resnet", "tracker=none", "trainer=cpu")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(*words: str, attacks: str = "knockoff", defenses: str = "none", **options: object) -> AuditPlan:
    return make_plan(make_request([YES, *words], [attacks], [defenses], **options))  # type: ignore[arg-type]


def tell(plan: AuditPlan) -> Counter[tuple[str, str, int]]:
    return Counter((theft.attack, theft.defense, theft.queries) for theft in plan.thefts)


def test_each_attacker_meets_each_defense_at_each_budget_and_those_that_ask_nothing_once(tmp_path: Path) -> None:
    plan = planned(
        *SMALL, "data.train_count=600", attacks="own_data,knockoff", defenses="prada", ladder="20,60", seeds=2,
        queries=320,
    )  # fmt: skip
    due = {("own_data", "none", 0): 2, **{("knockoff", d, n): 2 for d in ("none", "prada") for n in (20, 60)}}
    assert tell(plan) == Counter(due)
    assert (plan.queries, plan.usd, plan.besides, plan.gaps) == (320, pytest.approx(0.48), 0, [])
    assert plan.folder.parent == Path("outputs/sweeps").absolute() or plan.folder.parent == Path("outputs/sweeps")
    swept = [[word for word in line if word.startswith(("attack=", "defense=", "budget"))] for line in plan.commands]
    assert swept == [
        ["attack=own_data", "defense=none", "budget.queries=0"],
        ["attack=knockoff", "defense=none,prada", "budget.queries=20,60"],
    ]
    assert all("tracker=none" in line and "hydra.sweeper.mixed=true" in line for line in plan.commands)
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_what_a_default_shelf_cannot_try_is_left_out_with_the_reason() -> None:
    plan = make_plan(make_request([YES, *SMALL], defenses=["none"]))  # 300 images to ask about
    assert tell(plan) == Counter({(a, "none", n): 1 for a in ("knockoff", "top1") for n in (100, 300)})
    gaps = {gap.what: gap.why for gap in plan.gaps}
    assert "data.train_count=N" in gaps["the attacker own_data"]
    assert "the query set holds 300 images" in gaps["knockoff with 1,000 queries"]
    assert "trunk" in gaps["the attacker solve"] and "No job was run" not in gaps["the attacker solve"]


def test_the_default_ladder_is_cut_to_the_limit_and_a_given_one_is_refused() -> None:
    plan = planned(*SMALL, usd=0.45)
    assert tell(plan) == Counter({("knockoff", "none", 100): 1}) and plan.usd == pytest.approx(0.15)
    assert [gap.what for gap in plan.gaps if "limits" in gap.why] == ["thefts of 300 queries"]
    says = "These 2 thefts may ask 400 queries for 0.60 USD, more than --usd 0.45. Choose a shorter --ladder"
    with pytest.raises(ConfigError, match=re.escape(says)):
        planned(*SMALL, usd=0.45, ladder="100,300")
    with pytest.raises(ConfigError, match=r"may ask 100 queries, more than --queries 99\. That is with the smallest"):
        planned(*SMALL, queries=99)


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        (("bugdet=1",), {}, "Did you mean 'budget'"),
        (("victim=http",), {}, "victim.name must be given"),
        (HTTP, {}, "is asked over a network, and may cost money: say how much at most, --queries N or --usd USD"),
        ((*HTTP, "evaluation=ood"), {"queries": 9000}, "evaluation=ood may ask a service about more images"),
        ((), {"attacks": "knockof"}, "knockoff"),
        ((), {"attacks": "rda"}, "attack"),
        ((), {"attacks": "own_data"}, "data.train_count=N"),
        (("data.train_count=600",), {"attacks": "own_data"}, "No attacker of this audit asks anything"),
        ((), {"defenses": "b4b"}, "is made for embeddings"),
        ((), {"defenses": "nonsense"}, "nonsense"),
        ((), {"ladder": "100,400"}, "the query set holds 300 images"),
        ((), {"name": "a/b"}, "is no name of a sweep"),
    ],
    ids=str,
)
def test_mistakes_are_named_before_anything_is_asked(
    words: tuple[str, ...], options: dict[str, object], says: str, tmp_path: Path
) -> None:
    own = THIEF if words[:1] == ("victim=http",) else SMALL
    with pytest.raises(ConfigError) as refused:
        planned(*own, *words, **options)  # type: ignore[arg-type]
    assert says in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_a_service_is_asked_to_measure_and_to_prepare_counts() -> None:
    with pytest.raises(
        ConfigError, match=r"688 queries \(608 of them to measure and to prepare\), more than --queries 687"
    ):
        planned(*THIEF, *HTTP, ladder="20,60", queries=687)


@pytest.mark.slow
def test_the_shelf_of_encoders_fits_the_default_target() -> None:
    plan = make_plan(make_request([YES, "task=embed"], defenses=["none"], ladder="100"))
    attacks = {theft.attack.partition(" ")[0]: theft.queries for theft in plan.thefts}
    assert attacks == {"public_encoder": 0, "linear_map": 100, "direct": 100, "stolen_encoder_k0": 100}
    assert plan.gaps == [] and plan.target.answers == "embeddings"
