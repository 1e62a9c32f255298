"""One writer at a time: a lock that a process holds on a folder or a file while it writes there.

After `kill -9` of Snakemake its jobs live on, and the same command starts them a second time.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from urfm.core.errors import UrfmError


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a folder or a file, there or not, for this process alone; an UrfmError if another one that runs holds it.

    The system releases it when the process ends, however it ends. File systems without locks are used unprotected.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = path.with_name(f".{path.name}.lock")
    descriptor = _hold(mark, path)
    try:
        with suppress(OSError):  # a full disk: then nobody learns who holds it
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        mark.unlink(missing_ok=True)
        os.close(descriptor)


def _hold(mark: Path, path: Path) -> int:
    while True:
        descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            # POSIX's, which work on NFS and, unlike flock's, do not live on in child processes.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(descriptor, 1000).decode()
            os.close(descriptor)
            raise UrfmError(
                f"{path}: another process is at work on it ({holder}); wait for it, or end it, then run the same "
                "command again"
            ) from None
        except OSError:
            pass
        with suppress(FileNotFoundError):
            if os.path.samestat(mark.stat(), os.fstat(descriptor)):
                os.truncate(descriptor, 0)
                return descriptor
        os.close(descriptor)  # who held it last has just deleted it
