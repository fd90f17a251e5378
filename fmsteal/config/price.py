"""What a thousand answers cost: a victim that names a price comes before the budget."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf


def find_price(cfg: DictConfig) -> float:
    """US dollars for a thousand answers: ``victim.usd_per_1000``, or ``budget.usd_per_1000``; 0 if neither is given."""
    for key in ("victim.usd_per_1000", "budget.usd_per_1000"):
        price = OmegaConf.select(cfg, key, default=None, throw_on_missing=False)
        if isinstance(price, int | float) and not isinstance(price, bool):
            return float(price)
    return 0.0
