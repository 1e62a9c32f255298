"""One writer at a time, until it ends, however it ends."""

import signal
from pathlib import Path

import pytest
from lock_holder import held
from urfm.core import files
from urfm.core.errors import UrfmError
from urfm.core.lock import lock


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / "results" / "store"
    with held(path) as first:
        message = rf"store: another process is at work on it \(process {first.pid} on "
        with pytest.raises(UrfmError, match=message), lock(path):
            pass
        with lock(tmp_path / "results" / "another"):
            pass
    with lock(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_a_killed_holder_holds_nothing_even_if_its_children_live(tmp_path: Path) -> None:
    with held(tmp_path / "store") as first:
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=60)
        with lock(tmp_path / "store"):
            pass
        assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_being_written_has_no_second_writer(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with held(path) as first:
        half = tmp_path / f".table.csv.{first.pid}.tmp"
        half.write_text("half of what the first writes")
        with pytest.raises(UrfmError, match=r"table\.csv: another process is at work on it"):
            files.write_text(path, "second")
        assert half.exists()
        assert not path.exists()
    files.write_text(path, "second")
    assert [item.name for item in tmp_path.iterdir()] == ["table.csv"]
