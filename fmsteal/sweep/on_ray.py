"""Runs jobs as tasks of a Ray cluster: a running one, or one started on this machine for the sweep.

Hydra's own Ray launcher raises at the first job whose worker died, and loses the others. Imports ray only when used.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from fmsteal.base import stopping
from fmsteal.base.errors import ConfigError
from fmsteal.base.on_hydra import make_return
from fmsteal.sweep import ray_worker

log = logging.getLogger(__name__)
REACHED_SECONDS = 5.0  # for an address to answer; Ray itself tries for two minutes, then ends the process


@dataclass
class Options:
    """The launcher's options; ``conf/hydra/launcher/ray.yaml`` explains each."""

    address: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0
    memory_gb: float | None = None
    resources: dict[str, float] = field(default_factory=dict)
    max_retries: int = 3
    await_nodes: bool = False
    own: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    victims: dict[str, Any] = field(default_factory=dict)
    thefts: dict[str, Any] = field(default_factory=dict)

    @property
    def of_task(self) -> dict[str, Any]:
        """The options of ``ray.remote``. Each job has its own process, which frees what it held when it ends."""
        memory = {} if self.memory_gb is None else {"memory": int(self.memory_gb * 2**30)}
        asked = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "resources": dict(self.resources), **memory}
        return {**asked, "max_retries": self.max_retries, "max_calls": 1}

    @property
    def needs(self) -> dict[str, float]:
        """The resources that a node needs for one job, as Ray counts them."""
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": (self.memory_gb or 0) * 2**30, **self.resources}
        return {name: amount for name, amount in asked.items() if amount}


STAGED = ("num_cpus", "num_gpus", "memory_gb", "resources", "max_retries")  # may differ from stage to stage


def connect(options: Options, *others: Options) -> None:
    """Join the cluster at the address, or start one; check that a job of each kind fits on one of its nodes.

    Args:
        options: of the first stage, with those of the cluster.
        *others: of the other stages.

    Raises:
        ConfigError: there is no cluster, an option is wrong, or no node has what a job asks for.
    """
    for name, value in options.environment.items():
        os.environ.setdefault(name, str(value))
    import ray  # reads the environment

    if ray.is_initialized():
        return
    try:
        for kind in (options, *others):
            ray.remote(**kind.of_task)(ray_worker.begin)  # refuses unknown options
        if options.address is None:
            ray.init(address="local", log_to_driver=False, **options.own)
        else:
            _require_answer(options.address)
            ray.init(address=options.address, log_to_driver=False)
        stopping.insist()  # a Ray that is started here has installed its own signal handler
    except (Exception, SystemExit) as error:
        where = "start Ray here" if options.address is None else f"use the Ray cluster at {options.address!r}"
        raise ConfigError(
            f"hydra/launcher=ray cannot {where}: {type(error).__name__}: {error}. The options are "
            "hydra.launcher.*; address=host:6379 names a cluster, address=auto the one that runs here."
        ) from error
    if not options.await_nodes:
        for kind in (options, *others):
            _require_node(kind)


def _require_node(options: Options) -> None:
    """Check that a node of the cluster has what a job asks for; otherwise leave the cluster.

    Raises:
        ConfigError: no node has it.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(_fits(options.needs, node) for node in nodes):
        ray.shutdown()
        names = sorted({name for node in nodes for name in node if not name.startswith("node:")} | options.needs.keys())
        most = ", ".join(f"{name} {max(node.get(name, 0) for node in nodes):g}" for name in names)
        asked = ", ".join(f"{name} {amount:g}" for name, amount in options.needs.items())
        raise ConfigError(
            f"No node of the Ray cluster has what each job asks for: {asked} (hydra.launcher.num_cpus, num_gpus, "
            f"memory_gb, resources). The most that a node has: {most}. Where nodes are added on demand: "
            "hydra.launcher.await_nodes=true."
        )


def launch(
    options: Options,
    jobs: Sequence[Sequence[str]],
    first: int,
    config: DictConfig,
    context: HydraContext,
    task: TaskFunction,
) -> list[JobReturn]:
    """Run each job in a process of its own, as many at once as fit; a job whose process died is started again.

    The processes have the same import path and working folder as this one.
    """
    connect(options)
    import ray
    from ray import cloudpickle

    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
    log.info("Launching %d jobs on Ray (%s), to %s", len(jobs), options.address or "our own", config.hydra.sweep.dir)
    cloudpickle.register_pickle_by_value(ray_worker)  # it sets the worker's import path
    begin = ray.remote(**options.of_task)(ray_worker.begin)
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "CUDA_"))}
    place = ray_worker.Driver(str(Path.cwd()), list(sys.path), variables)
    shared = ray.put(cloudpickle.dumps((context, config, task, Singleton.get_state())))
    waiting: dict[Future[Any], int] = {}
    for number, job in enumerate(jobs):
        log.info("\t#%d : %s", first + number, " ".join(filter_overrides(job)))
        task_name = f"job #{first + number}"
        begun = begin.options(name=task_name).remote(place, shared, first + number, list(job))
        waiting[begun.future()] = number
    returns = [JobReturn(status=JobStatus.UNKNOWN)] * len(jobs)
    while waiting:  # not with ray.wait, which swallows exceptions raised by a signal handler
        ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in ready:
            number = waiting.pop(future)
            returns[number] = _returned(future)
            log.info("#%d %s; %d to go", first + number, returns[number].status.name.lower(), len(waiting))
    return returns


def _returned(future: Future[Any]) -> JobReturn:
    try:
        failure = future.result()
    except Exception as error:  # its worker or its node died, also on every retry
        failure = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return make_return(None if failure is None else RuntimeError(failure))


def _require_answer(address: str) -> None:
    """Refuse an address where nothing listens, without waiting for Ray's own timeout."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_SECONDS):
            pass


def _fits(needs: dict[str, float], node: dict[str, float]) -> bool:
    return all(node.get(name, 0) >= amount for name, amount in needs.items())
