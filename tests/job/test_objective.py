from __future__ import annotations

from pathlib import Path

import pytest
import timm
from safetensors.torch import save_file

from fmsteal.base.errors import ConfigError
from fmsteal.job import objective
from fmsteal.records.results import Result
from tests.job.jobs import run_job
from tests.support.composing import SMOKE, composed

FIGURES: Result = {"job_key": "k", "metrics": {"test/agreement": 0.5, "test/kl": 1.0}, "cost": {"cost/queries": 3}}


def test_a_figure_is_one_of_the_metrics_or_of_the_cost() -> None:
    assert objective.read(FIGURES, "test/agreement") == 0.5 and objective.read(FIGURES, "cost/queries") == 3.0


def test_a_figure_that_the_job_lacks_is_refused_with_those_it_has() -> None:
    says = r"test/agrement: k has no such figure\. Did you mean test/agreement\? It has cost/queries, test/agreement, "
    with pytest.raises(ConfigError, match=says):
        objective.read(FIGURES, "test/agrement")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["metric=test/agrement"], r"Did you mean test/agreement\? This evaluation logs test/agreement, .*agreement@5"),
        (["metric=test/agreement@3"], r"test/agreement@5"),
        (["metric=ood/noise/agreement"], r"evaluation=\.\.\."),
        (["metric=attack/held_out_agreement"], r"set attack\.validation=0\.2"),
        (["metric=attack/held_out_agreement", "attack=dfme"], r"holds no answers out.*attack=knockoff"),
        (
            ["metric=attack/held_out_agreement", "attack.validation=0.2", "attack.by=macro_f1"],
            r"logs attack/held_out_macro_f1",
        ),
    ],
    ids=" ".join,
)
def test_what_will_certainly_not_be_logged_is_refused_before_anything_is_run(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        objective.require_logged(composed(*SMOKE, *words))


@pytest.mark.parametrize(
    "words",
    [
        [], ["metric=test/agreement"], ["metric=test/agreement@3", "evaluation.k=3"], ["metric=cost/usd"],
        ["metric=ood/noise/agreement", "evaluation=ood"], ["metric=honest/l1", "defense=rounding"],
        ["metric=attack/held_out_agreement", "attack.validation=0.2"], ["metric=attack/residual"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_may_be_logged_is_not_refused(words: list[str]) -> None:
    objective.require_logged(composed(*SMOKE, *words))


STEPS = ("attack.validation=0.2", "thief.recipe.epochs=3")
CONVEX = (
    "attack.validation=0.2",
    "thief.adaptation=probe",
    "thief.recipe.solver=convex",
    "thief.backbone.weights=WEIGHTS",
)


def publish_trunk(folder: Path) -> Path:
    """A small trunk's weights in a file, as somebody publishes them."""
    file = folder / "trunk.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), file)
    return file


@pytest.mark.parametrize("thief", [STEPS, CONVEX], ids=["steps", "convex"])
def test_agreement_on_held_out_answers_is_a_figure_of_the_job(tmp_path: Path, thief: tuple[str, ...]) -> None:
    result = run_job(tmp_path, *(word.replace("WEIGHTS", str(publish_trunk(tmp_path))) for word in thief))
    (curves,) = tmp_path.glob("thefts/*/curves.csv")
    told = {row.split(",")[2]: float(row.split(",")[3]) for row in curves.read_text().splitlines()[1:]}
    figure = result["metrics"]["attack/held_out_agreement"]
    assert figure == told["thief/best_held_out_agreement"] and 0 <= figure <= 1
    about = result["about"]["attack/held_out_agreement"]
    assert about == {"label": "agreement on held-out answers", "higher_is_better": True}


def test_the_figures_of_a_plain_evaluation_are_those_that_are_known_beforehand(tmp_path: Path) -> None:
    found = set(run_job(tmp_path)["metrics"])
    known = {*objective.OF_CLASSIFY, "test/agreement@5"}
    sometimes = {"test/kappa", "test/agreement_victim_wrong"}
    assert found <= known and known - found <= sometimes
