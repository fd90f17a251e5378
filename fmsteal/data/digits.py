"""scikit-learn's digits: 1,797 real scanned handwritten digits, 8x8, inside the scikit-learn package."""

from __future__ import annotations

import numpy as np

from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Images, Task, content_digest
from fmsteal.data.resize import enlarge


def digits(*, size: int = 32, test: int = 600, train_count: int | None = None, seed: int = 0) -> Task:
    """Load the task: ``test`` images set aside by ``seed``, the others (or ``train_count`` of them) for training.

    The 8x8 images (17 grey levels) are enlarged to ``size`` pixels, bilinearly, the same way as the `glyphs`.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    if size < 1 or not 0 < test < len(bunch.images):
        raise ConfigError(
            f"data.size must be at least 1 and data.test between 1 and {len(bunch.images) - 1}, not {size} and {test}."
        )
    pixels = enlarge(bunch.images / 16.0, size)
    labels = bunch.target.astype(np.int64)
    images = Images(pixels, content_digest(pixels, labels), labels, tuple(str(c) for c in bunch.target_names))
    order = np.random.default_rng(seed).permutation(len(images))
    return Task(images.subset(order[test:]), images.subset(order[:test])).reduced(train_count, None, seed)
