"""Checks that need no data: a job's options, and whether its query set is large enough for its budget."""

from __future__ import annotations

import numpy as np
from omegaconf import DictConfig

from fmsteal.data.images import Images
from fmsteal.job.batches import require_batches
from fmsteal.job.pipeline import Parts
from fmsteal.job.protocols import check_attack


def require_servable(cfg: DictConfig) -> None:
    """Build the job's parts, and let its attack check the budget against the query set if its size is known.

    Raises:
        ConfigError: a class refuses an option or its value, a batch is a single image, or the budget exceeds the
            query set.
        DataError: pretrained weights are not available.
    """
    parts = Parts.of(cfg)
    require_batches(parts)
    count = cfg.query.get("count")
    if isinstance(count, int) and count > 0 and str(cfg.query._target_).startswith("fmsteal.data."):
        nothing = np.broadcast_to(np.zeros((1, 3, 1, 1), np.uint8), (count, 3, 1, 1))  # takes no memory
        check_attack(parts.attack, parts.budget, Images(nothing, "a set of that size"))
