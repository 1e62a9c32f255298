"""Start stages from a process that has imported the slow libraries already.

The demo is hundreds of short jobs, and importing torch and timm costs each of them more than its work. A server
imports them once and forks for every command, as zygotes do; a client hands it the command, its environment and its
standard streams, passes signals on, and ends with its exit code. Results are those of a fresh process: nothing of
this package, no random state that a stage reads, and no device is touched before the fork.

    python -m urfm.core.warm SOCKET &                the server, until the process that starts it ends
    python -I -S workflow/urfm/core/warm.py SOCKET urfm.doctor.report ARGUMENTS
                                                as python -m urfm.doctor.report ARGUMENTS, from the server if it is up

For one machine and short jobs (envs/run demo); clusters and long jobs do without.
"""

# ruff: noqa: F401 (imported for the processes to come)
from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import socketserver
import sys
import threading
import traceback
from pathlib import Path

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Stage(socketserver.BaseRequestHandler):
    """One command, in a process of its own."""

    def handle(self) -> None:
        message, streams, _, _ = socket.recv_fds(self.request, 1 << 20, 3)
        while not message.endswith(b"\n"):
            message += self.request.recv(1 << 20)
        command = json.loads(message)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(command["folder"])
        os.environ.clear()
        os.environ.update(command["environment"])
        for number in FORWARDED:  # as in a fresh process of the client's
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, signal.SIG_IGN if number in command["ignored"] else default)
        sys.argv = ["", *command["arguments"]]
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        self.request.sendall(f"{os.getpid()}\n".encode())
        threading.Thread(target=self.end_with_client, daemon=True).start()
        code = 1
        try:
            runpy.run_module(command["module"], run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        self.request.sendall(f"{code}\n".encode())

    def end_with_client(self) -> None:
        """A client that was killed takes its command with it."""
        if not self.request.recv(1):
            os.kill(os.getpid(), signal.SIGTERM)


class Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks for every connection, and ends with the process that started it, however that ended."""

    block_on_close = False  # commands that still run end with their clients
    parent = os.getppid()

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self.parent:
            raise SystemExit


def serve(path: str) -> None:
    """Import the libraries, then answer at `path`, in a folder that is removed in the end."""
    import jinja2
    import matplotlib.backends.backend_agg
    import matplotlib.pyplot
    import nibabel
    import pyarrow.parquet
    import pydantic.main
    import scipy.stats
    import sklearn.linear_model
    import sklearn.manifold
    import sklearn.metrics
    import sklearn.model_selection
    import timm.optim
    import torchvision.transforms.v2
    import tqdm

    gc.freeze()  # the collections of the children leave the libraries' pages shared
    for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal; they are for the commands
        signal.signal(number, signal.SIG_IGN)
    try:
        with Server(path, Stage) as server:
            server.serve_forever()
    finally:
        Path(path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds something else
            Path(path).parent.rmdir()


def start(path: str, module: str, arguments: list[str]) -> int:
    """Run a module in the server, or in a fresh process if none answers; its exit code."""
    connection = socket.socket(socket.AF_UNIX)
    command = {
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "ignored": [number for number in FORWARDED if signal.getsignal(number) is signal.SIG_IGN],
        "module": module,
        "arguments": arguments,
    }
    content = json.dumps(command).encode() + b"\n"
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is a process to pass them on to
    try:
        connection.connect(path)
        sent = socket.send_fds(connection, [content], [0, 1, 2])
        connection.sendall(content[sent:])
        answers = connection.makefile()
        process = int(answers.readline())
    except (OSError, ValueError):  # no server, or it ended before it took the command
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
    for number in FORWARDED:
        signal.signal(number, lambda received, _: os.kill(process, received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return int(answers.readline() or 1)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(start(sys.argv[1], sys.argv[2], sys.argv[3:]))
