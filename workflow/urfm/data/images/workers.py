"""Work on untrusted files in child processes: whatever a file does to its process, the run goes on without it."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import TypeVar

from urfm.core.children import end_children, end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS = 120  # for one item in a child process: an image takes milliseconds, a slow file system longer


def map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int, crashed: Callable[[Item], Result]
) -> Iterator[Result]:
    """Apply `function` to `items` in child processes; results in order, a few at a time in memory.

    Should an item kill its process (a crash in a decoder, the kernel's memory guard) or take longer than SECONDS,
    its result is `crashed(item)` and the others are not affected.
    """
    function = partial(_in_time, function)
    remaining = iter(items)
    pool = ProcessPoolExecutor(processes, initializer=end_with_parent)
    waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    try:
        while True:
            while len(waiting) < 4 * processes and (block := list(islice(remaining, 4))):
                waiting.append((block, _submit(pool, function, block)))
            if not waiting:
                return
            block, future = waiting.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:  # it does not tell who did it: take this block one by one, the others again
                results = [_alone(function, item, crashed) for item in block]
                pool.shutdown()
                pool = ProcessPoolExecutor(processes, initializer=end_with_parent)
                waiting = deque((block, _submit(pool, function, block)) for block, _ in waiting)
            yield from results
    finally:
        end_children()  # they have nothing left to do, or nobody waits for it any more
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, function: Callable[[Item], Result], block: list[Item]) -> Future[list[Result]]:
    """As `pool.submit`, but a pool that is broken says so in the result."""
    try:
        return pool.submit(_map, function, block)
    except BrokenProcessPool as error:
        future: Future[list[Result]] = Future()
        future.set_exception(error)
        return future


def _map(function: Callable[[Item], Result], block: list[Item]) -> list[Result]:
    return [function(item) for item in block]


def _alone(function: Callable[[Item], Result], item: Item, crashed: Callable[[Item], Result]) -> Result:
    with ProcessPoolExecutor(1, initializer=end_with_parent) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return crashed(item)


def _in_time(function: Callable[[Item], Result], item: Item) -> Result:
    """In a child process: `function(item)`, or the end of the process when it takes too long, in C code too."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    try:
        return function(item)
    finally:
        signal.alarm(0)
