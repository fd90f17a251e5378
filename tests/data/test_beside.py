"""Batches beside labelled ones: every other image as often as any, in an order that a resumed run finds again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fmsteal.data.beside import Beside
from fmsteal.data.images import Picked
from fmsteal.data.loader import TensorLoader


def numbered(labelled: int, others: int, batch: int, ratio: int = 1, each: int = 1, whole: bool = False) -> Beside:
    """Inputs that are their own numbers; others from 1000 on."""
    return Beside(
        torch.arange(labelled)[:, None],
        torch.arange(labelled),
        batch,
        7,
        others=1000 + torch.arange(others)[:, None],
        ratio=ratio,
        each=each,
        whole=whole,
    )


@given(st.integers(1, 20), st.integers(1, 30), st.integers(1, 8), st.integers(1, 3), st.integers(1, 3), st.booleans())
@settings(max_examples=60)
def test_every_other_image_comes_as_often_as_any(
    labelled: int, others: int, batch: int, ratio: int, each: int, whole: bool
) -> None:
    loader = numbered(labelled, others, batch, ratio, each, whole)
    plain = TensorLoader(loader.inputs, loader.targets, batch, 7, whole=whole)
    seen: list[int] = []
    for epoch in range(4):
        loader.set_epoch(epoch)
        plain.set_epoch(epoch)
        for (x, y, u), (want_x, want_y) in zip(loader, plain, strict=True):
            assert torch.equal(x, want_x) and torch.equal(y, want_y)  # labelled batches are what they are alone
            assert u.shape == (each * ratio * batch, 1)
            views = u.view(each, -1)
            assert bool((views == views[0]).all())
            seen += (views[0] - 1000).tolist()
    counts = np.bincount(seen, minlength=others)
    assert len(counts) == others and counts.max() - counts.min() <= 1


def test_an_epoch_depends_on_seed_and_epoch_alone() -> None:
    through = numbered(10, 23, 3)
    epochs = []
    for epoch in range(3):
        through.set_epoch(epoch)
        epochs.append([u for *_, u in through])
    resumed = numbered(10, 23, 3)
    resumed.set_epoch(2)
    for u, want in zip([u for *_, u in resumed], epochs[2], strict=True):
        torch.testing.assert_close(u, want, rtol=0, atol=0)
    assert not torch.equal(epochs[0][0], epochs[1][0])


@pytest.mark.parametrize("each", [1, 2, 3, 5])
def test_features_come_in_different_views(each: int) -> None:
    bank = torch.stack([100 * view + torch.arange(8) for view in range(3)])[..., None].float()
    loader = Beside(bank[:, :4], torch.zeros(4), 2, 0, others=bank, ratio=2, each=each, views=True)
    drawn = set()
    for _, _, u in loader:
        views, images = (u.view(each, 4) // 100).long(), u.view(each, 4).long() % 100
        assert bool((images == images[0]).all())
        for column in views.T.tolist():
            assert len(set(column)) == min(each, 3)
            drawn |= set(column[:1])
    assert len(drawn) > 1


def test_pixels_are_read_batch_by_batch() -> None:
    pixels = np.arange(6, dtype=np.uint8).repeat(12).reshape(6, 3, 2, 2)
    loader = Beside(
        Picked(pixels, np.array([5, 0])), torch.zeros(2), 2, 0, others=Picked(pixels, np.arange(1, 5)), each=2
    )
    (batch,) = list(loader)
    assert batch[2].shape == (4, 3, 2, 2) and batch[2].dtype == torch.uint8
    assert torch.equal(batch[2][:2], batch[2][2:]) and set(batch[2][:, 0, 0, 0].tolist()) <= {1, 2, 3, 4}


def test_there_must_be_others() -> None:
    with pytest.raises(ValueError, match="no other"):
        numbered(3, 0, 2)
