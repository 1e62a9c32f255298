"""A stage in a process group of its own that is stopped at a chosen moment, so that it can be killed there.

The stage runs in a fork of this process, which has imported the slow libraries: all of its time is work. Apart from
that it is `python -m MODULE ARGUMENTS`.
"""

from __future__ import annotations

import atexit
import faulthandler
import importlib
import json
import os
import re
import runpy
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tests.faults.jobs import House, Job

LIBRARIES = (
    "PIL.Image", "jinja2", "matplotlib.pyplot", "nibabel", "pandas", "pyarrow.parquet", "pydantic.main", "scipy.stats",
    "sklearn.linear_model", "sklearn.manifold", "sklearn.metrics", "sklearn.model_selection", "timm.optim", "torch",
    "torchvision.transforms.v2", "tqdm",
)  # fmt: skip
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "open"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
HASHING = re.compile(r"sha256|digest|hash|_is_whole|verif", flags=re.IGNORECASE)
WRITING = re.compile(r"\bexport|\bwrite_|\bsave|atomic_path")


def kind_of(stack: str) -> str:
    """What a process was at, by the names of the functions it was in."""
    return "hashing" if HASHING.search(stack) else "writing" if WRITING.search(stack) else "work"


def import_libraries() -> None:
    """Once, for all stages to come."""
    for name in LIBRARIES:
        importlib.import_module(name)


class Stage:
    """A running job.

    Parameters
    ----------
    after
        Seconds, or the number of a file operation before which it stops; None: it is left alone.
    """

    def __init__(self, house: House, job: Job, log: Path, after: float | int | None = None) -> None:
        self.job, self.begun = job, time.monotonic()
        self.pipe, written = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            work(house, job, log, after, written)
        os.close(written)
        self.code: int | None = None
        self.seconds = 0.0

    def stopped(self, patience: float = 300) -> str | None:
        """Where it was at the moment, innermost function first; None if it has ended before."""
        deadline = time.monotonic() + patience
        while not select.select([self.pipe], [], [], 0.05)[0]:
            assert time.monotonic() < deadline, f"{self.job.module} neither works nor ends"
            if self.ended():
                return None
        return os.read(self.pipe, 1 << 16).decode() or None

    def ended(self) -> bool:
        """Whether its main process is no more."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                self.seconds = time.monotonic() - self.begun
        return self.code is not None

    def wait(self, patience: float = 300) -> int:
        """Its exit code; negative for a signal, 124 as of timeout(1)."""
        deadline = time.monotonic() + patience
        while not self.ended():
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                return 124
            time.sleep(0.005)
        os.close(self.pipe)
        assert self.code is not None
        return self.code


def work(house: House, job: Job, log: Path, after: float | int | None, pipe: int) -> NoReturn:
    """In the fork: be the job, and never come back."""
    code = 1
    try:
        os.setsid()
        os.chdir(house.folder)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.clear()
        os.environ.update(house.environment)
        sys.argv = ["", *job.arguments]
        sys.path[0] = str(house.folder / "workflow")
        operations: list[str] = []
        if isinstance(after, float):
            faulthandler.dump_traceback_later(after, file=pipe)
        else:
            sys.addaudithook(watcher(operations, after, pipe))
        runpy.run_module(job.module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        if after is None:
            log.with_suffix(".operations").write_text(json.dumps(operations))
        os._exit(code)


def watcher(operations: list[str], stop: int | None, pipe: int) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that notes what is done to files of the results, and stops before one operation."""
    main = os.getpid()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or os.getpid() != main or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(arguments[0])
        if not (path.startswith("out/") or "/out/" in path) or "/out/logs/" in path:
            return
        functions, frame = "", sys._getframe()
        while frame := frame.f_back:  # type: ignore[assignment]
            functions += f"{frame.f_code.co_name} "
        kind = kind_of(functions)
        operations.append("writing" if kind == "work" and (event != "open" or arguments[2] & WRITES) else kind)
        if len(operations) == stop:
            faulthandler.dump_traceback(file=pipe, all_threads=False)
            time.sleep(3600)

    return watch


def session(leader: int) -> list[int]:
    """Processes that a leader has started and that live, itself among them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(number) == leader and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def gone(leader: int, patience: float) -> float | None:
    """Seconds until all processes of a session have ended; None: they have not, and were ended now."""
    begun = time.monotonic()
    while left := session(leader):
        if time.monotonic() - begun > patience:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return None
        time.sleep(0.02)
    return time.monotonic() - begun
