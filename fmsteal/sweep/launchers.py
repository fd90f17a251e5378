"""Makes up for what Hydra's launchers lack.

They do not refuse what cannot work before any job runs, survive dead Slurm jobs, or end the jobs they have launched.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmsteal.base import stopping
from fmsteal.base.errors import ConfigError

log = logging.getLogger(__name__)
EXTRAS = {  # a launcher's plugin: the extra that it needs, and a module that is there if the extra is installed
    "hydra_submitit_launcher": ("slurm", "hydra_plugins.hydra_submitit_launcher"),
    "hydra_joblib_launcher": ("joblib", "hydra_plugins.hydra_joblib_launcher"),
    "fmsteal_ray": ("ray", "ray"),
}
SBATCH = {  # options of the launcher by name, with sbatch's name for each
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "exclude": "exclude",
    "timeout_min": "time", "gpus_per_node": "gpus-per-node", "cpus_per_task": "cpus-per-task", "mem_gb": "mem",
    "gres": "gres", "mem_per_gpu": "mem-per-gpu", "mem_per_cpu": "mem-per-cpu", "cpus_per_gpu": "cpus-per-gpu",
    "gpus_per_task": "gpus-per-task", "nodes": "nodes", "tasks_per_node": "ntasks-per-node",
}  # fmt: skip
CANCEL_SECONDS = 2.0  # for Slurm to accept the cancellation


def make_ready(launcher: DictConfig) -> None:
    """Check that the chosen launcher can launch; ask Slurm whether it would accept a job, without submitting one.

    Raises:
        ConfigError: its plugin is not installed, an option is wrong, or Slurm or Ray is not available or refuses.
    """
    target = str(launcher.get("_target_", ""))
    package = target.split(".")[1] if target.startswith("hydra_plugins.") else None
    extra, module = EXTRAS.get(package or "", (None, ""))
    if extra is not None and not _installed(module):
        raise ConfigError(f"hydra/launcher={extra} needs more packages. Install them: pip install -e '.[{extra}]'.")
    if target.endswith(".RayLauncher"):
        from fmsteal.sweep import on_ray

        _typed(launcher, on_ray.Options, "Options of ray.init go into own: +hydra.launcher.own.labels=...")
        given = OmegaConf.to_container(launcher, resolve=True)
        on_ray.connect(on_ray.Options(**{str(k): v for k, v in given.items() if k != "_target_"}))  # type: ignore[union-attr]
    if target.endswith(".SlurmLauncher"):
        from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf

        from fmsteal.sweep import on_submitit

        more = "Others of sbatch go into additional_parameters: +hydra.launcher.additional_parameters.reservation=..."
        _typed(launcher, SlurmQueueConf, more)
        options = OmegaConf.to_container(OmegaConf.masked_copy(launcher, [*SBATCH, "additional_parameters"]))
        _accepted(options)  # type: ignore[arg-type]
        on_submitit.outlive_dead_jobs()


def require_sweeper(sweeper: DictConfig) -> None:
    """Check that the chosen sweeper can run.

    Raises:
        ConfigError: a package that it needs is not installed.
    """
    if str(sweeper.get("_target_", "")).endswith(".OptunaSweeper") and not _installed("optuna"):
        raise ConfigError("hydra/sweeper=optuna needs Optuna. Install it: pip install -e '.[optuna]'.")


@contextmanager
def cancel_when_stopped(launcher: DictConfig) -> Iterator[None]:
    """Launch jobs in the block; if the command is told to end meanwhile, jobs that run elsewhere are ended too."""
    target = str(launcher.get("_target_", ""))
    if target.endswith(".JoblibLauncher"):
        with stopping.run_workers():
            yield
    elif target.endswith(".SlurmLauncher"):
        try:
            yield
        except stopping.Stopped:
            cancel()
            raise
    else:  # jobs of this process, or of Ray, which ends them itself
        yield


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _typed(launcher: DictConfig, options: type, more: str) -> None:
    fields = OmegaConf.structured(options)
    for key in map(str, launcher):
        if key not in fields and key != "_target_":
            there = ", ".join(sorted(str(name) for name in fields if name != "_target_"))
            raise ConfigError(f"hydra.launcher has no option {key!r}. There are: {there}. {more}")
        if key not in fields or OmegaConf.is_interpolation(launcher, key):
            continue
        try:
            fields[key] = launcher[key]
        except OmegaConfBaseException as error:
            raise ConfigError(f"hydra.launcher.{key}={launcher[key]}: {str(error).splitlines()[0]}.") from error


def _accepted(options: Mapping[str, Any]) -> None:
    """Let Slurm check partition, account, limits and GPUs: `sbatch --test-only`."""
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise ConfigError(
            "hydra/launcher=slurm needs Slurm's sbatch and srun, which are not on the PATH. Run this on a login "
            "node of the cluster, or choose another launcher: hydra/launcher=joblib, hydra/launcher=ray, or none."
        )
    words = _options_of_sbatch(options)
    asked = _run("sbatch", "--test-only", *words, "--wrap=true")
    if asked.returncode == 0:
        return
    said = " ".join(line.split("error: ", 1)[-1] for line in asked.stderr.splitlines() if line.strip())
    raise ConfigError(f"Slurm would not take a job with {' '.join(words)}: {said.rstrip('.')}.{_advice(said)}")


def _options_of_sbatch(options: Mapping[str, Any]) -> list[str]:
    """The launcher's options as options of `sbatch`."""
    known = {SBATCH[k]: v for k, v in options.items() if k in SBATCH}
    if known.get("mem") is not None:
        known["mem"] = f"{known['mem']}G"
    known |= {str(k).replace("_", "-"): v for k, v in (options.get("additional_parameters") or {}).items()}
    return [f"--{k}" if v is True else f"--{k}={v}" for k, v in known.items() if v is not None and v is not False]


def _advice(said: str) -> str:
    """What to change in options that Slurm refused, judging by its message."""
    if "partition" in said:
        partitions = sorted(set(_run("sinfo", "-h", "-o", "%R").stdout.split()))
        return f" There are the partitions {', '.join(partitions)}: hydra.launcher.partition=..."
    if "gres" in said.lower() or "gpu" in said.lower():
        return " On a cluster without GPUs: hydra.launcher.gpus_per_node=null."
    return " Name one of yours: hydra.launcher.account=..." if "account" in said else ""


def _run(*command: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, start_new_session=True)


def cancel() -> None:
    """Cancel this command's pending and running Slurm jobs. Slurm ends them within its KillWait (30 s)."""
    from fmsteal.sweep import on_submitit

    arrays = on_submitit.find_arrays()
    words, refused = ["scancel", *sorted(arrays)], ""
    try:
        queue = _run("squeue", "--me", "-h", "-o", "%F", timeout=CANCEL_SECONDS / 2)
        words = ["scancel", *sorted(arrays.intersection(queue.stdout.split()))]
        if words[1:]:
            refused = _run(*words, timeout=CANCEL_SECONDS / 2).stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        refused = str(error)
    if refused:
        log.error("Slurm has not cancelled the jobs of this sweep (%s). Do it yourself: %s", refused, " ".join(words))
