from __future__ import annotations

import torch

from fmsteal.defenses.surrogate import SIDE, Surrogate


def test_a_large_image_is_smoothed_before_it_is_made_small() -> None:
    """Of fine stripes every fourth column alone would be seen."""
    surrogate = Surrogate(5, seed=0)
    stripes = torch.tensor([0.0, 1.0, 1.0, 0.0]).repeat(SIDE).expand(1, 3, 4 * SIDE, 4 * SIDE)
    grey = torch.full((1, 3, SIDE, SIDE), 0.5)
    torch.testing.assert_close(surrogate(stripes), surrogate(grey), atol=2e-3, rtol=0)
    assert (surrogate(torch.ones_like(grey)) - surrogate(grey)).abs().max() > 0.02


def test_bytes_and_shares_of_one_are_the_same_image() -> None:
    surrogate, pixels = Surrogate(5, seed=0), torch.arange(3 * SIDE * SIDE).reshape(1, 3, SIDE, SIDE) % 256
    torch.testing.assert_close(surrogate(pixels.to(torch.uint8)), surrogate(pixels.float() / 255))
