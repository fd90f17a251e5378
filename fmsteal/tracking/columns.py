"""What a run shows of its job in a tracking service: columns, tags, notes, and names that the service can sort by.

W&B advises dashes or underscores in place of dots in the names of config columns, and cannot sort or filter by a figure
whose name holds other characters than letters, digits, underscores and the slashes of its sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from fmsteal.base.store import digest
from fmsteal.identity.keys import flatten
from fmsteal.tracking.base import RunInfo

LONGEST_TAG = 64  # characters that W&B allows
NONE = "none"
OLD = "axis."  # how the names of an axis's columns began in runs of version 0.1


def run_id(group: str | None, key: str) -> str:
    """The id of the run of a job or a cell, by its sweep's name and its key: the same each time it is run."""
    return digest([group, key])[:16]


def name_column(axis: str) -> str:
    """The config column of an axis: ``axis_victim``."""
    return f"axis_{axis}"


def spell_figure(name: str) -> str:
    """A figure's name in a service: ``test/agreement_at_5``, where ours is ``test/agreement@5``."""
    return name.replace("@", "_at_").replace(".", "_")


def spell_figures(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures by their names in a service."""
    return {spell_figure(name): value for name, value in figures.items()}


def spell_keys(value: Any) -> Any:
    """The same value with underscores in place of the dots in the keys of its dictionaries."""
    if isinstance(value, Mapping):
        return {str(key).replace(".", "_"): spell_keys(inner) for key, inner in value.items()}
    return [spell_keys(inner) for inner in value] if isinstance(value, list) else value


def make_columns(run: RunInfo) -> dict[str, Any]:
    """The flat columns by which runs are compared: the axes, and victim and thief together."""
    axis = {"victim_run": NONE, **run.axis}
    pair = f"{run.axis.get('victim', NONE)} <- {run.axis.get('thief', NONE)}"
    return {**{name_column(name): value for name, value in axis.items()}, "pair": pair}


def make_tags(run: RunInfo, axes: Sequence[str], given: Sequence[str]) -> list[str]:
    """The tags given, and the run's choice on each of the axes that has one: ``attack=knockoff``."""
    chosen = {name: run.axis.get(name) for name in axes}
    own = [f"{name}={value}"[:LONGEST_TAG] for name, value in chosen.items() if value not in (None, NONE)]
    return list(dict.fromkeys([*given, *own]))


def make_notes(run: RunInfo) -> str:
    """The config's ``notes`` as text: a line for each key, or the text that it is; empty if there are none."""
    notes = run.config.get("notes")
    if not isinstance(notes, Mapping):
        return str(notes or "")
    return "\n".join(f"{key}: {value}" for key, value in flatten(dict(notes)).items())


def make_config(run: RunInfo) -> str:
    """The resolved config as YAML."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(run.config)))
