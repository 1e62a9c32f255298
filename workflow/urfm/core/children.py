"""Child processes that decode and load: they end with their parent, and where one dies its stage says so and ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from urfm.core.errors import UrfmError


def end_with_parent(number: int = 0) -> None:
    """In a child process, first of all (`initializer`, `worker_init_fn`): what kills the parent takes this one with it.

    Ctrl-C reaches all processes; the parent ends the others.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=wait, daemon=True).start()


def end_children() -> None:
    """Kill all child processes of `multiprocessing`, whatever they are at."""
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's would raise an error for each
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    signal.signal(signal.SIGCHLD, handler)


@contextmanager
def loader_processes() -> Iterator[None]:
    """Around work with a torch DataLoader: where one of its processes fails, end all of them and say why.

    They ignore the signals that reach a whole job, so that the main process can save its state: left to themselves,
    they would be waited for without end.
    """
    try:
        yield
    except (RuntimeError, UrfmError) as error:
        said = str(error)
        if isinstance(error, RuntimeError) and "DataLoader worker" in said:
            raise UrfmError(
                f"a data-loading process was ended from outside ({said.splitlines()[0]}): memory ran out, or /dev/shm, "
                "through which it passes images on, is too small; ask for more memory, let /dev/shm be larger, or "
                "lower `threads` of the stage under `resources`: it has one such process less (--workers)"
            ) from None
        if said.startswith("Caught UrfmError in DataLoader worker"):  # torch puts the traceback of the child there
            raise UrfmError(said.rpartition("UrfmError: ")[2].strip()) from None
        raise
    finally:
        end_children()
