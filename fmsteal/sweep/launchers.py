"""Makes up for what Hydra's launchers lack.

They do not refuse what cannot work before any job runs, survive dead Slurm jobs, or end the jobs they have launched.
"""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from fmsteal.base import slurm, stopping
from fmsteal.base.errors import ConfigError

log = logging.getLogger(__name__)
EXTRAS = {  # a launcher's plugin: the extra that it needs, and a module that is there if the extra is installed
    "fmsteal_slurm": ("slurm", "submitit"),
    "hydra_joblib_launcher": ("joblib", "hydra_plugins.hydra_joblib_launcher"),
    "fmsteal_ray": ("ray", "ray"),
}
SBATCH = {  # options of the launcher by name, with sbatch's name for each
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "exclude": "exclude",
    "timeout_min": "time", "gpus_per_node": "gpus-per-node", "cpus_per_task": "cpus-per-task", "mem_gb": "mem",
    "gres": "gres", "mem_per_gpu": "mem-per-gpu", "mem_per_cpu": "mem-per-cpu", "cpus_per_gpu": "cpus-per-gpu",
    "gpus_per_task": "gpus-per-task", "nodes": "nodes", "tasks_per_node": "ntasks-per-node",
}  # fmt: skip
STAGES = ("victims", "thefts")  # options of the launcher that hold options for the jobs of one stage
ENDED_BADLY = {"FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"}
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
        _make_ray_ready(launcher)
    if target.startswith("hydra_plugins.fmsteal_slurm."):
        _make_slurm_ready(launcher)


def _make_ray_ready(launcher: DictConfig) -> None:
    from fmsteal.sweep import on_ray

    more = "Options of ray.init go into own: +hydra.launcher.own.labels=..."
    _require_typed(launcher, on_ray.Options, on_ray.STAGED, more)
    asked = _options_by_stage(launcher)
    on_ray.connect(*(on_ray.Options(**{k: v for k, v in given.items() if k != "_target_"}) for given in asked))


def _make_slurm_ready(launcher: DictConfig) -> None:
    from fmsteal.sweep import on_slurm, on_submitit

    more = "Others of sbatch go into additional_parameters: +hydra.launcher.additional_parameters.reservation=..."
    _require_typed(launcher, on_slurm.SlurmOptions, on_slurm.STAGED, more)
    if not slurm.is_here():
        raise ConfigError(
            "hydra/launcher=slurm needs Slurm's sbatch and srun, which are not on the PATH. Run this on a login "
            "node of the cluster, or choose another launcher: hydra/launcher=joblib, hydra/launcher=ray, or none."
        )
    for options in _options_by_stage(launcher):
        _accepted(options)
    on_submitit.outlive_dead_jobs()


def of_stage(launcher: DictConfig, stage: str) -> DictConfig:
    """The launcher's options for one of `STAGES`, without those of single stages; any launcher may have them."""
    own = OmegaConf.select(launcher, stage)
    given: Any = {} if own is None else OmegaConf.to_container(own, resolve=True)
    kept = launcher.copy()  # it keeps its parent, which its interpolations need
    with open_dict(kept):
        for name in STAGES:
            kept.pop(name, None)
        kept.update(given)
    return kept


def _options_by_stage(launcher: DictConfig) -> list[dict[str, Any]]:
    """The options of each stage's jobs; those of one stage if both are alike."""
    asked: list[Any] = [OmegaConf.to_container(of_stage(launcher, stage), resolve=True) for stage in STAGES]
    return asked if asked[0] != asked[1] else asked[:1]


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


def _require_typed(launcher: DictConfig, options: type, staged: Sequence[str], more: str) -> None:
    """Check a launcher's options, and those of them, the ``staged``, that are given for the jobs of one stage."""
    _typed(launcher, options, more)
    for stage in STAGES:
        own = OmegaConf.select(launcher, stage) or OmegaConf.create()
        _typed(own, options, more, f"hydra.launcher.{stage}", staged)


def _typed(
    given: DictConfig, options: type, more: str, where: str = "hydra.launcher", names: Sequence[str] | None = None
) -> None:
    """Check that options are known and have values of their types; ``names`` are the known ones, if not all are."""
    fields = OmegaConf.structured(options)
    known = sorted(names or [str(name) for name in fields])
    for key in map(str, given):
        if key not in known and key != "_target_":
            raise ConfigError(f"{where} has no option {key!r}. There are: {', '.join(known)}. {more}")
        if key not in fields or (names is None and OmegaConf.is_interpolation(given, key)):
            continue
        try:
            fields[key] = given[key]
        except OmegaConfBaseException as error:
            raise ConfigError(f"{where}.{key}={given[key]}: {str(error).splitlines()[0]}.") from error


def _accepted(options: Mapping[str, Any]) -> None:
    """Let Slurm check partition, account, limits and GPUs: `sbatch --test-only`. It does not check dependencies."""
    words = _options_of_sbatch(options)
    asked = slurm.ask("sbatch", "--test-only", *words, "--wrap=true")
    said = " ".join(line.split("error: ", 1)[-1] for line in asked.stderr.splitlines() if line.strip())
    if asked.returncode != 0:
        raise ConfigError(f"Slurm would not take a job with {' '.join(words)}: {said.rstrip('.')}.{_advice(said)}")
    _require_possible(str((options.get("additional_parameters") or {}).get("dependency") or ""))


def _require_possible(dependency: str) -> None:
    """Refuse a dependency that can never be met: Slurm starts a job after one that it does not know, at once.

    Raises:
        ConfigError: it names a job that Slurm does not know, or one that has failed and should have ended well.
    """
    where = f"hydra.launcher.additional_parameters.dependency={dependency}"
    if "?" in dependency:
        raise ConfigError(f"{where}: give the alternatives to a job of their own; here all are needed, with commas.")
    for kind, jobs in re.findall(r"(after\w*|aftercorr):([\d_:+]+)", dependency):
        for job in (word.partition("+")[0] for word in jobs.split(":")):
            state = slurm.show_state(job)
            if state is None:
                raise ConfigError(f"{where}: Slurm does not know the job {job}; name one that waits or runs (squeue).")
            if kind in ("afterok", "aftercorr") and state in ENDED_BADLY:
                raise ConfigError(f"{where}: the job {job} is {state}, so that jobs after it would never begin.")


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
        partitions = sorted(set(slurm.ask("sinfo", "-h", "-o", "%R").stdout.split()))
        return f" There are the partitions {', '.join(partitions)}: hydra.launcher.partition=..."
    if "gres" in said.lower() or "gpu" in said.lower():
        return " On a cluster without GPUs: hydra.launcher.gpus_per_node=null."
    return " Name one of yours: hydra.launcher.account=..." if "account" in said else ""


def cancel() -> None:
    """Cancel this command's pending and running Slurm jobs. Slurm ends them within its KillWait (30 s)."""
    from fmsteal.sweep import on_submitit

    arrays = on_submitit.find_arrays()
    words, refused = ["scancel", *sorted(arrays)], ""
    try:
        queue = slurm.ask("squeue", "--me", "-h", "-o", "%F", timeout=CANCEL_SECONDS / 2)
        words = ["scancel", *sorted(arrays.intersection(queue.stdout.split()))]
        if words[1:]:
            refused = slurm.ask(*words, timeout=CANCEL_SECONDS / 2).stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        refused = str(error)
    if refused:
        log.error("Slurm has not cancelled the jobs of this sweep (%s). Do it yourself: %s", refused, " ".join(words))
