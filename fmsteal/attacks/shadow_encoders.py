"""Shadow encoders: embeddings that an attacker makes of public features, of many kinds and units.

They stand for the target's undefended answers where only the look of an answer matters: the attacker does not know what
the target's numbers mean, but a defense leaves its marks on anybody's.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

KINDS = ("picked", "projected", "rectified")
UNITS = 0.03, 30.0  # of an entry's root mean square: drawn evenly in the logarithm


def draw_shadow(features: Tensor, width: int, seed: int) -> Tensor:
    """Embeddings of a random shadow encoder, float32 ``(n, width)``, of public features ``(n, d)``.

    The seed decides the kind, one of `KINDS`, and the unit: features as they are, of which each entry is one; a random
    projection of them; or one with a random bias, negative entries set to zero, as behind a ReLU.

    Args:
        features: of a public trunk, for the images asked about.
        width: of an embedding.
        seed: of the draw.
    """
    random, (n, d) = np.random.default_rng(seed), features.shape
    kind, rows = KINDS[int(random.integers(len(KINDS)))], features.float()
    if kind == "picked":
        found = rows[:, torch.from_numpy(random.choice(d, width, replace=width > d))]
    else:
        weight = torch.from_numpy(random.standard_normal((d, width)) / math.sqrt(d)).float()
        found = rows @ weight
        if kind == "rectified":
            bias = torch.from_numpy(random.uniform(-1, 1, width)).float()
            found = (found - found.mean(0) + bias * found.std()).clamp(min=0)
    unit = math.exp(random.uniform(math.log(UNITS[0]), math.log(UNITS[1])))
    size = float(found.square().mean().sqrt()) if n else 0.0
    return found * (unit / size) if size > 0 else found
