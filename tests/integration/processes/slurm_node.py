"""A Slurm cluster of one node on this machine, with all its files in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue")
CONF = """
ClusterName=facegen
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def is_there() -> bool:
    """Whether Slurm is installed and may be started."""
    return os.geteuid() == 0 and all(shutil.which(program, path=_path()) for program in PROGRAMS)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits for a condition; fails with a sentence after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.5)


class SlurmNode:
    """Controller and node daemon; ``close`` ends them and their jobs."""

    def __init__(self, root: Path) -> None:
        """Starts them.

        Args:
            root: An empty folder; its path must be short enough for a socket.
        """
        self.root = root
        for name in ("state", "spool"):
            (root / name).mkdir()
        key = root / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        root.chmod(0o755)
        conf = root / "slurm.conf"
        conf.write_text(
            CONF.format(
                host=socket.gethostname().split(".")[0],
                root=root,
                controller_port=_free_port(),
                node_port=_free_port(),
                cpus=os.cpu_count(),
            )
        )
        self.environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": _path()}
        self._daemons: list[subprocess.Popen] = []
        munge = [f"--socket={root}/munge.socket", f"--key-file={key}", f"--pid-file={root}/munge.pid"]
        self._start("munged", "--foreground", "--force", *munge, f"--seed-file={root}/munge.seed", "--num-threads=1")
        wait_until((root / "munge.socket").exists, 30, "munged")
        self._start("slurmctld", "-D", "-c")
        self._start("slurmd", "-D")
        wait_until(lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T"), 60, "an idle node")

    def call(self, *command: str) -> str:
        """Runs a Slurm command; returns its output, or an empty text if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else ""

    def state(self, job: str) -> str:
        """State of a job, such as RUNNING."""
        return self.field(job, "JobState")

    def field(self, job: str, name: str) -> str:
        """One field of ``scontrol show job``."""
        words = dict(word.split("=", 1) for word in self.call("scontrol", "show", "job", job).split() if "=" in word)
        return words.get(name, "")

    def close(self) -> None:
        """Cancels all jobs and stops the daemons."""
        self.call("scancel", "--signal=KILL", "--full", "--user=root")
        self.call("scancel", "--user=root")
        time.sleep(1)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _start(self, *command: str) -> None:
        with open(self.root / f"{command[0]}.out", "w") as log:
            self._daemons.append(subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT))


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
