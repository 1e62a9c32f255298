"""Writing results so that a reader sees the whole file or none, and hashing them."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urfm.core.errors import UrfmError
from urfm.core.lock import lock
from urfm.core.progress import human_bytes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ROWS = 5_000  # of a row group, where a table is written or copied bit by bit
FULL = (errno.ENOSPC, errno.EDQUOT)
NEARLY_FULL = 1 << 16  # bytes free: less than a writer asks for at a time
MAKE_ROOM = "delete something there or let results lie on a larger disk, then run the same command again"


@contextmanager
def scratch_path(path: str | Path, size: float = 0) -> Iterator[Path]:
    """Yield a temporary name beside `path`, and remove it at the end; `size` bytes will be written, if that is known.

    A path has one writer at a time (`urfm.core.lock`), so temporaries of `path` are what a killed one left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with room(path, size, temporary), lock(path):
            for stale in path.parent.glob(f".{glob.escape(path.name)}.[0-9]*.tmp"):
                stale.unlink(missing_ok=True)
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: str | Path, size: float = 0) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success flush it to disk and rename it to `path`.

    It gets the mode of any new file, whatever the library chose that wrote it (safetensors: nobody else may read).
    """
    with scratch_path(path, size) as temporary:
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(Path(path).parent)


@contextmanager
def room(path: Path, size: float, written: Path, advice: str = MAKE_ROOM) -> Iterator[None]:
    """Refuse to begin where `size` bytes do not fit beside `path`; should the disk fill up on the way, say so.

    `written` is the file that grows meanwhile.
    """
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise UrfmError(f"{path}: {human_bytes(size)} are needed and {human_bytes(free)} are free; {advice}")
    try:
        yield
    except UrfmError:
        raise
    except Exception as error:
        free = shutil.disk_usage(path.parent).free
        # Writers in C and Rust have errors of their own for it, and not all of them say what happened.
        refused = (isinstance(error, OSError) and error.errno in FULL) or re.search(r"os error (28|122)\b", str(error))
        if not refused and free >= NEARLY_FULL:
            raise
        cause = "the disk is full" if free < NEARLY_FULL else "the disk or a quota on it is full"
        so_far = written.stat().st_size if written.exists() else 0
        needed = human_bytes(size) if size else f"more than {human_bytes(so_far)}"
        raise UrfmError(f"{path}: {cause}: {needed} needed, {human_bytes(free)} free; {advice}") from error


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` atomically, as UTF-8 with line feeds."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a file that is not JSON is an UrfmError naming it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UrfmError(f"{path}: no such file; it is made by an earlier stage of the workflow") from error
    except ValueError as error:
        raise UrfmError(f"{path}: not valid JSON ({error}); delete it and rebuild it") from error


def write_parquet(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table atomically, without its index."""
    with atomic_path(path) as temporary:
        table.to_parquet(temporary, index=False)


@contextmanager
def parquet_rows(path: str | Path, schema: pa.Schema) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Yield a function that appends one row to a new parquet file; only ROWS of them are in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[Mapping[str, object]] = []
    with pq.ParquetWriter(path, schema) as writer:

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(rows, schema))
            rows.clear()

        def append(row: Mapping[str, object]) -> None:
            rows.append(row)
            if len(rows) == ROWS:
                flush()

        yield append
        if rows:
            flush()


def parquet_blocks(
    path: str | Path, columns: list[str] | None = None, categories: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read a parquet file ROWS rows at a time; `categories` are columns of few different values, read as such."""
    import pyarrow.parquet as pq

    # Reading ahead, Arrow's default, would hold the whole file.
    with pq.ParquetFile(path, read_dictionary=categories, pre_buffer=False) as source:
        yield from source.iter_batches(ROWS, columns=columns, use_threads=False)


def write_csv(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table atomically as CSV, without its index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stand_in_mark(path: str | Path) -> Path:
    """The file beside a weight file that says it is a stand-in: random weights in the publisher's form."""
    path = Path(path)
    return path.with_name(f"{path.name}.stand_in.json")


def verify_sha256(path: str | Path, expected: str) -> None:
    """Raise an UrfmError if the file is not the one its sidecar describes."""
    found = sha256(path)
    if found != expected:
        raise UrfmError(
            f"{path}: its content changed after it was made (sha256 {found[:12]}…, recorded {expected[:12]}…); "
            "delete it and run the workflow again"
        )
