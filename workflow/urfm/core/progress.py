"""What a stage tells while it works: lines, warnings, and progress, a bar on a terminal and plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def say(message: str) -> None:
    """Print one line at once, also when standard output is a file; work goes on when nobody listens any more."""
    with suppress(OSError):  # a pipe that has ended, a terminal that was closed
        print(message, flush=True)


def warn(message: str) -> None:
    """Print `warning: ` and a message on standard error, as errors are printed (urfm.core.cli.run)."""
    with suppress(OSError):
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


class Meter:
    """How far long work is: a bar on a terminal; in a log, lines at least `every` seconds apart.

    Parameters
    ----------
    label
        What is under way.
    total, done
        Parts there are, if that is known, and those that were done before.
    every, first
        Seconds between two lines, and before the first; as many if not given.
    shown
        False for the processes that do not print.
    bar
        Further options of tqdm.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        done: int = 0,
        *,
        every: float = 15.0,
        first: float | None = None,
        shown: bool = True,
        **bar: Any,
    ) -> None:
        self.total, self.before, self.done, self.every = total, done, done, every
        self.started = time.monotonic()
        self.next_line = self.started + (every if first is None else first)
        on_terminal = sys.stderr.isatty()
        self.lines = shown and not on_terminal
        self.bar = tqdm(
            total=total, initial=done, desc=label, dynamic_ncols=True, leave=False,
            disable=not (shown and on_terminal), **bar,
        )  # fmt: skip

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    @property
    def seconds(self) -> float:
        """Since the meter was made."""
        return time.monotonic() - self.started

    def advance(self, count: int = 1) -> None:
        """`count` more parts are done."""
        self.done += count
        self.bar.update(count)

    def left(self) -> str:
        """A phrase such as `, about 3 h left`; empty where all is done or nobody knows how much there is."""
        if not self.total or self.done == self.total:
            return ""
        return f", {time_left(self.seconds, self.done - self.before, self.total - self.before)}"

    def due(self, last: bool = False) -> bool:
        """Whether it is time for a line, which the caller then says; always for the `last` one."""
        now = time.monotonic()
        if not self.lines or (now < self.next_line and not last):
            return False
        self.next_line = now + self.every
        return True


def byte_progress(chunks: Iterable[bytes], label: str, total: int | None, done: int = 0) -> Iterator[bytes]:
    """Pass `chunks` on and show how many of `total` bytes there are: a bar, or a line every 15 seconds.

    `done` bytes were there before.
    """
    with Meter(label, total, done, unit="B", unit_scale=True) as meter:
        for chunk in chunks:
            yield chunk
            meter.advance(len(chunk))
            if meter.due():
                of_all = f" of {human_bytes(total)}{meter.left()}" if total else ""
                say(f"{label}: {human_bytes(meter.done)}{of_all}")


def progress(items: Iterable[Item], label: str, total: int | None = None, every: float = 15.0) -> Iterator[Item]:
    """Iterate over `items` and show how far it is: a bar, or a line every `every` seconds and at the end."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Meter(label, total, every=every) as meter:
        for item in items:
            yield item
            meter.advance()
            if meter.due():
                say(f"{label}: {meter.done}{f'/{total}' if total else ''}{meter.left()}")
    if meter.lines:
        say(f"{label}: {meter.done} done in {meter.seconds:.1f} s")
