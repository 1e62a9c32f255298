"""The graphics card of a job: on a machine with several, one that no other job has."""

from __future__ import annotations

import atexit
import os
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import torch

from urfm.core.errors import UrfmError
from urfm.core.lock import lock
from urfm.core.progress import warn

_held = ExitStack()
atexit.register(_held.close)


@cache
def own_device(first: int = 0) -> torch.device:
    """The CPU where there is no card; else a card that is this process's until it ends, and CUDA's default from now on.

    A job of Slurm sees its own cards only. On a workstation all jobs see all: each holds a lock on its card, and
    takes the first, from number `first` on, that nobody holds. If all are held it shares one, with a warning.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    turn = [(first + step) % count for step in range(count)]
    number = first % count if count == 1 else next(filter(_hold, turn), None)
    if number is None:
        warn(f"all {count} graphics cards are in use by other jobs of yours: this one shares card {turn[0]}")
        number = turn[0]
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _hold(number: int) -> bool:
    """Lock a card by its serial number, as its number depends on what a process sees; False if another one has it."""
    folder = Path(tempfile.gettempdir()) / f"urfm-cards-{os.getuid()}"
    try:
        _held.enter_context(lock(folder / str(torch.cuda.get_device_properties(number).uuid)))
    except UrfmError:
        return False
    return True
