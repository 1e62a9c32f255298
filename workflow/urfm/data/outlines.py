"""Lesions as the archives outline them: masks of BUS-BRA, BUID and MMOTU, polygons of Liver735.

Manifests and stores do not hold them; they are read for single images, to be drawn or compared with maps. An archive
that has some gets a line in OUTLINES, under the name of its reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from urfm.core.errors import UnusableImage
from urfm.core.progress import warn
from urfm.data.images.decode import decode

Mask = npt.NDArray[np.bool_]


class Outlines(NamedTuple):
    """Where an archive has the outline of the lesion in an image, and how it is drawn there."""

    file: Callable[[Path], Path]  # of an image's file; it need not exist
    read: Callable[[Path, int, int], Mask]  # of that file, for an image of this width and height


def lesion_mask(reader: str, image: Path, width: int, height: int) -> Mask | None:
    """The lesion in an image, as its archive outlines it.

    Parameters
    ----------
    reader
        The data set's, a name in READERS.
    image
        The image's file, as published.
    width, height
        In pixels, of that file.

    Returns
    -------
    Mask or None
        (height, width), true inside; None if nobody outlined a lesion there. A file that cannot be read, or is of
        another size, is named in the log and left out.
    """
    if reader not in OUTLINES:
        return None
    outlines = OUTLINES[reader]
    path = outlines.file(image)
    if not path.is_file():
        return None
    try:
        mask = outlines.read(path, width, height)
    except UnusableImage as error:
        warn(f"{path}: not used: {error.reason} ({error.detail})")
        return None
    if mask.shape != (height, width):
        warn(f"{path}: not used: {mask.shape[1]} x {mask.shape[0]} pixels, the image {width} x {height}")
        return None
    return mask if mask.any() else None


def busbra(image: Path) -> Path:
    """`Images/bus_0001-l.png`: `Masks/mask_0001-l.png`."""
    return image.parents[1] / "Masks" / f"{image.stem.replace('bus_', 'mask_', 1)}.png"


def aul(image: Path) -> Path:
    """`Benign/image/1.jpg`: `Benign/segmentation/mass/1.json`."""
    return image.parents[1] / "segmentation" / "mass" / f"{image.stem}.json"


def buid(image: Path) -> Path:
    """`Benign/1 Benign Image.bmp`: `Benign/1 Benign Mask.tif`."""
    return image.with_name(f"{image.stem.removesuffix('Image')}Mask.tif")


def mmotu(image: Path) -> Path:
    """`OTU_2d/images/1.JPG`: `OTU_2d/annotations/1_binary.PNG`."""
    return image.parents[1] / "annotations" / f"{image.stem}_binary.PNG"


def picture(path: Path, width: int, height: int) -> Mask:
    """A mask that is an image, white inside; it says for itself how large it is."""
    return decode(path)[..., 0] > 127


def polygon(path: Path, width: int, height: int) -> Mask:
    """The inside of corners, in JSON [[column, row], ...]."""
    try:
        corners = [(float(x), float(y)) for x, y in json.loads(path.read_text(encoding="utf-8"))]
        if len(corners) < 3 or not np.isfinite(corners).all():
            raise ValueError(f"{len(corners)} corners, or one at infinity")
        picture = Image.new("1", (width, height))
        ImageDraw.Draw(picture).polygon(corners, fill=1)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnusableImage("unreadable", f"not a polygon: {error}") from error
    return np.array(picture)


OUTLINES: dict[str, Outlines] = {
    "aul": Outlines(aul, polygon),
    "buid": Outlines(buid, picture),
    "busbra": Outlines(busbra, picture),
    "mmotu": Outlines(mmotu, picture),
}
