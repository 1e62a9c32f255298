"""What stages tell."""

import os

import pytest
from urfm.core.progress import Meter, say, time_left, warn


@pytest.mark.parametrize(
    ("seconds", "done", "total", "phrase"),
    [
        (10, 1, 3, "about 20 s left"),
        (10, 1, 8, "about 70 s left"),
        (60, 1, 5, "about 4 min left"),
        (3600, 100, 400, "about 3 h left"),
        (5, 7, 7, "about 0 s left"),
    ],
)
def test_time_left(seconds: float, done: int, total: int, phrase: str) -> None:
    assert time_left(seconds, done, total) == phrase


def test_warnings_go_where_errors_go(capsys: pytest.CaptureFixture[str]) -> None:
    warn("50 images, 60 expected")
    assert capsys.readouterr() == ("", "warning: 50 images, 60 expected\n")


def test_work_goes_on_when_the_terminal_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, outer = os.openpty()
    with os.fdopen(outer, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr("sys.stderr", terminal)
        os.close(inner)
        with pytest.raises(OSError, match="Input/output error"):
            print("nobody reads this", flush=True)
        say("nor this")
        warn("nor this")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), outer)  # what is left to write may end


def test_lines_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once if wanted, then a minute apart, and the last one whenever it comes; the time before does not count."""
    now = 100.0
    monkeypatch.setattr("urfm.core.progress.time.monotonic", lambda: now)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with Meter("work", total=10, done=4, every=60, first=0) as meter, Meter("work", total=10, shown=False) as silent:
        said = []
        for _ in range(6):
            now += 25
            for one in (meter, silent):
                one.advance()
            assert not silent.due(last=True)
            if meter.due(last=meter.done == 10):
                said.append((meter.done, meter.left()))
    assert said == [(5, ", about 2 min left"), (8, ", about 50 s left"), (10, "")]


def test_a_terminal_has_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Meter("work", total=3, done=1, first=0) as meter:
        meter.advance()
        assert not meter.due(last=True)
        assert (meter.bar.n, meter.bar.total) == (2, 3)
