"""What a Ray worker does first. It is pickled by value, so that it runs before anything of the project is imported.

Ray puts the folder of the driver's script, which may be the package itself, and the current folder on the path.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass


@dataclass
class Driver:
    """The process that runs the sweep: its current folder, import path and environment."""

    folder: str
    path: list[str]
    environment: dict[str, str]


def begin(place: Driver, shared: bytes, number: int, overrides: list[str]) -> str | None:
    """Compose a job and run it; return None, or what it raised."""
    import pickle
    import socket

    try:
        os.chdir(place.folder)
    except OSError as error:
        raise FileNotFoundError(
            f"{socket.gethostname()} has no folder {place.folder}: run the sweep in one that every node sees"
        ) from error
    sys.path[:] = place.path
    ours = ("PYTHONPATH", "PYTHONSAFEPATH")
    for name, value in place.environment.items():
        if name in ours or name not in os.environ:  # other variables that the node sets take precedence
            os.environ[name] = value

    context, config, task, singletons = pickle.loads(shared)
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.singleton import Singleton
    from hydra.core.utils import JobStatus, run_job, setup_globals
    from omegaconf import open_dict

    from fmsteal.base.on_hydra import error_of

    setup_globals()
    Singleton.set_state(singletons)
    cfg = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(cfg):
        cfg.hydra.job.id = f"{cfg.hydra.job.name}_{number}"
        cfg.hydra.job.num = number
    HydraConfig.instance().set_config(cfg)
    done = run_job(
        hydra_context=context,
        config=cfg,
        task_function=task,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    return None if done.status is JobStatus.COMPLETED else str(error_of(done))
