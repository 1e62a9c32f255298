"""Reading stored targets: what `urfm.data.targets` wrote, for pre-training without the teacher.

A folder holds `views.parquet` (image_id, view, top, left, height, width, flip), `tokens.bin` (images x views x
tokens x dim, float16 or int8, images in the store's order), `scales.bin` (int8 only: one float16 a token; a value is
the whole number times its token's scale) and `targets.json`, written last. Boxes are stored, not seeds: what was
shown to the teacher stays known whatever library draws it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from urfm.cli import Settings
from urfm.data.augmentation import View
from urfm.data.images import ImageStore
from urfm.errors import UrfmError
from urfm.files import read_json, verify_sha256
from urfm.models.teachers import TeacherSettings


class TargetSettings(Settings):
    """Settings of the stage that stores targets; kept in targets.json."""

    teacher: TeacherSettings
    input_size: int = Field(ge=16)
    views: int = Field(ge=1)
    view_dtype: Literal["float16", "int8"]
    crop_scale: tuple[float, float]
    flip: bool
    seed: int = Field(ge=0)


class TargetStore:
    """Read access to stored targets; tokens are memory-mapped, and a pickled store opens the files again.

    Parameters
    ----------
    folder
        What the stage wrote.
    verify
        Also check the SHA-256 of the tokens (reads the whole file).
    """

    def __init__(self, folder: Path, verify: bool = False) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = read_json(self.folder / "targets.json")
        shape = tuple(self.record[key] for key in ("images", "views", "tokens", "dim"))
        quantised = self.record["dtype"] == "int8"
        self._tokens = self._open("tokens.bin", np.int8 if quantised else np.float16, shape)
        self._scales = self._open("scales.bin", np.float16, shape[:3]) if quantised else None
        for name, digest in self.record["sha256"].items():
            if verify or name == "views.parquet":
                verify_sha256(self.folder / name, digest)
        table = pd.read_parquet(self.folder / "views.parquet")
        self._boxes = table[list(View._fields)].to_numpy(dtype=np.int64).reshape(*shape[:2], len(View._fields))
        self.image_ids: list[str] = table["image_id"].tolist()[:: shape[1]]
        self._rows = {image_id: row for row, image_id in enumerate(self.image_ids)}

    def _open(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        path = self.folder / name
        expected = int(np.prod(shape)) * np.dtype(dtype).itemsize
        size = path.stat().st_size if path.exists() else 0
        if size != expected:
            raise UrfmError(f"{path}: {size:,} bytes, {expected:,} expected; delete the folder and rebuild it")
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)

    def __reduce__(self) -> tuple[type[TargetStore], tuple[Path]]:
        return TargetStore, (self.folder,)

    def view(self, image_id: str, view: int) -> View:
        """The box of a stored view."""
        top, left, height, width, flip = self._boxes[self._row(image_id), view].tolist()
        return View(top, left, height, width, bool(flip))

    def tokens(self, image_id: str, view: int) -> Tensor:
        """The teacher's tokens of a stored view, (h * w, dim): float16, or float32 if they were stored as int8."""
        row = self._row(image_id)
        values = self._tokens[row, view]
        if self._scales is None:
            return torch.from_numpy(np.array(values))
        return torch.from_numpy(values * self._scales[row, view].astype(np.float32)[:, None])

    def scale(self, image_id: str, view: int) -> npt.NDArray[np.float32]:
        """Distance of two neighbouring stored values, (h * w,); 0 for float16."""
        if self._scales is None:
            return np.zeros(self._tokens.shape[2], np.float32)
        return np.asarray(self._scales[self._row(image_id), view], dtype=np.float32)

    def _row(self, image_id: str) -> int:
        try:
            return self._rows[image_id]
        except KeyError:
            raise UrfmError(f"{self.folder}: no targets of {image_id!r}; was it built from this store?") from None

    def check_store(self, store: ImageStore) -> None:
        """Raise an UrfmError unless the targets were made from exactly these images."""
        if store.record["sha256"] != self.record["store_sha256"] or store.image_ids != self.image_ids:
            raise UrfmError(f"{self.folder}: made from other images than {store.folder}; delete it and rebuild it")
