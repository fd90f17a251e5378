"""What a metric carries, and how a result holds it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from fmsteal.base.errors import ConfigError
from fmsteal.base.metric import Metric, index_by_name, make_metrics, record


def test_a_metric_without_a_label_is_called_by_its_name() -> None:
    assert Metric("test/knn_agreement", 0.5).label == "knn agreement"
    assert Metric("margin/distance", 0.5).label == "margin/distance"
    assert Metric("margin/distance", 0.5, "distance").label == "distance"


def test_a_value_of_any_kind_of_number_is_a_float_and_others_are_refused() -> None:
    for value in (1, np.float32(1), np.array(1), True):
        assert type(Metric("m", value).value) is float  # type: ignore[arg-type]
    for value in (None, "many", np.zeros(2)):
        with pytest.raises(ConfigError, match="The metric m must be one number, not"):
            Metric("m", value)  # type: ignore[arg-type]


def test_a_result_holds_figures_intervals_and_what_they_are() -> None:
    found = record([Metric("a/b", 0.5, "b", False, (0.4, 0.6)), Metric("c", 1.0, higher_is_better=None)])
    assert json.loads(json.dumps(found)) == {
        "metrics": {"a/b": 0.5, "c": 1.0},
        "intervals": {"a/b": [0.4, 0.6]},
        "about": {
            "a/b": {"label": "b", "higher_is_better": False},
            "c": {"label": "c", "higher_is_better": None},
        },
    }


def test_of_two_with_one_name_the_later_counts_and_plain_numbers_have_no_direction() -> None:
    first, other, again = Metric("a", 1), Metric("b", 2), Metric("a", 3)
    assert list(index_by_name([first, other, again]).values()) == [again, other]
    (plain,) = make_metrics({"margin/distance": 2})
    assert plain.value == 2 and plain.higher_is_better is None


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, fmsteal.base.metric; sys.exit(bool({'torch', 'numpy', 'hydra'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
