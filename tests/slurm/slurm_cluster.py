"""A Slurm cluster of two computers with two graphics cards each, all of them this machine and none of them real."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "munged", "mungekey")
# Slurm's own place for it: the executor plugin takes SLURM_CONF from the jobs.
CONFIGURATION = Path("/etc/slurm/slurm.conf")
NAME = "ClusterName=urfm-test"

SLURM_CONF = """{name}
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobSubmitPlugins=lua
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
MinJobAge=3600
KillWait=60
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

# A site's limit of jobs a user may have in the queue, where the file `limit` says one; sites have it of an accounting
# database, whose words these are.
JOB_SUBMIT = """function slurm_job_submit(job, partitions, user)
    local file = io.open("{folder}/limit")
    if file == nil then return slurm.SUCCESS end
    local limit, queued = file:read("*n"), 0
    file:close()
    for _, other in pairs(slurm.jobs) do
        if other.job_state < 3 then queued = queued + 1 end
    end
    return queued < limit and slurm.SUCCESS or slurm.ESLURM_ACCOUNTING_POLICY
end

function slurm_job_modify(job, record, partitions, user)
    return slurm.SUCCESS
end

return slurm.SUCCESS
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def why_not() -> str | None:
    """What keeps this machine from being a Slurm cluster for a while."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"no {', '.join(missing)} (Debian, Ubuntu: apt-get install slurm-wlm munge)"
    if os.geteuid() != 0:
        return "only root can start Slurm's daemons"
    if CONFIGURATION.exists() and NAME not in CONFIGURATION.read_text():
        return f"{CONFIGURATION} belongs to a cluster of this machine's own, which is left alone"
    return None


def run(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True, timeout=60).stdout


@contextmanager
def cluster() -> Iterator[Path]:
    """The daemons, idle, and their folder; they are stopped at the end."""
    if reason := why_not():
        pytest.skip(f"SLURM IS NOT TESTED: {reason}")
    with tempfile.TemporaryDirectory(prefix="urfm-slurm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # munged wants to be found by all; pytest's folders are private
        with daemons(folder):
            yield folder


@contextmanager
def daemons(folder: Path) -> Iterator[None]:
    """Everything of them in `folder`, but for three links."""
    text = SLURM_CONF.format(name=NAME, folder=folder, ports=free_ports(3))
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={folder}/gpu[0-1]\n")
    for number in range(2):
        try:
            os.mknod(folder / f"gpu{number}", stat.S_IFCHR, os.makedev(195, number))
        except PermissionError:
            pytest.skip("SLURM IS NOT TESTED: no right to make device files, which stand for graphics cards")
    (folder / "state").mkdir()
    (folder / "job_submit.lua").write_text(JOB_SUBMIT.format(folder=folder))
    links = [CONFIGURATION.with_name(name) for name in ("slurm.conf", "gres.conf", "job_submit.lua")]
    try:
        for link in links:
            link.unlink(missing_ok=True)  # of a test that was killed
            link.symlink_to(folder / link.name)
        run("mungekey", "--create", f"--keyfile={folder}/munge.key")
        munge = [f"--{name}={folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "pid-file")]
        munge += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
        run("munged", *munge)
        run("slurmctld")
        for node in ("n1", "n2"):
            run("slurmd", "-N", node)
        deadline = time.monotonic() + 120
        while run("sinfo", "-h", "-o", "%T").split() != ["idle"]:
            assert time.monotonic() < deadline, run("sinfo", "-R") + (folder / "slurmctld.log").read_text()[-4000:]
            time.sleep(0.2)
        yield
    finally:
        for link in links:
            if link.is_symlink():
                link.unlink()
        for name in ("slurmd-n1", "slurmd-n2", "slurmctld", "munge"):
            path = folder / f"{name}.pid"
            if path.exists():
                os.kill(int(path.read_text()), signal.SIGTERM)
