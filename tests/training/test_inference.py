"""Features of a set that was joined of others: each image's are found by the set that it came from, in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmsteal.data.images import Images, content_digest, join
from fmsteal.training import inference
from tests.support.small_task import context, part

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
WHOLE = Images(PIXELS, content_digest(PIXELS))


def parts_of(pixels: np.ndarray, *ends: int) -> list[Images]:
    return [Images(some, content_digest(some)) for some in np.split(pixels, ends)]


@pytest.mark.parametrize("ids", [[], [3], [11, 0, 4, 5, 4, 1], list(range(12))])
def test_features_are_found_by_part(ids: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thief = part("thief", "thief=efficientnet_lite0", "thief.backbone.size=32").build(3)
    ctx, passed, in_batches = context(tmp_path), list[int](), inference.run_in_batches

    def counted(model: nn.Module, rows: Any, count: int, ctx: Any) -> Tensor:
        passed.append(count)
        return in_batches(model, rows, count, ctx)

    monkeypatch.setattr(inference, "run_in_batches", counted)
    subset = WHOLE.subset(np.array([7, 2]))
    pixels = np.concatenate([PIXELS[[7, 2]], PIXELS[2:]])
    both = join([subset, *parts_of(PIXELS[2:], 3, 4)], pixels)
    found = inference.penultimate(thief, both, np.array(ids, np.int64), ctx)
    assert len(found) == len(ids) and sum(passed) == len(set(ids))
    wanted = inference.compute_outputs(thief.backbone, both, np.array(ids, np.int64), ctx)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    passed.clear()
    more = join(both.parts[:3], pixels[:6])  # what another round, or job, has of them
    inference.penultimate(thief, more, np.array([i for i in ids if i < 6], np.int64), ctx)
    inference.penultimate(thief, WHOLE, np.array([(7, 2)[i] for i in ids if i < 2], np.int64), ctx)
    assert sum(passed) == 0


def test_a_joined_set_is_known_by_its_parts_and_their_order() -> None:
    one, two = parts_of(PIXELS, 5)
    assert join([one, two], PIXELS).digest == join(parts_of(PIXELS.copy(), 5), PIXELS).digest
    others = (join([two, one], np.roll(PIXELS, 7, axis=0)), join([one], PIXELS[:5]), WHOLE)
    assert len({join([one, two], PIXELS).digest, *(other.digest for other in others)}) == 4
