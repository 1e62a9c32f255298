"""Building a store from files, by itself and with the manifest, beside what ImageFolder does to open them.

Ours decodes, compares hashes, shrinks and writes; the other only decodes: torchvision's `default_loader`, Pillow to
RGB.
Everything happens in this process, without the children that guard it from damaged files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from torchvision.datasets.folder import default_loader
from urfm.data import manifest, records
from urfm.data.datasets import READERS, Reader
from urfm.data.datasets.common import Record
from urfm.data.images import build

from tests.benchmarks.suite.harness import Result, take_turns
from tests.benchmarks.suite.pictures import Bench, entries, make_store

OTHER = "Pillow to RGB (torchvision)"


def in_this_process(function: Callable[[Any], Any], items: Iterable[Any], *_: object) -> Iterator[Any]:
    """Stands for map_in_processes."""
    return map(function, items)


def results(bench: Bench) -> Iterator[Result]:
    build.map_in_processes = manifest.map_in_processes = in_this_process
    for title, paths in bench.sets.items():
        listed, places = entries(paths), count()
        settings = records.ManifestSettings(dataset="set", reader="listed", folder=".")
        READERS["listed"] = Reader(lambda _, paths=paths: (Record(path=path, name=path.name) for path in paths))

        def store(listed: list[build.Entry] = listed, places: Iterator[int] = places) -> None:
            folder = bench.folder / f"store-{next(places)}"
            make_store(listed, folder)
            shutil.rmtree(folder)

        def with_manifest(paths: list[Path] = paths, settings: records.ManifestSettings = settings) -> None:
            files = bench.folder / "set.parquet", bench.folder / "set.csv"
            manifest.write_manifest(Path(paths[0].anchor), settings, 1, *files)
            store()

        def pillow(paths: list[Path] = paths) -> None:
            for path in paths:
                default_loader(str(path))

        for what, ours, bar in (("store", store, 3.3), ("manifest and store", with_manifest, 2.0)):
            amounts = take_turns({"urfm": ours, OTHER: pillow}, bench.rounds(9))
            yield Result(what, title, "images/s", amounts, len(paths), {OTHER: bar})
