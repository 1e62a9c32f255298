"""Processes as srun and torchrun start them, and alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from urfm.core.errors import UrfmError
from urfm.training import distributed
from urfm.training.distributed import Processes, processes

LIBRARY = Path(distributed.__file__).parents[2]
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")

PROGRAM = """
import torch
from urfm.training.distributed import processes
with processes() as job:
    mean = job.mean(torch.tensor([1.0 + job.rank, 5.0]))
    job.barrier()
    print(job.rank, job.world_size, job.is_main, mean.tolist(), job.maximum(7 * job.rank), flush=True)
"""


def test_alone_nothing_is_initialised(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a batch script's own process, not a step
    with processes() as job:
        assert (job.rank, job.world_size, job.is_main) == (0, 1, True)
        assert not torch.distributed.is_initialized()
        assert job.mean(torch.tensor(3.0)).item() == 3.0
        assert job.maximum(5) == 5
        job.barrier()


@pytest.mark.parametrize("launcher", ["srun", "torchrun"])
def test_two_processes_agree(launcher: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key not in LAUNCHERS}
    environment |= {"PYTHONPATH": str(LIBRARY), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    running = []
    for rank in range(2):
        if launcher == "srun":
            own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_STEP_NUM_TASKS": "2"}
            own |= {"SLURM_JOB_ID": "19", "MASTER_PORT": str(port), "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1"}
        else:
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        running.append(
            subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment | own, stdout=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate(timeout=600)[0].strip() for process in running]
    assert outputs == ["0 2 True [1.5, 5.0] 7", "1 2 False [1.5, 5.0] 7"]


def test_a_batch_must_divide() -> None:
    job = Processes(1, 3, torch.device("cpu"))
    assert job.share(12) == 4
    with pytest.raises(UrfmError, match="batch_size: 16"):
        job.share(16)
