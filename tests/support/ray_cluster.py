"""A real Ray cluster of two nodes on this machine, gone when it is left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.commands import environment
from tests.support.slurm_cluster import free_ports

VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}


@dataclass
class Cluster:
    """Two nodes with a CPU each.

    Attributes:
        address: of the head.
        second: the process of the second node's raylet, whose children its jobs are.
        jobs: the URL of Ray's job server; "" without one.
    """

    address: str
    second: int
    jobs: str = ""


@contextmanager
def running_cluster(folder: Path, job_server: bool = False) -> Iterator[Cluster]:
    """Start the nodes in ``folder``: their jobs find themselves there at first, as on a real cluster."""
    nodes: list[subprocess.Popen[bytes]] = []
    port, page = free_ports(2)

    def start(*words: str) -> int:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *words]
        output = folder / f"node-{len(nodes)}.log"
        with output.open("w") as log:
            variables = {**environment(), **VARIABLES}
            nodes.append(subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log))
        end = time.monotonic() + 120
        while "Ray runtime started" not in output.read_text():
            assert nodes[-1].poll() is None and time.monotonic() < end, output.read_text()
            time.sleep(0.1)
        found = subprocess.run(["pgrep", "-P", str(nodes[-1].pid), "raylet"], capture_output=True, text=True)
        return int(found.stdout)

    small = "--object-store-memory=80000000"
    try:
        served = f"--include-dashboard={str(job_server).lower()}", f"--dashboard-port={page}"
        start("--head", f"--port={port}", *served, "--temp-dir=/tmp/ray-fmsteal-tests", small)
        second = start(f"--address=127.0.0.1:{port}", small)
        yield Cluster(f"127.0.0.1:{port}", second, f"http://127.0.0.1:{page}" if job_server else "")
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(timeout=60)


def parent(pid: int) -> int:
    """The process that started another."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])
