"""Decode the usable images of a manifest once, into a store of uint8 pixels (stage `images`).

Files are decoded in child processes and compared with the manifest, shrunk to a long side, and written in the order of
their image_id. `urfm.data.images.store` describes the files and reads them. With a filter, each image goes through it
before it is shrunk: a second store of the same images in the same sizes.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from itertools import islice, tee
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from urfm.config.data import Images, Used
from urfm.config.fields import NotNegative
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UnusableImage, UrfmError
from urfm.core.files import (
    ROWS,
    atomic_path,
    parquet_blocks,
    parquet_rows,
    read_json,
    sha256,
    verify_sha256,
    write_record,
)
from urfm.core.lock import lock
from urfm.core.progress import progress, say
from urfm.data.images.blur import blur
from urfm.data.images.decode import decode
from urfm.data.images.pixels import Pixels, pixel_sha256, reduce
from urfm.data.images.store import INDEX
from urfm.data.images.workers import map_in_processes

CHOICES = {"FILTERS": "filter"}  # of urfm.core.code
FILTERS = {"blur": blur}


class ImagesSettings(Images):
    """Settings of the stage: the section `images`, what the data set says of its grey values, and the filter."""

    bits: Used | None = None
    filter: Literal["blur"] | None = None
    blur_sigma: NotNegative = 0


@dataclass(frozen=True)
class Entry:
    """What a child process needs of a manifest row."""

    image_id: str
    path: Path
    pixel_sha256: str
    frame: str = ""


Filter = Callable[[Pixels], Pixels]


def _load(entry: Entry, long_side: int, bits: int | None = None, through: Filter | None = None) -> Pixels | str:
    """The pixels to store, or a sentence if the file is no longer the one in the manifest."""
    try:
        pixels = decode(entry.path, entry.frame, bits)
    except UnusableImage as error:
        return f"{entry.path}: {error.reason} ({error.detail})"
    if pixel_sha256(pixels) != entry.pixel_sha256:
        return f"{entry.path}: its pixels are not those of the manifest"
    return reduce(through(pixels) if through else pixels, long_side)


def write_store(
    entries: Iterable[Entry],
    folder: Path,
    long_side: int,
    processes: int,
    origin: dict[str, Any],
    size: float = 0,
    bits: int | None = None,
    through: Filter | None = None,
) -> dict[str, Any]:
    """Decode `entries` (in any order) and write them as a store, of `size` bytes or more; returns store.json's content.

    Each image goes through the filter `through` at the size of its file.

    Of each image only its entry's text is in memory all the time. A store that is being rewritten has no store.json
    until it is whole, so nobody reads a mixture.
    """
    with lock(folder):
        return _write_store(entries, folder, long_side, processes, origin, size, bits, through)


def _write_store(
    entries: Iterable[Entry],
    folder: Path,
    long_side: int,
    processes: int,
    origin: dict[str, Any],
    size: float,
    bits: int | None,
    through: Filter | None,
) -> dict[str, Any]:
    (folder / "store.json").unlink(missing_ok=True)
    blocks = _blocks(entries)
    images = sum(len(block) for block in blocks)
    ordered, ahead = tee(_sorted(blocks))
    loaded = map_in_processes(
        partial(_load, long_side=long_side, bits=bits, through=through),
        ahead,
        processes,
        lambda entry: f"{entry.path}: crashed the decoder",
    )
    offset = 0
    digest = hashlib.sha256()
    with (
        atomic_path(folder / "pixels.bin", size) as pixels_path,
        atomic_path(folder / "index.parquet") as index_path,
        open(pixels_path, "wb") as stream,
        parquet_rows(index_path, INDEX) as append,
    ):
        for entry, found in zip(ordered, progress(loaded, "images", images), strict=True):
            if isinstance(found, str):
                raise UrfmError(
                    f"{found}. It was usable when the manifest was made; restore it, or delete the manifest and "
                    "run the workflow again"
                )
            content = found.tobytes()
            stream.write(content)
            digest.update(content)
            append(dict(zip(INDEX.names, (entry.image_id, offset, *found.shape), strict=True)))
            offset += len(content)
    record = {
        "images": images,
        "bytes": offset,
        "long_side": long_side,
        "sha256": digest.hexdigest(),
        "index_sha256": sha256(folder / "index.parquet"),
        **origin,
    }
    write_record(folder / "store.json", record)
    return record


def _blocks(entries: Iterable[Entry]) -> list[pa.RecordBatch]:
    """Entries as compact columns, ROWS in a block."""
    schema = pa.schema([(field.name, pa.string()) for field in fields(Entry)])
    remaining = iter(entries)
    return [
        pa.RecordBatch.from_pylist([vars(entry) | {"path": str(entry.path)} for entry in block], schema)
        for block in iter(lambda: list(islice(remaining, ROWS)), [])
    ]


def _sorted(blocks: list[pa.RecordBatch]) -> Iterator[Entry]:
    """The entries of all blocks by image_id; the texts stay where they are."""
    ids = pa.chunked_array([block["image_id"] for block in blocks], pa.string())
    for place in pc.sort_indices(ids).to_numpy():
        block, row = divmod(int(place), ROWS)
        image_id, path, digest, frame = (column[row].as_py() for column in blocks[block].columns)
        yield Entry(image_id, Path(path), digest, frame)


def _entries(root: Path, manifest: Path) -> Iterator[Entry]:
    """The usable rows of a manifest, a block at a time."""
    columns = [*(field.name for field in fields(Entry)), "excluded_reason"]
    for batch in parquet_blocks(manifest, columns):
        for row in batch.to_pylist():
            if row.pop("excluded_reason") == "":
                yield Entry(**row | {"path": root / row["path"]})


def least_bytes(manifest: Path, long_side: int) -> float:
    """What the store of a manifest's usable images takes if all of them are grey; three times as much if none is."""
    size = 0.0
    for batch in parquet_blocks(manifest, ["width", "height", "excluded_reason"]):
        table = batch.to_pandas()
        table = table[table["excluded_reason"] == ""]
        scale = (long_side / table[["width", "height"]].max(axis=1)).clip(upper=1)
        size += float((table["width"] * table["height"] * scale**2).sum())
    return 0.99 * size  # sides are rounded


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Decode the usable images of a manifest once, into a uint8 store.")
    parser.add_argument("--root", type=Path, required=True, help="the data root the manifest's paths start at")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(ImagesSettings.model_fields))
    parser.add_argument("--threads", type=int, default=1, help="child processes")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--manifest-summary", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    settings = parse_settings(ImagesSettings, arguments.settings)

    summary: dict[str, Any] = read_json(arguments.manifest_summary)
    verify_sha256(arguments.manifest, summary["sha256"])
    entries = _entries(arguments.root, arguments.manifest)
    origin = {"manifest_sha256": summary["sha256"], "simulated": summary["simulated"]}
    size = least_bytes(arguments.manifest, settings.long_side)
    through = None
    if settings.filter:
        through = partial(FILTERS[settings.filter], sigma=settings.blur_sigma)
        origin["blur_sigma"] = settings.blur_sigma
    record = write_store(
        entries, arguments.output, settings.long_side, arguments.threads, origin, size, settings.bits, through
    )
    say(f"{record['images']:,} images, {record['bytes'] / 1e6:.1f} MB, in {arguments.output}")


if __name__ == "__main__":
    run(main)
