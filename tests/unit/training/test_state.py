"""State files survive kills and damage; signals end a loop in order."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from urfm.training import state


def test_round_trip_is_exact(tmp_path: Path) -> None:
    content = {"weights": {"a": torch.randn(5, 7)}, "step": 3, "history": [{"loss": 0.1}], "rng": torch.get_rng_state()}
    state.save(tmp_path / "s.pt", content)
    read = state.load(tmp_path / "s.pt")
    assert read is not None
    assert torch.equal(read["weights"]["a"], content["weights"]["a"])  # type: ignore[index]
    assert read["step"] == 3
    assert read["history"] == [{"loss": 0.1}]
    assert state.load(tmp_path / "absent.pt") is None


@pytest.mark.parametrize("damage", ["half", "tail", "flip", "empty"])
def test_damaged_file_falls_back_to_the_previous_one(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.pt"
    for step in (1, 2):
        state.save(path, {"step": step, "tensor": torch.full((1000,), float(step))})
    data = bytearray(path.read_bytes())
    if damage == "half":
        data = data[: len(data) // 2]
    elif damage == "tail":
        data = data[:-1]
    elif damage == "flip":
        data[len(data) // 2] ^= 1
    else:
        data = bytearray()
    path.write_bytes(data)

    read = state.load(path)
    assert read is not None
    assert read["step"] == 1

    state.save(path, {"step": 3})
    assert state.load(path) == {"step": 3}
    path.write_bytes(b"torn")
    kept = state.load(path)
    assert kept is not None
    assert kept["step"] == 1, "a torn file must never replace the previous one"


def test_failed_write_leaves_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    state.save(path, {"step": 1})
    with pytest.raises((AttributeError, TypeError)):
        state.save(path, {"step": lambda: None})
    assert state.load(path) == {"step": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.pt"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138), (signal.SIGINT, 130)])
def test_signal_lets_the_loop_save_and_sets_the_exit_code(number: signal.Signals, code: int) -> None:
    saved = []
    before = signal.getsignal(number)

    def loop() -> None:
        with state.stop_signals() as stop:
            for step in range(10):
                if step == 4:
                    os.kill(os.getpid(), number)
                    os.kill(os.getpid(), number)  # forwarded again by a launcher
                if stop:
                    saved.append(step)
                    stop.leave()

    with pytest.raises(SystemExit) as exit_:
        loop()
    assert exit_.value.code == code
    assert saved == [4]
    assert signal.getsignal(number) is before
