"""Child processes end with their parent, and a stage does not wait for those that died."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from urfm.core import files

LIBRARY = Path(files.__file__).parents[2]
SLEEPERS = """
import os, sys, time
from urfm.core.cli import run
from urfm.core.files import atomic_path
from urfm.data.images.workers import map_in_processes

def sleep(number):
    print(os.getpid(), flush=True)
    time.sleep(600)

def main():
    with atomic_path(sys.argv[1] + "/pixels.bin") as temporary:
        temporary.write_bytes(b"half")
        list(map_in_processes(sleep, range(8), 2, print))

run(main)
"""
LOADERS = """
import os, sys, time, torch
from urfm.core.children import loader_processes
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.training import state

class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        if index == 0:
            print(os.getpid(), flush=True)
        if index == 40 and sys.argv[1] == "shm":
            raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")
        if index == 40 and sys.argv[1] == "mistake":
            raise UrfmError("tokens.bin: its content changed")
        time.sleep(0.05)
        return torch.zeros(10)

def main():
    loader = torch.utils.data.DataLoader(
        Images(), batch_size=4, num_workers=2, worker_init_fn=state.ignore_stop_signals, multiprocessing_context="fork"
    )
    with state.stop_signals(), loader_processes():
        for batch in loader:
            pass

run(main)
"""


def start(program: str, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, argument], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(LIBRARY), "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip


def lives(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(children: set[int]) -> None:
    limit = time.monotonic() + 60
    while any(lives(child) for child in children):
        assert time.monotonic() < limit, f"{children} outlive their parent"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_decoders_end_with_their_stage(tmp_path: Path, number: signal.Signals) -> None:
    stage = start(SLEEPERS, str(tmp_path))
    assert stage.stdout is not None
    children = {int(stage.stdout.readline()) for _ in range(2)}
    assert len(children) == 2
    stage.send_signal(number)
    assert stage.wait(timeout=60) == (143 if number == signal.SIGTERM else -9)
    wait_until_gone(children)
    left = {path.name for path in tmp_path.iterdir()}
    if number == signal.SIGTERM:
        assert left == set()
    else:
        assert left == {f".pixels.bin.{stage.pid}.tmp", ".pixels.bin.lock"}
        files.write_text(tmp_path / "pixels.bin", "whole")
        assert {path.name for path in tmp_path.iterdir()} == {"pixels.bin"}
    stage.communicate()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "kill",
            r"DataLoader worker .*(signal: Killed|exited unexpectedly).*memory ran out, or /dev/shm.*lower `threads`",
        ),
        ("shm", r"memory ran out, or /dev/shm.*lower `threads`"),
        ("mistake", r"error: tokens\.bin: its content changed$"),
    ],
)
def test_a_loader_that_fails_ends_the_stage_in_one_sentence(fault: str, message: str) -> None:
    stage = start(LOADERS, fault)
    assert stage.stdout is not None
    loader = int(stage.stdout.readline())
    if fault == "kill":
        os.kill(loader, signal.SIGKILL)
    _, said = stage.communicate(timeout=120)  # not for ever
    assert stage.returncode == 1, said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in said
    assert re.search(message, line), said
