"""Checks a job's columns and settings against the identity of its theft and the chosen config files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fmsteal.report.checks.findings import Findings
from fmsteal.report.checks.records import Record, flatten

FIELDS = {"victim_adaptation", "thief_adaptation", "queries", "seed"}  # columns that are not a chosen file
NESTED = {"attack_selection": "attack/selection", "attack_strategy": "attack/strategy", "attack_loss": "attack/loss"}
ANY = -1  # stands for the seed in settings that the jobs of a cell share


def check_axes(
    result: Record,
    identity: Mapping[str, Any] | None,
    config: Mapping[str, Any],
    choices: Mapping[str, Any],
    name: str,
    found: Findings,
) -> None:
    """Compare a result's columns with its config and, if its theft can be read, with the theft's identity."""
    axis = result["axis"]
    for column in sorted({"data", "victim", "thief", "query", "attack", "defense", *axis} - FIELDS):
        chosen = str(choices.get(NESTED.get(column, column), "none"))
        found.require(axis.get(column) == chosen, name, f"axis {column} is {axis.get(column)!r}, chosen was {chosen!r}")
    if identity is None:
        return
    queries = identity["budget"].get("queries", result["budget"])
    for column, due in {"queries": queries, "seed": identity["seed"]}.items():
        found.require(axis.get(column) == due, name, f"axis {column} is {axis.get(column)!r}, by the identity {due!r}")
    for who in ("victim", "thief"):
        due = identity[who].get("adaptation", config[who].get("adaptation", "none"))
        said = axis.get(f"{who}_adaptation")
        found.require(said == due, name, f"axis {who}_adaptation is {said!r}, by the identity {due!r}")
    if isinstance(config["seed"], int):
        found.require(
            config["seed"] == identity["seed"],
            name,
            f"the config's seed is {config['seed']}, the identity's {identity['seed']}",
        )
    _check_settings(result["settings"], identity, name, found)


def _check_settings(settings: Record, identity: Mapping[str, Any], name: str, found: Findings) -> None:
    """Check that the settings are the flattened identity without the seed; what depends on the seed is `ANY`."""
    theirs, seed = flatten(identity), identity["seed"]
    theirs.pop("seed")
    for key in sorted({*settings, *theirs}):
        own, due = settings.get(key), theirs.get(key, seed)
        by_seed = own == ANY and due == seed
        if not by_seed and (own != due or key not in theirs):
            found.add(name, f"setting {key} is {own!r}, by the identity {theirs.get(key)!r}")
