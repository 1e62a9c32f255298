"""Cards of a workstation, pretended: what PyTorch is asked about them is replaced, the locks are real."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from urfm.models import device

LIBRARY = Path(device.__file__).parents[2]
PROGRAM = """
import sys
from types import SimpleNamespace
import torch
from urfm.models.device import own_device
cards = sys.argv[2].split(",")
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: len(cards)
torch.cuda.get_device_properties = lambda number: SimpleNamespace(uuid=cards[number])
torch.cuda.set_device = lambda number: print("default", number)
print(own_device(int(sys.argv[1])), own_device(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


class Job:
    """A process that takes a card and keeps it; `said` is its default, its card, and its card asked for again."""

    def __init__(self, folder: Path, cards: str, first: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(first), cards],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(LIBRARY), "TMPDIR": str(folder)},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = " ".join(self.process.stdout.readline().strip() for _ in range(2))

    def end(self) -> str:
        return self.process.communicate(timeout=60)[1]


def test_every_job_has_a_card_of_its_own(tmp_path: Path) -> None:
    first, second = Job(tmp_path, "A,B,C"), Job(tmp_path, "A,B,C")
    assert first.said == "default 0 cuda:0 cuda:0"
    assert second.said == "default 1 cuda:1 cuda:1"
    other = Job(tmp_path, "C,D")  # CUDA_VISIBLE_DEVICES=2,3
    assert other.said == "default 0 cuda:0 cuda:0"
    shared = Job(tmp_path, "A,B,C")
    assert shared.said == "default 0 cuda:0 cuda:0"
    assert "all 3 graphics cards are in use by other jobs of yours: this one shares card 0" in shared.end()
    second.process.kill()  # its lock goes with it
    second.end()
    third = Job(tmp_path, "A,B,C")
    assert third.said == "default 1 cuda:1 cuda:1"
    for job in (first, other, third):
        assert job.end() == ""


def test_processes_of_one_training_take_theirs_in_order(tmp_path: Path) -> None:
    jobs = [Job(tmp_path, "A,B,C,D", first) for first in (0, 1, 2, 0)]
    assert [job.said[-1] for job in jobs] == ["0", "1", "2", "3"]
    for job in jobs:
        job.end()


def test_one_visible_card_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So it is under Slurm; no lock is needed, and two jobs may share a card where a site says so."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: None)
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="A"))
    assert device.own_device.__wrapped__(3) == torch.device("cuda", 0)
    assert list(tmp_path.iterdir()) == []


def test_without_a_card_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.own_device.__wrapped__() == torch.device("cpu")
