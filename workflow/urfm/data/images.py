"""Decoding untrusted images, and the store of decoded pixels that training reads.

Images come from the internet and from people, so a file may be anything. Pillow decodes them (torchvision.io
crashed on damaged PNGs, OpenCV rotates by EXIF), only four formats are tried, the header's size is checked
before any pixel is, and it happens in child processes: whatever a file does, the run goes on without it.

Every image becomes uint8 with one channel (grey, also when stored as equal colours) or three (RGB):
- 16-bit grey is scaled from the full range, v x 255 / 65535, never clipped and never stretched; of 16-bit colours
  Pillow gives the high byte, at most one level less;
- palettes and CMYK become RGB; transparency is laid over black, the background of a scan; where a TIFF says that
  0 is white, it is inverted;
- the EXIF orientation of PNG and JPEG is ignored, as torchvision's ImageFolder does, so that pixels stay where
  masks, boxes and callipers of the data set expect them (TIFF has one of its own, which Pillow and ImageFolder
  follow); of several frames the first is read;
- a frame of a NIfTI sequence becomes grey as urfm.data.nifti says.

A store is a folder: `pixels.bin` (all images one after another, row by row), `index.parquet` (image_id, offset,
height, width, channels; sorted by image_id) and `store.json` (hashes and origin), written last.
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import warnings
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from functools import cached_property, partial
from itertools import islice, tee
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UnusableImage, UrfmError
from urfm.core.files import (
    ROWS,
    atomic_path,
    parquet_blocks,
    parquet_rows,
    read_json,
    sha256,
    verify_sha256,
    write_json,
)
from urfm.core.progress import progress, say
from urfm.data import nifti

Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")

INDEX = pa.schema(
    {
        "image_id": pa.string(),
        "offset": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "channels": pa.int32(),
    }
)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # the largest ultrasound frame is below 3 million; 400 million fit in a PNG of 400 KB
SECONDS = 120  # for one item in a child process: an image takes milliseconds, a slow file system longer

# Tags of TIFF, and their values.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED, FLOAT = 0, 2, 3


def decode(path: Path, frame: str = "") -> Pixels:
    """Read an image file as uint8 (height, width, channels), channels 1 (grey) or 3 (RGB), values 0 to 255.

    `frame` is the manifest's: in a NIfTI sequence it says which picture is meant, elsewhere it is not read.
    Raises UnusableImage, and nothing else, for whatever is wrong with the file.
    """
    if nifti.is_nifti(path):
        return nifti.decode(path, frame, MAX_PIXELS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of metadata; the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # By name, Pillow would map grey TIFFs into memory, and scramble those that are stored turned.
            with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as image:  # reads the header only
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnusableImage("too_large", f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")
                image.load()
                return to_uint8(image)
    except UnusableImage:
        raise
    except FileNotFoundError:
        raise UnusableImage("missing", "no such file") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnusableImage("too_large", str(error)) from error
    except UnidentifiedImageError:
        raise UnusableImage("unreadable", f"not a {', '.join(FORMATS)} file that is read: {_beginning(path)}") from None
    except (
        Exception
    ) as error:  # a damaged file makes Pillow raise almost anything: OSError, SyntaxError, struct.error, …
        raise UnusableImage("unreadable", f"{type(error).__name__}: {error}") from error


def _beginning(path: Path) -> str:
    with open(path, "rb") as stream:
        head = stream.read(24)
    return f"it begins with {head!r}" if head else "it is empty"


def to_uint8(image: Image.Image) -> Pixels:
    """A Pillow image as uint8 (height, width, 1 or 3); UnusableImage for what has no agreed range of brightness."""
    tags = getattr(image, "tag_v2", {})  # TIFF's
    if image.mode in ("I", "F") or {SIGNED, FLOAT} & set(tags.get(SAMPLE_FORMAT, ())):
        raise UnusableImage("unsupported", "signed, 32-bit or float pixels have no agreed range; store 8 or 16 bits")
    clear = image.info.get("transparency")  # a grey, a colour, or the opacity of a palette's entries
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        white: int = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            wide = white - wide  # Pillow inverts 8 bits and fewer
        if clear is not None:
            wide[wide == clear] = 0
        return ((wide * 255 + white // 2) // white).astype(np.uint8)[..., None]
    if image.mode in ("1", "L") and clear is None:
        return np.asarray(image.convert("L"))[..., None]
    if clear is not None or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    rgb = np.asarray(image.convert("RGB"))
    grey = np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2])
    return rgb[..., :1] if grey else rgb


def pixel_sha256(pixels: Pixels) -> str:
    """SHA-256 of shape and pixels: equal for equal pictures, whatever the file format."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def to_pillow(pixels: Pixels) -> Image.Image:
    """A Pillow image, mode L or RGB, of uint8 (height, width, 1 or 3)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def reduce(pixels: Pixels, long_side: int) -> Pixels:
    """Shrink to at most `long_side` pixels on the longer side, antialiased, aspect kept; never enlarge."""
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(to_pillow(pixels).resize(size, Image.Resampling.BICUBIC))
    return small.reshape(size[1], size[0], pixels.shape[2])


def map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int, crashed: Callable[[Item], Result]
) -> Iterator[Result]:
    """Apply `function` to `items` in child processes; results in order, a few at a time in memory.

    Should an item kill its process (a crash in a decoder, the kernel's memory guard) or take longer than SECONDS,
    its result is `crashed(item)` and the others are not affected.
    """
    function = partial(_in_time, function)
    remaining = iter(items)
    pool = ProcessPoolExecutor(processes)
    waiting: deque[tuple[list[Item], Future[list[Result]]]] = deque()
    try:
        while True:
            while len(waiting) < 4 * processes and (block := list(islice(remaining, 4))):
                waiting.append((block, _submit(pool, function, block)))
            if not waiting:
                return
            block, future = waiting.popleft()
            try:
                results = future.result()
            except BrokenProcessPool:  # it does not tell who did it: take this block one by one, the others again
                results = [_alone(function, item, crashed) for item in block]
                pool.shutdown()
                pool = ProcessPoolExecutor(processes)
                waiting = deque((block, _submit(pool, function, block)) for block, _ in waiting)
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, function: Callable[[Item], Result], block: list[Item]) -> Future[list[Result]]:
    """As `pool.submit`, but a pool that is broken says so in the result."""
    try:
        return pool.submit(_map, function, block)
    except BrokenProcessPool as error:
        future: Future[list[Result]] = Future()
        future.set_exception(error)
        return future


def _map(function: Callable[[Item], Result], block: list[Item]) -> list[Result]:
    return [function(item) for item in block]


def _alone(function: Callable[[Item], Result], item: Item, crashed: Callable[[Item], Result]) -> Result:
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return crashed(item)


def _in_time(function: Callable[[Item], Result], item: Item) -> Result:
    """In a child process: `function(item)`, or the end of the process when it takes too long, in C code too."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    try:
        return function(item)
    finally:
        signal.alarm(0)


class ImagesSettings(Settings):
    """Settings of the stage."""

    long_side: int = 512


@dataclass(frozen=True)
class Entry:
    """What a child process needs of a manifest row."""

    image_id: str
    path: Path
    pixel_sha256: str
    frame: str = ""


def _load(entry: Entry, long_side: int) -> Pixels | str:
    """The pixels to store, or a sentence if the file is no longer the one in the manifest."""
    try:
        pixels = decode(entry.path, entry.frame)
    except UnusableImage as error:
        return f"{entry.path}: {error.reason} ({error.detail})"
    if pixel_sha256(pixels) != entry.pixel_sha256:
        return f"{entry.path}: its pixels are not those of the manifest"
    return reduce(pixels, long_side)


def write_store(
    entries: Iterable[Entry], folder: Path, long_side: int, processes: int, origin: dict[str, Any]
) -> dict[str, Any]:
    """Decode `entries` (in any order) and write them as a store; returns the content of store.json.

    Of each image only its entry's text is in memory all the time. A store that is being rewritten has no store.json
    until it is whole, so nobody reads a mixture.
    """
    (folder / "store.json").unlink(missing_ok=True)
    blocks = _blocks(entries)
    images = sum(len(block) for block in blocks)
    ordered, ahead = tee(_sorted(blocks))
    loaded = map_in_processes(
        partial(_load, long_side=long_side), ahead, processes, lambda entry: f"{entry.path}: crashed the decoder"
    )
    offset = 0
    digest = hashlib.sha256()
    with (
        atomic_path(folder / "pixels.bin") as pixels_path,
        atomic_path(folder / "index.parquet") as index_path,
        open(pixels_path, "wb") as stream,
        parquet_rows(index_path, INDEX) as append,
    ):
        for entry, pixels in zip(ordered, progress(loaded, "images", images), strict=True):
            if isinstance(pixels, str):
                raise UrfmError(
                    f"{pixels}. It was usable when the manifest was made; restore it, or delete the manifest and "
                    "run the workflow again"
                )
            content = pixels.tobytes()
            stream.write(content)
            digest.update(content)
            append(dict(zip(INDEX.names, (entry.image_id, offset, *pixels.shape), strict=True)))
            offset += len(content)
    record = {
        "images": images,
        "bytes": offset,
        "long_side": long_side,
        "sha256": digest.hexdigest(),
        "index_sha256": sha256(folder / "index.parquet"),
        **origin,
    }
    write_json(folder / "store.json", record)
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


def find(ids: pa.StringArray, image_id: str) -> int | None:
    """The row of an image among sorted ids."""
    row = bisect_left(range(len(ids)), image_id, key=lambda row: ids[row].as_py())
    return row if row < len(ids) and ids[row].as_py() == image_id else None


class ImageStore:
    """Read access to a store: `store.read(image_id)`, or `store.read_row(row)`, gives uint8 (height, width, 3).

    Rows are those of the index, images sorted by their id. Pixels are memory-mapped and the index is held in
    arrays, about 60 bytes an image: opening is quick, forked processes share all of it, and a pickled store
    opens the files again.

    Parameters
    ----------
    folder
        What the stage wrote.
    verify
        Also check the SHA-256 of all pixels (reads the whole file).

    Attributes
    ----------
    ids
        The image ids as an Arrow array, row by row; `image_ids` is the same as a list, made when first asked for.
    """

    def __init__(self, folder: Path, verify: bool = False) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = read_json(self.folder / "store.json")
        verify_sha256(self.folder / "index.parquet", self.record["index_sha256"])
        pixels = self.folder / "pixels.bin"
        size = pixels.stat().st_size if pixels.exists() else 0
        if size != self.record["bytes"]:
            raise UrfmError(
                f"{pixels}: {size:,} bytes, {self.record['bytes']:,} expected; delete the folder and rebuild it"
            )
        if verify:
            verify_sha256(pixels, self.record["sha256"])
        index = pq.read_table(self.folder / "index.parquet", pre_buffer=False, use_threads=False).cast(INDEX)
        self.ids = index["image_id"].combine_chunks()
        self._offsets: npt.NDArray[np.int64] = index["offset"].to_numpy()
        self._shapes: npt.NDArray[np.int32] = np.stack([index[name].to_numpy() for name in INDEX.names[2:]], axis=1)
        # mmap refuses an empty file
        self._pixels: Pixels = np.memmap(pixels, dtype=np.uint8, mode="r") if size else np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type[ImageStore], tuple[Path]]:
        return ImageStore, (self.folder,)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, image_id: str) -> bool:
        return find(self.ids, image_id) is not None

    @cached_property
    def image_ids(self) -> list[str]:
        """All ids, sorted: a convenience, of some 90 bytes an image."""
        return list(self.ids.to_pylist())

    def read(self, image_id: str) -> Pixels:
        """The image as a new uint8 array (height, width, 3), 0 to 255; grey is repeated."""
        row = find(self.ids, image_id)
        if row is None:
            raise UrfmError(f"{self.folder}: no image {image_id!r}; was the store made from this manifest?")
        return self.read_row(row)

    def read_row(self, row: int) -> Pixels:
        """The image of a row of the index, as `read` gives it."""
        offset = int(self._offsets[row])
        height, width, channels = self._shapes[row].tolist()
        pixels = self._pixels[offset : offset + height * width * channels].reshape(height, width, channels)
        return np.repeat(pixels, 3, axis=2) if channels == 1 else np.array(pixels)


def _entries(root: Path, manifest: Path) -> Iterator[Entry]:
    """The usable rows of a manifest, a block at a time."""
    columns = [*(field.name for field in fields(Entry)), "excluded_reason"]
    for batch in parquet_blocks(manifest, columns):
        for row in batch.to_pylist():
            if row.pop("excluded_reason") == "":
                yield Entry(**row | {"path": root / row["path"]})


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
    record = write_store(entries, arguments.output, settings.long_side, arguments.threads, origin)
    say(f"{record['images']:,} images, {record['bytes'] / 1e6:.1f} MB, in {arguments.output}")


if __name__ == "__main__":
    run(main)
