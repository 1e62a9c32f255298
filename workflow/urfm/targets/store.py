"""Reading stored targets: what `urfm.targets.build` wrote, for pre-training without the teacher.

A folder holds `views.parquet` (image_id, view, top, left, height, width, flip, crc32), `tokens.bin` (images x views x
tokens x dim, float16 or int8, images in the store's order), `scales.bin` (int8 only: one float16 per token; a value is
the whole number times its token's scale) and `targets.json`, written last. Boxes are stored, not seeds: what was
shown to the teacher stays known whatever library draws it. A view's CRC-32 is that of its tokens and then its scales;
whoever reads a view compares it, which costs little beside cutting the image and spares hashing terabytes at a start.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from urfm.core.errors import UrfmError
from urfm.core.files import parquet_blocks, read_json, verify_sha256
from urfm.data.images.store import ImageStore, find
from urfm.data.views import View

VIEWS = pa.schema(
    {
        "image_id": pa.string(),
        "view": pa.int32(),
        **dict.fromkeys(("top", "left", "height", "width"), pa.int32()),
        "flip": pa.bool_(),
        "crc32": pa.uint32(),
    }
)
SAMPLE = 256  # views that are read when targets are opened


def checksum(*arrays: npt.NDArray[Any]) -> np.uint32:
    """CRC-32 of the bytes of a view's arrays."""
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array), value)
    return np.uint32(value)


class TargetStore:
    """Read access to stored targets by row, rows being those of the image store; a pickled store opens the files again.

    Tokens are memory-mapped; boxes and ids are held in arrays, 24 bytes per view.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = read_json(self.folder / "targets.json")
        shape = tuple(self.record[key] for key in ("images", "views", "tokens", "dim"))
        quantised = self.record["dtype"] == "int8"
        self._tokens = self._open("tokens.bin", np.int8 if quantised else np.float16, shape)
        self._scales = self._open("scales.bin", np.float16, shape[:3]) if quantised else None
        verify_sha256(self.folder / "views.parquet", self.record["sha256"]["views.parquet"])
        if pq.read_schema(self.folder / "views.parquet").names != VIEWS.names:
            raise UrfmError(f"{self.folder}: made by another version of this workflow; delete it and rebuild it")
        self._boxes: npt.NDArray[np.int32] = np.empty((*shape[:2], len(View._fields)), np.int32)
        for place, name in enumerate(View._fields):
            column = pq.read_table(self.folder / "views.parquet", columns=[name])[name]
            self._boxes[..., place] = column.to_numpy().reshape(shape[:2])
        checks = pq.read_table(self.folder / "views.parquet", columns=["crc32"])["crc32"]
        self._checks: npt.NDArray[np.uint32] = checks.to_numpy().reshape(shape[:2])
        firsts = []  # the id of each image's first view
        start = 0
        for batch in parquet_blocks(self.folder / "views.parquet", ["image_id"]):
            firsts.append(batch["image_id"].take(np.arange(-start % shape[1], len(batch), shape[1])).cast(pa.string()))
            start += len(batch)
        self.ids = pa.chunked_array(firsts, pa.string()).combine_chunks()

    def _open(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        path = self.folder / name
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        size = path.stat().st_size if path.exists() else 0
        if size != expected:
            raise UrfmError(f"{path}: {size:,} bytes, {expected:,} expected; delete the folder and rebuild it")
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)

    def __reduce__(self) -> tuple[type[TargetStore], tuple[Path]]:
        return TargetStore, (self.folder,)

    def row(self, image_id: str) -> int:
        """The row of an image, the same as in the store that the targets were made from."""
        row = find(self.ids, image_id)
        if row is None:
            raise UrfmError(f"{self.folder}: no targets of {image_id!r}; was it built from this store?")
        return row

    def view(self, row: int, view: int) -> View:
        """The box of a stored view."""
        top, left, height, width, flip = self._boxes[row, view].tolist()
        return View(top, left, height, width, bool(flip))

    def tokens(self, row: int, view: int) -> Tensor:
        """The teacher's tokens of a stored view, (h * w, dim): float16, or float32 if they were stored as int8.

        An UrfmError if they are not what was stored.
        """
        values = np.array(self._tokens[row, view])
        arrays = [values] if self._scales is None else [values, np.array(self._scales[row, view])]
        if checksum(*arrays) != self._checks[row, view]:
            raise UrfmError(
                f"{self.folder / 'tokens.bin'}: view {view} of {self.ids[row]} is not what was stored: its content "
                "changed after it was made; delete the folder and run the workflow again"
            )
        return torch.from_numpy(values if len(arrays) == 1 else values * arrays[1].astype(np.float32)[:, None])

    def check_sample(self) -> None:
        """Read some views, drawn anew each time: an UrfmError if they are not what was stored."""
        views = self._checks.size
        for number in np.random.default_rng().choice(views, min(SAMPLE, views), replace=False).tolist():
            self.tokens(*divmod(number, self._checks.shape[1]))

    def scale(self, row: int, view: int) -> npt.NDArray[np.float32]:
        """Distance of two neighbouring stored values, (h * w,); 0 for float16."""
        if self._scales is None:
            return np.zeros(self._tokens.shape[2], np.float32)
        return np.asarray(self._scales[row, view], dtype=np.float32)

    def check_store(self, store: ImageStore) -> None:
        """Raise an UrfmError unless the targets were made from exactly these images."""
        if store.record["sha256"] != self.record["store_sha256"] or not store.ids.equals(self.ids):
            raise UrfmError(f"{self.folder}: made from other images than {store.folder}; delete it and rebuild it")
