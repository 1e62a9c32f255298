"""Decoding untrusted images, and the store of decoded pixels that training reads.

Images come from the internet and from people, so a file may be anything. Pillow decodes them (torchvision.io
crashed on damaged PNGs, OpenCV rotates by EXIF), only four formats are tried, the header's size is checked
before any pixel is, and it happens in child processes: whatever a file does, the run goes on without it.

Every image becomes uint8 with one channel (grey, also when stored as equal colours) or three (RGB):
- 16-bit grey is scaled from the full range, v x 255 / 65535, never clipped and never stretched;
- palettes and CMYK become RGB; transparency is laid over black, the background of a scan;
- the EXIF orientation is ignored, as torchvision's ImageFolder does, so that pixels stay where masks,
  boxes and callipers of the data set expect them; of several frames the first is read;
- a frame of a NIfTI sequence becomes grey as urfm.data.nifti says.

A store is a folder: `pixels.bin` (all images one after another, row by row), `index.parquet` (image_id, offset,
height, width, channels) and `store.json` (hashes and origin), written last.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import imagehash
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, UnidentifiedImageError

from urfm.cli import Settings, parse_settings, run
from urfm.data import nifti
from urfm.errors import UnusableImage, UrfmError
from urfm.files import atomic_path, read_json, sha256, verify_sha256, write_json, write_parquet
from urfm.progress import progress, say

Pixels = npt.NDArray[np.uint8]
Item = TypeVar("Item")
Result = TypeVar("Result")

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # the largest ultrasound frame is below 3 million; 400 million fit in a PNG of 400 KB


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
            with Image.open(path, formats=FORMATS) as image:  # reads the header only
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnusableImage("too_large", f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")
                image.load()
                return _to_uint8(image)
    except UnusableImage:
        raise
    except FileNotFoundError:
        raise UnusableImage("missing", "no such file") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnusableImage("too_large", str(error)) from error
    except UnidentifiedImageError:
        raise UnusableImage("unreadable", f"not a {', '.join(FORMATS)} file: {_beginning(path)}") from None
    except (
        Exception
    ) as error:  # a damaged file makes Pillow raise almost anything: OSError, SyntaxError, struct.error, …
        raise UnusableImage("unreadable", f"{type(error).__name__}: {error}") from error


def _beginning(path: Path) -> str:
    with open(path, "rb") as stream:
        head = stream.read(24)
    return f"it begins with {head!r}" if head else "it is empty"


def _to_uint8(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return ((wide * 255 + 32767) // 65535).astype(np.uint8)[..., None]
    if image.mode in ("I", "F"):
        raise UnusableImage("unsupported", "32-bit pixels have no agreed display range; store 8 or 16 bits")
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[..., None]
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or (image.mode == "P" and "transparency" in image.info):
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


def perceptual_hash(pixels: Pixels) -> str:
    """64-bit perceptual hash (ImageHash's pHash) as 16 hexadecimal digits: near duplicates differ in few bits."""
    return str(imagehash.phash(to_pillow(pixels)))


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

    Should an item kill its process (a crash in a decoder, the kernel's memory guard), its result is
    `crashed(item)` and the others are not affected.
    """
    remaining = iter(items)
    pool = ProcessPoolExecutor(processes)
    try:
        while block := list(islice(remaining, 16 * processes)):
            try:
                results = list(pool.map(function, block, chunksize=4))
            except BrokenProcessPool:  # it does not tell who did it: take this block one by one
                pool.shutdown()
                results = [_alone(function, item, crashed) for item in block]
                pool = ProcessPoolExecutor(processes)
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(function: Callable[[Item], Result], item: Item, crashed: Callable[[Item], Result]) -> Result:
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return crashed(item)


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
    """Decode `entries` and write them as a store; returns the content of store.json.

    Memory stays flat however many images there are. A store that is being rewritten has no store.json until
    it is whole, so nobody reads a mixture.
    """
    entries = sorted(entries, key=lambda entry: entry.image_id)
    (folder / "store.json").unlink(missing_ok=True)
    index = []
    offset = 0
    digest = hashlib.sha256()
    loaded = map_in_processes(
        partial(_load, long_side=long_side), entries, processes, lambda entry: f"{entry.path}: crashed the decoder"
    )
    with atomic_path(folder / "pixels.bin") as temporary, open(temporary, "wb") as stream:
        for entry, pixels in zip(entries, progress(loaded, "images", len(entries)), strict=True):
            if isinstance(pixels, str):
                raise UrfmError(
                    f"{pixels}. It was usable when the manifest was made; restore it, or delete the manifest and "
                    "run the workflow again"
                )
            content = pixels.tobytes()
            stream.write(content)
            digest.update(content)
            index.append((entry.image_id, offset, *pixels.shape))
            offset += len(content)
    write_parquet(
        folder / "index.parquet", pd.DataFrame(index, columns=["image_id", "offset", "height", "width", "channels"])
    )
    record = {
        "images": len(index),
        "bytes": offset,
        "long_side": long_side,
        "sha256": digest.hexdigest(),
        "index_sha256": sha256(folder / "index.parquet"),
        **origin,
    }
    write_json(folder / "store.json", record)
    return record


class ImageStore:
    """Read access to a store: `store.read(image_id)` gives uint8 (height, width, 3).

    Pixels are memory-mapped: opening is instant, processes share the page cache, and a pickled store (a
    DataLoader's worker) opens the files again.

    Parameters
    ----------
    folder
        What the stage wrote.
    verify
        Also check the SHA-256 of all pixels (reads the whole file).
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
        index = pd.read_parquet(self.folder / "index.parquet")
        self.image_ids: list[str] = index["image_id"].tolist()
        self._places = dict(
            zip(self.image_ids, index[["offset", "height", "width", "channels"]].itertuples(index=False), strict=True)
        )
        # mmap refuses an empty file
        self._pixels: Pixels = np.memmap(pixels, dtype=np.uint8, mode="r") if size else np.empty(0, np.uint8)

    def __reduce__(self) -> tuple[type[ImageStore], tuple[Path]]:
        return ImageStore, (self.folder,)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._places

    def read(self, image_id: str) -> Pixels:
        """The image as a new uint8 array (height, width, 3), 0 to 255; grey is repeated."""
        try:
            offset, height, width, channels = self._places[image_id]
        except KeyError:
            raise UrfmError(f"{self.folder}: no image {image_id!r}; was the store made from this manifest?") from None
        pixels = self._pixels[offset : offset + height * width * channels].reshape(height, width, channels)
        return np.repeat(pixels, 3, axis=2) if channels == 1 else np.array(pixels)


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
    columns = ["image_id", "path", "pixel_sha256", "frame"]
    manifest = pd.read_parquet(arguments.manifest, columns=[*columns, "excluded_reason"])
    usable = manifest.loc[manifest["excluded_reason"] == "", columns]
    entries = [
        Entry(image_id, arguments.root / path, digest, frame)
        for image_id, path, digest, frame in usable.itertuples(index=False)
    ]
    origin = {"manifest_sha256": summary["sha256"], "simulated": summary["simulated"]}
    record = write_store(entries, arguments.output, settings.long_side, arguments.threads, origin)
    say(f"{record['images']:,} images, {record['bytes'] / 1e6:.1f} MB, in {arguments.output}")


if __name__ == "__main__":
    run(main)
