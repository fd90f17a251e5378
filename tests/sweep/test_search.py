"""What a search refuses before it composes a job; searches with jobs are in `tests/e2e/test_search.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.sweep import launchers
from fmsteal.sweep.space import Parameter, Space
from tests.support.composing import SMOKE, composed

pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
from fmsteal.sweep.search import Search, SearchOptions

SPACE = Space((Parameter("thief.recipe.lr", "float", 0.1, 1.0),), ())


def search(*words: str, **given: Any) -> Search:
    master = composed(*SMOKE, "hydra/sweeper=optuna", "sweep_id=s", *words)
    return Search(SPACE, master, SearchOptions(**given))


@pytest.mark.parametrize(
    ("words", "given", "says"),
    [
        ((), {}, r"needs a figure to look for: metric=test/agreement"),
        (("metric=test/agreement", "stage=victims"), {}, r"leave out stage="),
        (
            ("metric=test/agreement", "hydra/launcher=slurm", "hydra.launcher.wait=false"),
            {},
            r"waits for the results.*leave out hydra\.launcher\.wait=false",
        ),
        (
            ("metric=test/agreement",),
            {"held_out": True},
            r"an attacker does not have.*metric=attack/held_out_agreement",
        ),
        (
            ("metric=ood/noise/agreement",),
            {"held_out": True},
            r"metric=ood/noise/agreement is measured on the victim's",
        ),
        (("metric=test/agreement",), {"n_trials": 0}, r"hydra\.sweeper\.n_trials must be .* at least 1, not 0"),
        (("metric=test/agreement",), {"n_jobs": 1.5}, r"hydra\.sweeper\.n_jobs must be"),
        (("metric=test/agreement",), {"direction": "up"}, r"maximize or minimize, not up"),
    ],
)
def test_what_cannot_be_searched_is_refused(words: tuple[str, ...], given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        search(*words, **given)


@pytest.mark.parametrize(("metric", "warns"), [("test/agreement", True), ("attack/held_out_agreement", False)])
def test_a_search_by_test_images_warns(metric: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        assert search(f"metric={metric}").metric == metric
    assert ("the best trial's figure is too good" in caplog.text) == warns


def test_a_metric_that_is_better_the_smaller_it_is_has_to_be_asked_for(tmp_path: Path) -> None:
    result = {
        "job_key": "k", "metrics": {"test/kl": 0.5}, "cost": {}, "about": {"test/kl": {"higher_is_better": False}},
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"metric=test/kl is the better the smaller.*direction=minimize"):
        search("metric=test/kl").read(result)
    assert search("metric=test/kl", direction="minimize").read(result) == 0.5


def test_optuna_is_asked_for_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    sweeper = composed("hydra/sweeper=optuna").hydra.sweeper
    launchers.require_sweeper(sweeper)
    monkeypatch.setattr(launchers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[optuna\]'"):
        launchers.require_sweeper(sweeper)
    launchers.require_sweeper(composed().hydra.sweeper)
