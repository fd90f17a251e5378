"""fmsteal: model stealing on vision foundation models, as Hydra-configured experiment sweeps.

From Python (nothing is imported before it is used)::

    job = fmsteal.run(["budget=100", "seed=3"])     # runs a job; opens it if it is already finished
    jobs = fmsteal.run_sweep(["budget=100,500"])    # runs a sweep, like `fmsteal -m`
    job = fmsteal.load("outputs/runs/...")          # opens a job: job.result, job.thief(images), job.export(...)
    cfg = fmsteal.compose(["budget=100"])           # composes a job's config; nothing is run
    frame = fmsteal.table("outputs/sweeps/...")     # a pandas table with a row for each job
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmsteal.face.composing import compose
    from fmsteal.face.jobs import Job, load
    from fmsteal.face.running import run, run_sweep
    from fmsteal.face.tables import table

__version__ = "0.2.0"
__all__ = ["Job", "compose", "load", "run", "run_sweep", "table"]

_PLACES = {  # modules of the public names, none of which is also the name of a module in this package
    "Job": "fmsteal.face.jobs",
    "compose": "fmsteal.face.composing",
    "load": "fmsteal.face.jobs",
    "run": "fmsteal.face.running",
    "run_sweep": "fmsteal.face.running",
    "table": "fmsteal.face.tables",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PLACES:
        raise AttributeError(f"module 'fmsteal' has no attribute '{name}'")
    globals()[name] = found = getattr(import_module(_PLACES[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
