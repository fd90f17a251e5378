"""T3A against loops written from the paper and from what E3's code does, one image at a time and in batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fmsteal.base.errors import ConfigError
from fmsteal.config import build
from fmsteal.evaluation.base import Pair, measure_all, sample
from fmsteal.evaluation.t3a import T3A, MixedT3A
from fmsteal.training.inference import penultimate
from fmsteal.victims.base import Victim
from tests.support.composing import composed
from tests.support.small_task import TASK, context, part


def loop(z: np.ndarray, w: np.ndarray, b: np.ndarray, how: T3A) -> np.ndarray:
    """The paper's algorithm 1: sets of supports, one a class, filtered by entropy."""

    def entropy(logits: np.ndarray) -> float:
        p = np.exp(logits - logits.max())
        p /= p.sum()
        return float(-(p * np.log(p)).sum())

    supports: dict[int, list[tuple[float, np.ndarray]]] = {c: [] for c in range(len(w))}

    def take(x: np.ndarray) -> None:
        logits = w @ x + b
        supports[int(logits.argmax())].append((entropy(logits), x))

    for row in w:
        take(row)
    out = []
    for number, start in enumerate(range(0, len(z), how.batch)):
        batch = z[start : start + how.batch]
        for x in batch:
            take(x)
        centres = []
        for c in range(len(w)):
            best = sorted(supports[c], key=lambda pair: pair[0])[: how.keep]
            total = sum((x / np.linalg.norm(x) for _, x in best), np.zeros(z.shape[1]))
            centres.append(total / max(np.linalg.norm(total), 1e-12))
        mixed = how.share * np.array(centres) + (1 - how.share) * w
        out += [w @ x + b if number < how.wait else mixed @ x + (b if how.bias else 0) for x in batch]
    return np.array(out)


@pytest.mark.parametrize(
    "how",
    [
        T3A(batch=1), T3A(batch=7, keep=3), T3A(batch=7, keep=None), T3A(keep=1, batch=32),
        MixedT3A(batch=16), MixedT3A(batch=16, keep=4, wait=1), T3A(share=0.5, batch=200, bias=True),
    ],
    ids=str,
)  # fmt: skip
def test_adjusted_logits_are_the_papers(how: T3A) -> None:
    torch.manual_seed(0)
    head = nn.Linear(6, 5)
    z = torch.randn(150, 6) + 2 * torch.randn(5, 6)[torch.randint(5, (150,))]
    due = loop(z.double().numpy(), head.weight.detach().double().numpy(), head.bias.detach().double().numpy(), how)
    found = how.adjust(z, head)
    torch.testing.assert_close(found, torch.from_numpy(due).float(), rtol=1e-5, atol=1e-5)


def test_it_helps_where_the_test_features_have_moved() -> None:
    """Features of test images lie elsewhere than those that the head was made for."""
    torch.manual_seed(0)
    centres = 2 * torch.eye(4, 20)
    head = nn.Linear(20, 4)
    with torch.no_grad():
        head.weight.copy_(centres + 0.9 * torch.randn(4, 20))
        head.bias.zero_()
    labels = torch.randint(4, (2000,))
    z = 3 * centres[labels] + torch.randn(2000, 20)
    plain = (head(z).argmax(1) == labels).double().mean()
    adjusted = (T3A().adjust(z, head).argmax(1) == labels).double().mean()
    assert adjusted > plain + 0.03


def measured(folder: Path, evaluation: str, thief: nn.Module | None = None) -> dict[str, float]:
    ctx, learner = context(folder), part("thief")
    model = learner.build(3) if thief is None else thief
    rows = torch.eye(3)[torch.arange(len(TASK.test)) % 3]
    cfg = composed(f"evaluation={evaluation}")
    build.check(cfg)
    found: Any = build.make(cfg.evaluation)
    pair = Pair(Victim("v", nn.Flatten()), model, (part("victim"), learner), TASK, ctx, (rows, rows))
    return measure_all(found, pair, ctx).values


@pytest.mark.parametrize("name", ["t3a", "t3a_e3"])
def test_figures_are_of_the_adjusted_thief_in_the_order_it_saw_the_images(name: str, tmp_path: Path) -> None:
    found = measured(tmp_path, name)
    thief, ctx = part("thief").build(3), context(tmp_path)
    order = sample(TASK.test, len(TASK.test))
    how = T3A() if name == "t3a" else MixedT3A()
    labels = how.adjust(penultimate(thief, TASK.test, order, ctx), thief.head).argmax(1).numpy()
    assert found[f"{name}/agreement"] == pytest.approx(float((labels == order % 3).mean()))
    assert found[f"{name}/accuracy"] == pytest.approx(float((labels == TASK.test.labels[order]).mean()))
    assert found[f"{name}/changed"] == pytest.approx(float((labels != order % 3).mean()))


def test_a_thief_without_a_head_has_no_figure_and_the_rest_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = measured(tmp_path, "t3a", nn.Flatten())
    assert "test/agreement" in found and not any(name.startswith("t3a") for name in found)
    assert "evaluation=t3a adjusts the last layer of a thief, and a Flatten shows none" in caplog.text


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"share": 1.5}, {"batch": 0}, {"wait": -1}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.also\.t3a_e3 needs keep >= 1"):
        MixedT3A(**wrong)
