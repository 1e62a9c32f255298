"""The digest of a data folder changes with its data, and with nothing else."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from urfm.plan import watched
from urfm.plan.availability import folders_and_tables

LONG_AGO = time.time() - 1e6


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder in the generic format, of long ago."""
    folder = tmp_path / "MySet"
    (folder / "images").mkdir(parents=True)
    (folder / "metadata.csv").write_text("image,patient_id\n1.png,a\n2.png,b\n")
    for number in (1, 2):
        (folder / "images" / f"{number}.png").write_text(f"picture {number}")
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (LONG_AGO, LONG_AGO))


def seen(folder: Path) -> str:
    """With a memory that lies beside the folder."""
    return watched.digest(folders_and_tables(folder), folder, folder.parent / "state" / f"{folder.name}.json")


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "images/.DS_Store", "images/Thumbs.db", "images/._1.png", "images/desktop.ini", "~$metadata.csv",
     "__MACOSX/images/._1.png", "images/@eaDir/1.png/thumb.png", ".git/config"],
)  # fmt: skip
def test_junk_is_nothing(data: Path, name: str) -> None:
    before = seen(data)
    (data / name).parent.mkdir(parents=True, exist_ok=True)
    (data / name).write_text("junk")
    assert data.stat().st_mtime > LONG_AGO or (data / "images").stat().st_mtime > LONG_AGO
    assert seen(data) == before
    (data / name).write_text("more junk")
    assert seen(data) == before
    (data / name).unlink()
    assert seen(data) == before


def test_times_alone_are_nothing(data: Path) -> None:
    before = seen(data)
    for when in (time.time(), time.time() + 1e8, LONG_AGO - 1e6):
        for name in (".", "images", "metadata.csv"):
            os.utime(data / name, (when, when))
            assert seen(data) == before


def test_what_comes_goes_or_is_replaced(data: Path) -> None:
    found = [seen(data)]
    (data / "images" / "3.png").write_text("picture 3")
    found.append(seen(data))
    (data / "images" / "1.png").unlink()
    found.append(seen(data))
    other = data / "images" / ".new"  # as rsync does, with the same size
    other.write_text("picture 4")
    other.rename(data / "images" / "2.png")
    found.append(seen(data))
    (data / "images" / "3.png").rename(data / "images" / "4.png")
    found.append(seen(data))
    (data / "more").mkdir()
    found.append(seen(data))
    (data / "metadata.csv").write_text("image,patient_id\n1.png,a\n2.png,c\n")  # in place, with the same size
    found.append(seen(data))
    assert len(set(found)) == len(found)


def test_of_a_large_table_size_and_time_count(data: Path) -> None:
    (data / "metadata.csv").write_text("a" * watched.SMALL)
    before = seen(data)
    assert seen(data) == before
    os.utime(data / "metadata.csv", (LONG_AGO + 1, LONG_AGO + 1))
    assert seen(data) != before


def test_folders_that_did_not_change_are_not_listed_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a file that is overwritten in place is found by `check_data` alone, until another comes."""
    before = seen(data)
    listed: list[str] = []
    listing = watched._listing
    monkeypatch.setattr(watched, "_listing", lambda path, others: listed.append(path.name) or listing(path, others))
    (data / "images" / "1.png").write_text("other picture")
    assert seen(data) == before
    assert listed == []
    (data / "images" / ".DS_Store").touch()
    assert seen(data) != before
    assert listed == ["images"]


def test_a_change_at_once_after_a_look_is_seen(data: Path) -> None:
    """Two changes within a tick of the clock give a folder the same time."""
    (data / "images" / "3.png").touch()
    now = (data / "images").stat()
    before = seen(data)
    (data / "images" / "4.png").touch()
    os.utime(data / "images", ns=(now.st_atime_ns, now.st_mtime_ns))
    assert seen(data) != before


def test_the_place_of_the_data_is_nothing(data: Path, tmp_path: Path) -> None:
    before = seen(data)
    moved = tmp_path / "elsewhere" / "MySet"
    moved.parent.mkdir()
    data.rename(moved)
    assert seen(moved) == before


@pytest.mark.parametrize("content", ["", "[]", "{", '{"images": [0, 0, ""], "record_sha256": "0"}'])
def test_a_memory_that_is_damaged_or_cannot_be_written(data: Path, tmp_path: Path, content: str) -> None:
    before = seen(data)
    memory = tmp_path / "memory.json"
    memory.write_text(content)
    assert watched.digest(folders_and_tables(data), data, memory) == before
    assert watched.digest(folders_and_tables(data), data, memory / "below a file") == before


def test_files_and_links_that_lead_nowhere(data: Path) -> None:
    assert watched.digest([data / "no.json"], data) == watched.digest([], data)
    before = seen(data)
    (data / "images" / "3.png").symlink_to(data / "gone.png")
    assert seen(data) != before
