"""Lesions as the archives outline them: masks of BUS-BRA, BUID and MMOTU, polygons of Liver735.

Manifests and stores do not hold them; they are read for single images, to be drawn or compared with maps.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from urfm.core.errors import UnusableImage
from urfm.core.progress import say
from urfm.data.images.decode import decode

Mask = npt.NDArray[np.bool_]


def lesion_file(reader: str, image: Path) -> Path | None:
    """Where an archive of this reader has the outline of the lesion in an image; None if it has none of any image."""
    if reader == "busbra":
        return image.parents[1] / "Masks" / f"{image.stem.replace('bus_', 'mask_', 1)}.png"
    if reader == "aul":
        return image.parents[1] / "segmentation" / "mass" / f"{image.stem}.json"
    if reader == "buid":
        return image.with_name(f"{image.stem.removesuffix('Image')}Mask.tif")
    if reader == "mmotu":
        return image.parents[1] / "annotations" / f"{image.stem}_binary.PNG"
    return None


def lesion_mask(reader: str, image: Path, width: int, height: int) -> Mask | None:
    """The lesion of an image file of `width` x `height` pixels, (height, width); None if nobody outlined one.

    A file that cannot be read, or is of another size, is named in the log and left out.
    """
    path = lesion_file(reader, image)
    if path is None or not path.is_file():
        return None
    try:
        mask = _polygon(path, width, height) if path.suffix == ".json" else decode(path)[..., 0] > 127
    except UnusableImage as error:
        say(f"warning: {path}: not used: {error.reason} ({error.detail})")
        return None
    if mask.shape != (height, width):
        say(f"warning: {path}: not used: {mask.shape[1]} x {mask.shape[0]} pixels, the image {width} x {height}")
        return None
    return mask if mask.any() else None


def _polygon(path: Path, width: int, height: int) -> Mask:
    """The inside of corners [[column, row], ...]."""
    try:
        corners = [(float(x), float(y)) for x, y in json.loads(path.read_text(encoding="utf-8"))]
        if len(corners) < 3 or not np.isfinite(corners).all():
            raise ValueError(f"{len(corners)} corners, or one at infinity")
        picture = Image.new("1", (width, height))
        ImageDraw.Draw(picture).polygon(corners, fill=1)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnusableImage("unreadable", f"not a polygon: {error}") from error
    return np.array(picture)
