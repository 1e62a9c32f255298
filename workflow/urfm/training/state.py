"""State of long work on disk: written whole or not at all, found again by its fingerprint, left in order on a signal.

A stage keeps its state in `<state>/<fingerprint>/`. The fingerprint covers everything the result depends on,
so a matching directory can be resumed and any other is left alone.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch

from urfm.core.children import end_with_parent
from urfm.core.files import atomic_path
from urfm.core.progress import say

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

# A saved file is torch's archive followed by this mark and the SHA-256 of the archive, both in ASCII.
_MARK = b"\nurfm-sha256:"
_FOOTER_BYTES = len(_MARK) + 64


def previous(path: Path) -> Path:
    """Where `save` keeps the file that it replaces."""
    return path.with_name(f"{path.name}.previous")


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain Python values; the file that was there stays beside it as `<name>.previous`.

    The new file is complete on disk before the old one moves, so that at every moment at least one whole file exists.
    """
    with atomic_path(path, sum(tensor.nbytes for tensor in _tensors(content))) as temporary:
        torch.save(content, temporary)
        digest = _digest(temporary, temporary.stat().st_size)
        with open(temporary, "ab") as stream:
            stream.write(_MARK + digest.encode())
            stream.flush()
            os.fsync(stream.fileno())
        if path.exists():
            os.replace(path, previous(path))


def _tensors(content: Any) -> Iterator[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _tensors(part)


def is_finite(content: dict[str, Any]) -> bool:
    """Whether all tensors in it are finite."""
    return all(bool(tensor.isfinite().all()) for tensor in _tensors(content))


def load(path: Path) -> dict[str, Any] | None:
    """Read what `save` wrote, on the CPU; the previous file if this one is torn, None if neither is whole.

    A torn file is removed, so that the next `save` cannot put it in place of the good one.
    """
    for candidate in (path, previous(path)):
        if not candidate.exists():
            continue
        if _is_whole(candidate):
            content: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
            return content
        say(f"{candidate}: torn or changed; not used")
        candidate.unlink(missing_ok=True)
    return None


def remove(path: Path) -> None:
    """Delete a saved file and its previous one."""
    path.unlink(missing_ok=True)
    previous(path).unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    length = path.stat().st_size - _FOOTER_BYTES
    if length <= 0:
        return False
    with open(path, "rb") as stream:
        stream.seek(length)
        footer = stream.read()
    return footer == _MARK + _digest(path, length).encode()


def _digest(path: Path, length: int) -> str:
    """SHA-256 of the first `length` bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while length > 0 and (block := stream.read(min(length, 1 << 22))):
            digest.update(block)
            length -= len(block)
    return digest.hexdigest()


class StopRequested(Exception):
    """Raised by the loop once its state is saved; `stop_signals` turns it into the exit code 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopFlag:
    """Remembers the first stop signal that arrived (0: none), for the loop to poll."""

    def __init__(self) -> None:
        self.number = 0

    def __bool__(self) -> bool:
        return self.number != 0

    def set(self, number: int, frame: FrameType | None = None) -> None:
        """Signal handler. Repeated signals change nothing: a launcher often forwards what the process got already."""
        self.number = self.number or number

    def leave(self) -> NoReturn:
        """To be called when the state is saved."""
        raise StopRequested(self.number)


@contextmanager
def stop_signals() -> Iterator[StopFlag]:
    """Turn SIGTERM, SIGUSR1 (Slurm's warning) and SIGINT into a flag; exit codes 143, 138 and 130.

    Use as::

        with stop_signals() as stop:
            for batch in batches:
                ...
                if stop:
                    save(path, content)
                    stop.leave()
    """
    flag = StopFlag()
    handlers = {number: signal.signal(number, flag.set) for number in STOP_SIGNALS}
    try:
        yield flag
    except StopRequested as stop:
        say(f"stopped by {stop}; the state is saved, the same command goes on from here")
        raise SystemExit(128 + stop.number) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def ignore_stop_signals(worker: int = 0) -> None:
    """For data-loading processes (`worker_init_fn`): the signals that reach the whole job are the main process's."""
    end_with_parent()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
