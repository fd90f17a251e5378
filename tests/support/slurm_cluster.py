"""A real Slurm on this machine: its own munged, slurmctld and slurmd, in a temporary folder, gone when it is left."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where Debian keeps daemons
SLOTS = 8

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={munge},cred_expire=6
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdTimeout={patience}
{controller}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,sched_interval=2,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=3
MinJobAge=60
MaxArraySize=2001
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=6
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={slots} RealMemory=64000 State=UNKNOWN"


def missing() -> list[str]:
    """The programs of Slurm that are not installed."""
    return [name for name in (*DAEMONS, "sbatch") if shutil.which(name, path=PATH) is None]


def require_slurm() -> None:
    """Skip where Slurm or its launcher is not installed."""
    if missing():
        pytest.skip(f"Slurm is not installed (no {', '.join(missing())}): apt-get install slurm-wlm munge")
    pytest.importorskip("submitit", reason="pip install -e '.[slurm]'")


@dataclass(frozen=True)
class Cluster:
    """A running cluster with the partitions main and urgent, which preempts main.

    Attributes:
        folder: of its configuration, state and logs.
        nodes: the slurmd of each, by name.
    """

    folder: Path
    nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def ask(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def queue(self, *what: str) -> list[str]:
        """The jobs that wait or run, an array's one by one; of each the job's number, or what squeue's format says."""
        return self.ask("squeue", "-h", "-r", "-o", *(what or ("%i",))).split()

    def logs(self) -> str:
        """The last lines the daemons wrote."""
        return "\n".join(f"{p.name}: {p.read_text()[-2000:]}" for p in sorted(self.folder.glob("*.log")))


@contextmanager
def running_cluster(*names: str, patience: int = 300, controller: str = "") -> Iterator[Cluster]:
    """Start the daemons, wait until the nodes are idle; in the end cancel all jobs and stop the daemons.

    Args:
        names: of its nodes, with `SLOTS` CPUs each; none: one, called like this machine.
        patience: seconds after which a node that says nothing is taken for dead.
        controller: its SlurmctldParameters.

    Raises:
        RuntimeError: the cluster does not come up; with what the daemons say.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: a socket's name holds 107 characters
    host, munge = socket.gethostname().partition(".")[0], folder / "munge"
    folder.chmod(0o755)
    names = names or (host,)
    for sub in ("state", "munge", *(f"spool-{name}" for name in names)):
        (folder / sub).mkdir(mode=0o755)
    (munge / "key").write_bytes(os.urandom(128))
    (munge / "key").chmod(0o600)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    ports = free_ports(1 + len(names))
    nodes = "\n".join(
        NODE.format(name=n, host=host, port=p, slots=SLOTS) for n, p in zip(names, ports[1:], strict=True)
    )
    text = CONF.format(
        host=host, user=user, munge=munge / "socket", ports=ports, folder=folder, nodes=nodes, patience=patience,
        controller=f"SlurmctldParameters={controller}" if controller else "",
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text)
    if version() >= 23:  # before, it finds out for itself what this machine can do
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    cluster, daemons = Cluster(folder), []

    def start(*command: str) -> subprocess.Popen[bytes]:
        with (folder / f"{command[0]}-{len(daemons)}.out.log").open("w") as out:
            program = str(shutil.which(command[0], path=PATH))
            daemons.append(
                subprocess.Popen(
                    [program, *command[1:]],
                    env={**os.environ, **cluster.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return daemons[-1]

    try:
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
        start("munged", "--foreground", "--force", *(f"--{option}={munge / f}" for option, f in files.items()))
        wait_for((munge / "socket").exists, cluster, daemons)
        start("slurmctld", "-D", "-i")
        for name in names:
            cluster.nodes[name] = start("slurmd", "-D", "-N", name)
        wait_for(lambda: idle(cluster), cluster, daemons)
        yield cluster
        subprocess.run(["scancel", "--full", f"--user={user}"], env={**os.environ, **cluster.environment}, check=False)
        wait_for(lambda: not cluster.queue(), cluster, [d for d in daemons if d not in cluster.nodes.values()])
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in reversed(daemons):
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


def version() -> int:
    """Slurm's year."""
    said = subprocess.run([str(shutil.which("slurmd", path=PATH)), "-V"], capture_output=True, text=True, check=True)
    return int(said.stdout.split()[-1].split(".")[0])


def idle(cluster: Cluster) -> bool:
    """Whether the node takes jobs."""
    done = subprocess.run(
        ["sinfo", "-h", "-o", "%T"], env={**os.environ, **cluster.environment}, capture_output=True, text=True
    )
    return set(done.stdout.split()) == {"idle"}


def wait_for(condition, cluster: Cluster, daemons: list[subprocess.Popen[bytes]], seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    """Poll; give up after some time, or where a daemon has died."""
    end = time.monotonic() + seconds
    while not condition():
        died = [d.args for d in daemons if d.poll() is not None]
        if died or time.monotonic() > end:
            raise RuntimeError(f"Slurm is not where it should be ({died or 'waited long enough'}):\n{cluster.logs()}")
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
