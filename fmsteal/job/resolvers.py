"""Resolvers of ``${name:}`` in the config, for values that depend on all of it. Every process registers them."""

from __future__ import annotations

from pathlib import Path

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fmsteal.config.schema import Stage
from fmsteal.identity.keys import find, job_key, victim_key

OWN_LOG = ".SlurmLauncher"  # the launcher that gives each job its own console


def register() -> None:
    """Register ``${job_key:}`` and ``${console_level:}``."""
    OmegaConf.register_new_resolver("job_key", _folder, replace=True)
    OmegaConf.register_new_resolver("console_level", _console_level, replace=True)


def _folder(*, _root_: DictConfig) -> str:
    """The name of a job's folder below its sweep's or the single runs'; an existing one keeps its slug."""
    choices = _root_.hydra.runtime.choices
    sweeps = _root_.hydra.mode is RunMode.MULTIRUN
    parent = Path(_root_.hydra.sweep.dir) if sweeps else Path(_root_.output) / "runs"
    if _root_.stage is Stage.victims:
        return f"victims/{find(parent / 'victims', victim_key(_root_, choices)).name}"
    return find(parent, job_key(_root_, choices)).name


def _console_level(of: str, *, _root_: DictConfig) -> str:
    """The log level of a ``job`` or a ``sweep`` on the console.

    Jobs of a sweep that share a console leave it to the sweep's display.
    """
    shared = _root_.hydra.mode is RunMode.MULTIRUN and not str(_root_.hydra.launcher._target_).endswith(OWN_LOG)
    return "WARNING" if _root_.quiet or (of == "job" and shared) else "INFO"
