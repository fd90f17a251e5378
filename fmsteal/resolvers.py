"""What ``${name:}`` stands for in the config, where a value hangs on the whole of it. Every process registers these."""

from __future__ import annotations

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fmsteal.schema import Stage
from fmsteal.sweep.identity import job_key, victim_key

OWN_LOG = ".SlurmLauncher"  # a launcher that gives each job a console of its own


def register() -> None:
    """Make ``${job_key:}`` and ``${console_level:}`` known."""
    OmegaConf.register_new_resolver("job_key", _folder, replace=True)
    OmegaConf.register_new_resolver("console_level", _console_level, replace=True)


def _folder(*, _root_: DictConfig) -> str:
    """A job's folder in its sweep's, or among the single runs."""
    choices = _root_.hydra.runtime.choices
    if _root_.stage is Stage.victims:
        return f"victims/{victim_key(_root_, choices)}"
    return job_key(_root_, choices)


def _console_level(of: str, *, _root_: DictConfig) -> str:
    """How loud a ``job`` or a ``sweep`` is where a person looks.

    Jobs of a sweep that share a console leave it to the sweep's display.
    """
    shared = _root_.hydra.mode is RunMode.MULTIRUN and not str(_root_.hydra.launcher._target_).endswith(OWN_LOG)
    return "WARNING" if _root_.quiet or (of == "job" and shared) else "INFO"
