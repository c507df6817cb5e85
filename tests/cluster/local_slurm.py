"""A real SLURM of four nodes on this machine, one with two GPUs in name: for tests.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge. The daemons listen on the
loopback alone, and everything lies in one folder, except for slurm.conf at its default place, where
a job step looks for it; one that is there already is left alone, and so is this machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOME = Path("/etc/slurm")
PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sinfo", "sbatch", "squeue")
NODES = 4


def lacking() -> str:
    """Why no cluster can run here; "" where one can."""
    missing = [p for p in PROGRAMS if not shutil.which(p, path=_path())]
    if missing:
        return f"{', '.join(missing)} missing: apt-get install slurmctld slurmd slurm-client munge"
    if os.geteuid() != 0:
        return "the daemons need root"
    if (HOME / "slurm.conf").exists():
        return f"{HOME / 'slurm.conf'} is there: this machine has a cluster of its own"
    return ""


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _configure(folder: Path) -> None:
    control, *own = _ports(NODES + 1)
    lines = [
        "ClusterName=varireal",
        "SlurmctldHost=localhost(127.0.0.1)",
        f"SlurmctldPort={control}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket",
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/ctld.pid",
        f"SlurmdPidFile={folder}/%n.pid",
        f"SlurmctldLogFile={folder}/ctld.log",
        f"SlurmdLogFile={folder}/%n.log",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,"
        "batch_sched_delay=0",
        "ReturnToService=2",
        "SlurmdTimeout=10",
        "InactiveLimit=0",
        "KillWait=3",
        "MinJobAge=300",
        "SlurmdParameters=config_overrides",
        "GresTypes=gpu",
    ]
    for i, port in enumerate(own, 1):
        gres = " Gres=gpu:2" if i == NODES else ""
        lines.append(
            f"NodeName=node{i} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} "
            f"CPUs=2 RealMemory=4000{gres}"
        )
    lines.append(f"PartitionName=main Nodes=node[1-{NODES}] Default=YES State=UP")
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    (folder / "gres.conf").write_text(
        f"NodeName=node{NODES} Name=gpu File=/dev/null\n"
        f"NodeName=node{NODES} Name=gpu File=/dev/zero\n"
    )
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    HOME.mkdir(parents=True, exist_ok=True)
    for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
        shutil.copy(folder / name, HOME / name)


def _until(words: list[str], wanted: str, seconds: float = 60) -> None:
    end = time.time() + seconds
    while True:
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode == 0 and wanted in done.stdout:
            return
        if time.time() > end:
            raise TimeoutError(f"{words}: {done.stdout} {done.stderr}")
        time.sleep(0.3)


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, subprocess.Popen]]:
    """Start the daemons, wait for four idle nodes; stop them at the end. Yields them by name."""
    os.environ["PATH"] = _path()
    for part in ("munge", "state", "spool"):
        (folder / part).mkdir(mode=0o700, parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o600)
    _configure(folder)
    running: dict[str, subprocess.Popen] = {}

    def start(name: str, *words: str) -> None:
        log = open(folder / f"{name}.out", "w")  # noqa: SIM115 - the daemon's own
        running[name] = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)

    try:
        at = folder / "munge" / "socket"
        start(
            "munged",
            "munged",
            "--foreground",
            f"--key-file={key}",
            f"--socket={at}",
            "--force",
            f"--pid-file={folder}/munge/pid",
            f"--log-file={folder}/munge/log",
            f"--seed-file={folder}/munge/seed",
        )
        _until(["munge", "-S", str(at), "-n"], "MUNGE:")
        start("slurmctld", "slurmctld", "-D", "-c")
        for i in range(1, NODES + 1):
            start(f"node{i}", "slurmd", "-D", "-N", f"node{i}")
        _until(["sinfo", "-h", "-t", "idle", "-o", "%D"], str(NODES))
        yield running
    finally:
        for process in reversed(running.values()):
            with_children = os.getpgid(process.pid) if process.poll() is None else None
            if with_children:
                os.killpg(with_children, signal.SIGTERM)
        for process in running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
            (HOME / name).unlink(missing_ok=True)
