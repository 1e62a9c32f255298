"""Reading a store of decoded pixels, which urfm.data.images.build wrote.

A store is a folder: `pixels.bin` (all images one after another, row by row), `index.parquet` (image_id, offset,
height, width, channels; sorted by image_id) and `store.json` (hashes and origin), written last.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.data.images.pixels import Pixels

INDEX = pa.schema(
    {
        "image_id": pa.string(),
        "offset": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "channels": pa.int32(),
    }
)


def find(ids: pa.StringArray, image_id: str) -> int | None:
    """The row of an image among sorted ids."""
    row = bisect_left(range(len(ids)), image_id, key=lambda row: ids[row].as_py())
    return row if row < len(ids) and ids[row].as_py() == image_id else None


class ImageStore:
    """Read access to a store: `store.read(image_id)`, or `store.read_row(row)`, gives uint8 (height, width, 3).

    Rows are those of the index, images sorted by their id. Pixels are memory-mapped and the index is held in
    arrays, about 60 bytes per image: opening is quick, forked processes share all of it, and a pickled store
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
        index = pq.read_table(self.folder / "index.parquet", pre_buffer=False, use_threads=False)
        if index.column_names != INDEX.names:
            raise UrfmError(
                f"{self.folder}: made by another version of this workflow; delete the folder and rebuild it"
            )
        index = index.cast(INDEX)
        self.ids = index["image_id"].combine_chunks()
        self._offsets: npt.NDArray[np.int64] = index["offset"].to_numpy()
        self._shapes: npt.NDArray[np.int32] = np.stack([index[name].to_numpy() for name in INDEX.names[2:5]], axis=1)
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
        """All ids, sorted: a convenience, of some 90 bytes per image."""
        return list(self.ids.to_pylist())

    def check_blur(self, sigma: float) -> None:
        """Raise an UrfmError unless the files were blurred by this sigma before they were shrunk; 0: not at all."""
        found = self.record.get("blur_sigma", 0.0)
        if found != sigma:
            raise UrfmError(
                f"{self.folder}: its images were blurred by {found:g} pixels, expected {sigma:g} (0: sharp); name the "
                "data set's other store (results/images/… is sharp, results/images_blurred/<sigma>/… blurred)"
            )

    def check_twin(self, other: ImageStore) -> None:
        """Raise an UrfmError unless `other` holds the same images, in the same sizes, blurred or not."""
        if not self.ids.equals(other.ids) or not np.array_equal(self._shapes, other._shapes):
            raise UrfmError(f"{other.folder}: not the images of {self.folder}; delete both folders and rebuild them")

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
