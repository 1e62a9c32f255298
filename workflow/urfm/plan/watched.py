"""Whether what others put here changed, raw data and checkpoints: a digest of it, for a rule's params.

As inputs of a rule, folders and files would count by their times. A folder's changes with whatever comes into it, be it
.DS_Store, and a job with an input whose time lies in the future fails when its work is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path

from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, write_record
from urfm.data.datasets.common import is_junk

SMALL = 1_000_000  # bytes: of a smaller file the content counts, of a larger one size and time
SETTLED = 2 * 10**9  # nanoseconds after which a change has another time than the one before it, on every file system


def digest(paths: Iterable[Path], base: Path, memory: Path | None = None) -> str:
    """Twelve digits that change with files and folders; those not there do not count, and places count from `base`.

    Of a folder count the names in it, junk left out, and sizes and times of its files. It is listed when its own time
    is another than in the file `memory`, since to ask every file may take long: a file that is overwritten in place
    is noticed when another comes or goes beside it.
    """
    paths = list(paths)
    places = {str(path) for path in paths}
    known = _recall(memory)
    found: dict[str, list[str | int]] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            state = path.stat()
            place, seen = path.relative_to(base).as_posix(), [state.st_mtime_ns, state.st_size]
            before = known.get(place, [])
            found[place] = before if before[:2] == seen else [*seen, _content(path, state, places)]
    if memory is not None:
        earlier = time.time_ns() - SETTLED
        settled = {place: seen for place, seen in found.items() if int(seen[0]) < earlier}
        if settled != known:
            with suppress(OSError, UrfmError):  # read-only, full, or another process at it: then it is looked at again
                write_record(memory, settled)
    return _sha256(sorted([place, str(content)] for place, (*_, content) in found.items()))[:12]


def _recall(memory: Path | None) -> dict[str, list[str | int]]:
    """Times and sizes of what was looked at before, and what was found."""
    with suppress(OSError, UrfmError):
        return dict(read_json(memory)) if memory is not None else {}
    return {}


def _content(path: Path, state: os.stat_result, others: Container[str]) -> str:
    if path.is_dir():
        return _listing(path, others)
    return sha256(path) if state.st_size < SMALL else f"{state.st_size} {state.st_mtime_ns}"


def _listing(folder: Path, others: Container[str]) -> str:
    """Digest of what is in a folder; of `others` only the names, since they are looked at by themselves."""
    entries: list[list[str | int]] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if is_junk(entry.name):
                    continue
                entries.append([entry.name])
                with suppress(FileNotFoundError):  # a link that leads nowhere
                    if not entry.is_dir() and entry.path not in others:
                        state = entry.stat()
                        entries[-1] += [state.st_size, state.st_mtime_ns]
    except PermissionError:
        return "cannot be listed"  # the stage says so
    return _sha256(sorted(entries, key=lambda entry: str(entry[0])))


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
