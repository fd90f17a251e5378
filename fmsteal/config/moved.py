"""Where classes were before they moved: the configs of jobs that were run name them so, and stay readable."""

from __future__ import annotations

MOVED = {  # modules: before, and now
    "fmsteal.backbones": "fmsteal.networks.backbones",
    "fmsteal.learners": "fmsteal.training.learners",
    "fmsteal.modules.base": "fmsteal.training.recipe",
    "fmsteal.training": "fmsteal.training.trainer",
}


def find_current(target: str) -> str:
    """The import path that a class has now, of the one that a config gives."""
    module, _, name = target.rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else target
