"""What less precise answers cost, against the pairs of cells written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.special import logit

import fmsteal
from fmsteal.risk.coarse import find_shift
from fmsteal.risk.measured import read_cells
from fmsteal.risk.precision import Precision
from tests.support.composing import composed

Z0 = logit(0.1)
LABELS = [(0.468, 0.712), (0.710, 0.881), (0.764, 0.944), (0.765, 0.944)]  # of sweeps/README.md and defenses/README.md


def test_the_shift_is_the_mean_over_pairs() -> None:
    due = np.mean([np.log((logit(coarse) - Z0) / (logit(fine) - Z0)) for coarse, fine in LABELS])
    found = find_shift(read_cells(), Precision("label"), "shared")
    assert found.size == pytest.approx(due) and (found.pairs, found.says) == (4, ())
    rounded = find_shift(read_cells(), Precision("decimals", 2), "shared")
    assert rounded.size == pytest.approx(np.log((logit(0.902) - Z0) / (logit(0.944) - Z0))) and rounded.says == ()


def test_the_document_quotes_the_shifts() -> None:
    text = Path(fmsteal.__file__).with_name("risk").joinpath("README.md").read_text().replace("\n", " ")
    quoted = {
        "labels": find_shift(read_cells(), Precision("label"), "shared"),
        "two decimals": find_shift(read_cells(), Precision("decimals", 2), "shared"),
        "three classes": find_shift(read_cells(), Precision("top", 3), "shared"),
        "labels where no trunk is shared": find_shift(read_cells(), Precision("label"), "other"),
    }
    for name, shift in quoted.items():
        assert f"{name} {f'{shift.size:.2f}'.replace('0.', '.')}" in text, name


@pytest.mark.parametrize(
    ("precision", "as_", "says"),
    [
        (Precision("decimals", 4), Precision("decimals", 2), "tell less: decimals-2"),
        (Precision("decimals", 1), Precision("label"), "tell less: label"),
        (Precision("top", 5), Precision("top", 3), "tell less: top-3"),
        (Precision("top", 2), Precision("label"), "tell less: label"),
    ],
)
def test_of_other_answers_it_is_that_of_measured_ones_that_tell_less(
    precision: Precision, as_: Precision, says: str
) -> None:
    found = find_shift(read_cells(), precision, "shared")
    assert found.size == find_shift(read_cells(), as_, "shared").size and says in found.says[0]


def test_what_was_measured_with_a_shared_trunk_alone_says_so() -> None:
    found = find_shift(read_cells(), Precision("top", 3), "other")
    assert found.says == ("That was measured with a shared trunk alone (top-3).",)
    assert find_shift(read_cells(), Precision("label"), "other").says == ()


@pytest.mark.parametrize(
    ("words", "due"),
    [
        ("defense=none", Precision()),
        ("defense=prada", Precision()),
        ("defense=client_limits", Precision()),
        ("defense=hard_label", Precision("label")),
        ("defense=rounding defense.decimals=3", Precision("decimals", 3)),
        ("defense=rounding defense.decimals=7", Precision()),
        ("defense=top_k defense.k=4", Precision("top", 4)),
        ("defense=top_k defense.k=1", Precision("label")),
        ("defense=top_k defense.k=10", Precision()),
        ("defense=mad defense.epsilon=0.5", Precision("perturbed", by="MAD")),
        ("defense=chain +defense@defense.of.a=top_k +defense@defense.of.b=rounding", Precision("top", 3)),
        ("defense=chain +defense@defense.of.a=prada +defense@defense.of.b=hard_label", Precision("label")),
    ],
)
def test_precision_is_read_from_the_defense(words: str, due: Precision) -> None:
    node = OmegaConf.to_container(composed(*words.split()).defense, resolve=True)
    assert isinstance(node, dict)
    assert Precision.of(node, classes=10) == due  # type: ignore[arg-type]
