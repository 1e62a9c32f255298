"""What a stage tells while it works: lines, warnings, and progress, a bar on a terminal and plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def say(message: str) -> None:
    """Print one line at once, also when standard output is a file; work goes on when nobody listens any more."""
    with suppress(BrokenPipeError):
        print(message, flush=True)


def warn(message: str) -> None:
    """Print `warning: ` and a message on standard error, as errors are printed (urfm.core.cli.run)."""
    with suppress(BrokenPipeError):
        print(f"warning: {message}", file=sys.stderr, flush=True)


def time_left(seconds: float, done: int, total: int) -> str:
    """A phrase such as `about 3 h left`, when `done` of `total` parts, at least one, took `seconds`."""
    left = seconds / done * (total - done)
    for unit, length in (("h", 3600), ("min", 60)):
        if left >= 1.5 * length:
            return f"about {left / length:.0f} {unit} left"
    return f"about {left:.0f} s left"


def human_bytes(size: float) -> str:
    """A size as people read it, in decimal units: `133.9 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def byte_progress(chunks: Iterable[bytes], label: str, total: int | None, done: int = 0) -> Iterator[bytes]:
    """Pass `chunks` on and show how many of `total` bytes there are: a bar, or a line every 15 seconds.

    `done` bytes were there before.
    """
    if sys.stderr.isatty():
        with tqdm(
            total=total, initial=done, desc=label, unit="B", unit_scale=True, dynamic_ncols=True, leave=False
        ) as bar:
            for chunk in chunks:
                yield chunk
                bar.update(len(chunk))
        return
    start = last = time.monotonic()
    now_done = done
    for chunk in chunks:
        yield chunk
        now_done += len(chunk)
        now = time.monotonic()
        if now - last >= 15:
            last = now
            of_all = (
                f" of {human_bytes(total)}, {time_left(now - start, now_done - done, total - done)}" if total else ""
            )
            say(f"{label}: {human_bytes(now_done)}{of_all}")


def progress(items: Iterable[Item], label: str, total: int | None = None, every: float = 15.0) -> Iterator[Item]:
    """Iterate over `items` and show how far it is: a bar, or a line every `every` seconds and at the end."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, total=total, dynamic_ncols=True, leave=False)
        return
    start = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            last = now
            remaining = f", {time_left(now - start, done, total)}" if total else ""
            say(f"{label}: {done}{f'/{total}' if total else ''}{remaining}")
    say(f"{label}: {done} done in {time.monotonic() - start:.1f} s")
