"""What can be known to be wrong with a job before anything of it is made: its options, and a budget it cannot spend."""

from __future__ import annotations

import numpy as np
from omegaconf import DictConfig

from fmsteal.data.images import Images
from fmsteal.job.batches import require_batches
from fmsteal.job.pipeline import Parts
from fmsteal.job.protocols import check_attack


def require_servable(cfg: DictConfig) -> None:
    """Make the job's parts, and let its attack look at budget and query set, as far as its size can be known.

    Raises:
        ConfigError: an option that a class does not take, or a value it refuses; a budget beyond the query set.
        DataError: pretrained weights that are not there.
    """
    parts = Parts.of(cfg)
    require_batches(parts)
    count = cfg.query.get("count")
    if isinstance(count, int) and count > 0 and str(cfg.query._target_).startswith("fmsteal.data."):
        nothing = np.broadcast_to(np.zeros((1, 3, 1, 1), np.uint8), (count, 3, 1, 1))  # takes no memory
        check_attack(parts.attack, parts.budget, Images(nothing, "a set of that size"))
