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
from urfm.core.text import from_spreadsheet_cell, spreadsheet_cell

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SEAL = "record_sha256"
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
        needed = (
            f"{human_bytes(size)} needed, " if size else f"more than {human_bytes(so_far)} needed, " if so_far else ""
        )
        raise UrfmError(f"{path}: {cause}: {needed}{human_bytes(free)} free; {advice}") from error


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


def write_record(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write JSON that others go by, with its own SHA-256 in it: `read_json` refuses it if any value changed."""
    write_json(path, {**content, SEAL: _seal(content)})


def _seal(content: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


class NoSuchKey(UrfmError, KeyError):
    """A record lacks what is asked of it."""

    __str__ = Exception.__str__  # KeyError's shows the message in quotes


class Record(dict[str, Any]):
    """What a JSON file says; a key that it lacks is an UrfmError naming both."""

    def __init__(self, path: str | Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise NoSuchKey(
            f"{self.path}: does not say {key!r}: it is damaged, or of another version of the program; delete it and "
            "run the workflow again"
        )


def read_json(path: str | Path) -> Any:
    """Read a JSON file; one that is no JSON, or not as `write_record` wrote it, is an UrfmError naming it."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UrfmError(f"{path}: no such file; it is made by an earlier stage of the workflow") from error
    except ValueError as error:
        raise UrfmError(f"{path}: not valid JSON ({error}); delete it and rebuild it") from error
    if not isinstance(content, dict):
        return content
    seal = content.pop(SEAL, None)
    if seal is not None and seal != _seal(content):
        raise UrfmError(
            f"{path}: its values are not those that were written (it holds its own hash, {SEAL}); delete it and run "
            "the workflow again"
        )
    return Record(path, content)


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
    """Write a table atomically as CSV, without its index; no text in it is a formula to a spreadsheet."""
    safe = table.rename(columns=lambda name: spreadsheet_cell(str(name)))
    for place, kind in enumerate(safe.dtypes):
        if kind.kind not in "biufcmM":  # numbers and times stay what they are
            safe.isetitem(
                place, [spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in safe.iloc[:, place]]
            )
    with atomic_path(path) as temporary:
        safe.to_csv(temporary, index=False, lineterminator="\n")


def read_text_csv(path: str | Path) -> pd.DataFrame:
    """What `write_csv` wrote, every cell as text and an empty one for what is missing."""
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False).map(from_spreadsheet_cell)


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
