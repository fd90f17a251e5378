"""Kinds of work: jobs that take about as long as each other, judged by their settings. Imports no torch.

Two jobs are of one kind if they differ in seeds alone, or in numbers that change what is computed but not how much of
it: learning rates, weight decay, schedules. Settings are flat, as `fmsteal.identity.keys.settings` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmsteal.base.store import digest
from fmsteal.identity.keys import OF_VICTIM_PARTS

_IDLE = {  # options, by their last word, on which the time does not depend
    "seed", "edition", "lr", "momentum", "weight_decay", "schedule", "milestones", "gamma", "warmup_epochs",
    "hold_epochs", "label_smoothing",
}  # fmt: skip
_VICTIM = ("victim.name", "victim.adaptation", "victim.backbone")  # what an answer's time depends on
_LOOSE = ("attack", "defense")  # near kinds have the same classes of these, with any options


def name_theft_kind(settings: Mapping[str, Any], near: bool = False) -> str:
    """The kind of a theft, whatever its budget: 16 hex digits. A ``near`` one has any options of attack and defense."""
    counted = {}
    for key, value in settings.items():
        part = key.partition(".")[0]
        if _is_idle(key) or part == "budget" or (part == "victim" and not key.startswith(_VICTIM)):
            continue
        if near and part in _LOOSE and not key.endswith(f"{part}.name"):
            continue
        counted[key] = value
    return digest(["theft", counted])[:16]


def name_victim_kind(settings: Mapping[str, Any]) -> str:
    """The kind of a victim: what its training takes."""
    counted = {k: v for k, v in settings.items() if k.partition(".")[0] in OF_VICTIM_PARTS and not _is_idle(k)}
    return digest(["victim", counted])[:16]


def _is_idle(key: str) -> bool:
    return key.rpartition(".")[2] in _IDLE or ".schedule." in key
