"""The processes of one training job: torchrun, srun, or a single one without any set-up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from urfm.core.errors import UrfmError
from urfm.models.device import own_device

PATIENCE = timedelta(hours=1)  # processes wait for one another: the main one hashes all images first (NCCL: 10 minutes)


@dataclass(frozen=True)
class Processes:
    """This process among `world_size`, numbered from 0, with the device that is its own."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """Images of a global batch that each process handles; the batch must divide evenly."""
        if batch_size % self.world_size:
            raise UrfmError(
                f"batch_size: {batch_size} images cannot be shared evenly by {self.world_size} processes; "
                "choose a multiple, or start another number of processes"
            )
        return batch_size // self.world_size

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Element-wise mean over the processes."""
        if self.world_size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values / self.world_size

    def maximum(self, value: int) -> int:
        """The largest `value` of all processes."""
        if self.world_size == 1:
            return value
        values = torch.tensor(value, device=self.device)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the job's processes and leave them at the end.

    Read from the environment that torchrun (RANK, WORLD_SIZE, LOCAL_RANK) or srun (SLURM_PROCID,
    SLURM_STEP_NUM_TASKS, SLURM_LOCALID) set; without either, or with one process, nothing is initialised.
    NCCL on GPUs, Gloo on CPUs.
    """
    environment = os.environ
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, world_size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        local_rank = int(environment.get("LOCAL_RANK", "0"))
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        # The step's own count: SLURM_NTASKS is set in the batch script too, where one process runs alone.
        rank, world_size = int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"])
        local_rank = int(environment["SLURM_LOCALID"])
        environment.setdefault("MASTER_ADDR", environment.get("SLURM_LAUNCH_NODE_IPADDR", "127.0.0.1"))
        # A port of the job's own, so that two jobs on one node do not meet.
        environment.setdefault("MASTER_PORT", str(20000 + int(environment["SLURM_JOB_ID"]) % 20000))
    else:
        rank, world_size, local_rank = 0, 1, 0

    # Where the launcher shows each process its own GPU only, that one is number 0.
    if 1 < (visible := torch.cuda.device_count()) <= local_rank:
        raise UrfmError(
            f"{local_rank + 1} or more processes on this node, but {visible} GPUs; "
            f"set resources.pretrain.gpus to {visible}"
        )
    device = own_device(local_rank)
    if world_size == 1:
        yield Processes(0, 1, device)
        return
    # Where it does not stop training in order: a handler in Python would not run while this one waits for the others.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if device.type == "cuda":
        dist.init_process_group("nccl", rank=rank, world_size=world_size, device_id=device, timeout=PATIENCE)
    else:
        dist.init_process_group("gloo", rank=rank, world_size=world_size, timeout=PATIENCE)
    try:
        yield Processes(rank, world_size, device)
    finally:
        dist.destroy_process_group()
