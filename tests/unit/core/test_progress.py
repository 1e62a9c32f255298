"""What stages tell."""

import pytest
from urfm.core.progress import time_left, warn


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
