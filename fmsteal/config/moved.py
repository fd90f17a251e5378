"""Old import paths of classes that have moved, so that the configs of earlier jobs stay readable."""

from __future__ import annotations

MOVED = {  # old module: new module
    "fmsteal.backbones": "fmsteal.networks.backbones",
    "fmsteal.learners": "fmsteal.training.learners",
    "fmsteal.modules.base": "fmsteal.training.recipe",
    "fmsteal.training": "fmsteal.training.trainer",
}


def find_current(target: str) -> str:
    """The current import path of a class, given the one in a config."""
    module, _, name = target.rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else target
