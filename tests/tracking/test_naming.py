from __future__ import annotations

from typing import Any

import pytest

from fmsteal.identity.keys import victim_axes
from fmsteal.tracking.naming import LONGEST, find_chosen, find_varying, run_name

AXIS = {
    "task": "classify", "data": "digits", "victim": "vit_l16", "thief": "resnet18", "query": "glyphs", "budget": "1k",
    "attack": "knockoff", "defense": "none", "evaluation": "classify", "attack_selection": "random",
    "attack_strategy": "none", "attack_loss": "soft", "victim_adaptation": "probe", "thief_adaptation": "full",
    "queries": 1000, "seed": 0,
}  # fmt: skip


def jobs(*words: str) -> list[dict[str, Any]]:
    return [{"overrides": each.split()} for each in words]


@pytest.mark.parametrize(
    ("others", "name"),
    [
        (jobs("victim=vit_l16 seed=0", "victim=resnet50 seed=1"), "vit_l16 <- resnet18 · s0"),
        (
            jobs("attack=knockoff budget='1k' seed=0", "attack=jbda budget='500' seed=0"),
            "vit_l16 <- resnet18 · 1k · knockoff · s0",
        ),
        (jobs("attack/loss=soft seed=0", "attack/loss=hard seed=0"), "vit_l16 <- resnet18 · soft · s0"),
        (
            jobs("thief.adaptation=full victim=a", "thief.adaptation=probe victim=a"),
            "vit_l16 <- resnet18:full · s0",
        ),
        (jobs("query.root=/a seed=0", "query.root=/b seed=0"), "vit_l16 <- resnet18 · s0"),
        ([{"axis": AXIS}, {"axis": {**AXIS, "defense": "top_k"}}], "vit_l16 <- resnet18 · none · s0"),
    ],
)
def test_in_a_sweep_a_name_tells_what_its_jobs_do_not_share(others: list[dict[str, Any]], name: str) -> None:
    assert run_name(AXIS, others[0].get("overrides", ()), find_varying(others), "thief") == name


def test_a_swept_number_is_named_with_its_option() -> None:
    both = jobs("defense=top_k defense.k=1", "defense=top_k defense.k=5")
    axis = {**AXIS, "defense": "top_k"}
    assert [run_name(axis, job["overrides"], find_varying(both), "thief") for job in both] == [
        "vit_l16 <- resnet18 · k=1 · s0",
        "vit_l16 <- resnet18 · k=5 · s0",
    ]
    budgets = jobs("budget.queries=50", "budget.queries=70")
    assert "· 50 queries ·" in run_name({**AXIS, "queries": 50}, ["budget.queries=50"], find_varying(budgets), "thief")


def test_a_single_jobs_name_tells_what_is_not_the_default() -> None:
    axis = AXIS | {"victim": "efficientnet_lite0", "thief": "efficientnet_lite0", "budget": "2k5"}
    stem = "efficientnet_lite0 <- efficientnet_lite0"

    def name(words: list[str], **more: object) -> str:
        return run_name(axis | more, words, find_chosen(axis | more, words), "thief")

    assert name([]) == name(["attack=knockoff"]) == f"{stem} · s0"
    assert name(["attack=knockoff", "trainer=cpu"], attack="jbda") == f"{stem} · jbda · s0"
    words = ["experiment=smoke", "thief.recipe.epochs=3", "output=x", "data.root=/a/b"]
    assert name(words, budget="100", seed=7) == f"{stem} · 100 · epochs=3 · s7"
    both = ["victim.recipe.lr=0.1", "thief.recipe.lr=0.2", "victim.seed=4"]
    assert name(both) == f"{stem} · thief.lr=0.2 · victim.lr=0.1 · victim.seed=4 · s0"


def test_a_victims_name_leaves_out_what_it_does_not_hang_on() -> None:
    others = jobs("data=digits attack=a victim.recipe.epochs=1", "data=cifar10 attack=b victim.recipe.epochs=2")
    axis = victim_axes(AXIS, 3)
    assert run_name(axis, others[0]["overrides"], find_varying(others), "victim") == "vit_l16 · digits · epochs=1 · s3"
    assert axis.keys() == AXIS.keys() and axis["attack"] == axis["thief"] == "none"
    assert axis["queries"] is None, "a column of numbers holds no text"
    given = victim_axes(AXIS, None)  # a victim that is not trained here has no seed
    assert run_name(given, [], [], "victim") == "vit_l16"


def test_a_long_name_is_cut() -> None:
    words = [f"thief.recipe.option{i}=long" for i in range(20)]
    assert len(run_name(AXIS, words, find_chosen(AXIS, words), "thief")) == LONGEST
