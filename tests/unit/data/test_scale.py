"""Memory does not grow with the number of images, but by the few bytes that are promised."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from urfm.core import files
from urfm.data import manifest, records
from urfm.data.datasets import READERS, Reader
from urfm.data.datasets.common import Listed, Record
from urfm.data.images import build
from urfm.data.images.build import Entry
from urfm.data.images.pixels import Pixels
from urfm.data.images.store import ImageStore
from urfm.data.records import Candidate, Rejection

FEW, MANY = 1_000, 9_000
SETTINGS = records.ManifestSettings(dataset="set", reader="synthetic", folder="Set")


@pytest.fixture(autouse=True)
def small_blocks_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks much smaller than the data, and nothing hidden in a child process."""

    def here(function: Callable[[Any], Any], items: Iterable[Any], *_: object) -> Iterator[Any]:
        return map(function, items)

    for module in (files, build):
        monkeypatch.setattr(module, "ROWS", 200)
    for module in (build, manifest):
        monkeypatch.setattr(module, "map_in_processes", here)


def peak(run: Callable[[], object]) -> int:
    """Most bytes that Python and numpy held while running."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(root: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, int]:
    """A manifest of records that exist nowhere; returns its file and the most bytes that Arrow held meanwhile."""
    arrow = 0

    def read(folder: Path) -> Iterator[Record]:
        path = folder / "all.png"  # one for all: Python's own table of the names in paths grows in leaps
        for number in range(rows):
            label = f"label {number % 3 if number > 9 else 0}"
            yield Record(path, f"{number}", label, f"{number // 2}", "metadata")

    def inspect(candidate: Candidate, **_: object) -> manifest.Content | Rejection:
        nonlocal arrow
        arrow = max(arrow, pa.total_allocated_bytes())
        number = int(candidate[0].name)
        if number % 10 == 9:
            return Rejection("missing", "no such file")
        return manifest.Content(digest(f"{number}"), digest(f"{number // 10}"), "0" * 16, 640, 480)

    monkeypatch.setitem(READERS, "synthetic", Reader(read))
    monkeypatch.setattr(manifest, "inspect", inspect)
    (root / "Set").mkdir(parents=True)
    before = pa.total_allocated_bytes()
    table = root / "set.parquet"
    manifest.write_manifest(root, SETTINGS, 1, table, root / "set.csv")
    return table, arrow - before


def test_a_manifest_of_many_rows_takes_the_memory_of_one_of_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path / "warm", 500, monkeypatch)  # what is imported or cached once
    arrow = {}

    def run(rows: int) -> None:
        arrow[rows] = write_manifest(tmp_path / str(rows), rows, monkeypatch)[1]

    few, many = (peak(lambda rows=rows: run(rows)) for rows in (FEW, MANY))
    assert many - few < 80 * (MANY - FEW)  # a record alone is over 500 bytes
    assert arrow[MANY] < 2 * arrow[FEW]


def test_what_blocks_hold_is_put_together_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pd.read_parquet(write_manifest(tmp_path, 1234, monkeypatch)[0])
    usable = [number for number in range(1234) if number % 10 != 9]
    assert table["image_id"].tolist() == [f"set/{number}" for number in usable]
    assert table["sha256"].tolist() == [digest(f"{number}") for number in usable]
    assert table["patient_id"].tolist() == [f"set/{number // 2}" for number in usable]
    # Nine images a picture, with three labels but for the first: all contradict one another.
    assert (table["excluded_reason"] == "").tolist() == [number < 10 for number in usable]
    assert set(table["excluded_reason"]) == {"", "the same picture occurs under another label"}


def write_store(folder: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("all.png")
    entries = (Entry(f"set/{number * 7919 % rows:06}", path, "") for number in range(rows))

    def load(entry: Entry, **_: object) -> Pixels:
        return np.full((2, 1, 1), int(entry.image_id[4:]) % 251, np.uint8)

    monkeypatch.setattr(build, "_load", load)
    build.write_store(entries, folder, 512, 1, {"manifest_sha256": "", "simulated": True})


def test_a_store_is_written_and_opened_in_few_bytes_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_store(tmp_path / "warm", 500, monkeypatch)
    few, many = (peak(lambda rows=rows: write_store(tmp_path / str(rows), rows, monkeypatch)) for rows in (FEW, MANY))
    assert many - few < 30 * (MANY - FEW)  # an entry alone is over 500 bytes

    opened: list[ImageStore] = []
    held = peak(lambda: opened.append(ImageStore(tmp_path / str(MANY))))
    store = opened[0]
    assert held + store.ids.nbytes < 80 * MANY
    for row in (0, 1, 199, 200, MANY - 1):
        assert store.ids[row].as_py() == f"set/{row:06}"
        np.testing.assert_array_equal(store.read_row(row), np.full((2, 1, 3), row % 251))
        np.testing.assert_array_equal(store.read(f"set/{row:06}"), store.read_row(row))


def test_listed_paths_take_a_few_bytes() -> None:
    def fill() -> Listed:
        listed = Listed()
        for number in range(MANY):
            listed.add(Path(f"images/{number}.png"))
        assert Path("images/0.png") in listed
        return listed

    assert min(peak(fill) for _ in range(3)) < 40 * MANY  # other threads of the process may ask for memory too
    listed = fill()
    assert all(Path(f"images/{number}.png") in listed for number in range(0, MANY, 97))
    assert not any(Path(f"images/{number}.jpg") in listed for number in range(0, MANY, 97))
    assert Path("images/0.png") not in Listed()
