"""Decoding image files that may be anything: from the internet, from people, damaged or made to do harm.

Pillow decodes them (torchvision.io crashed on damaged PNGs, OpenCV rotates by EXIF), only four formats are tried, and
the header's size is checked before any pixel is. Stages decode in child processes (urfm.data.images.workers).

Every image becomes uint8 with one channel (grey, also when stored as equal colours) or three (RGB):
- 16-bit grey is scaled from the full range, v x 255 / 65535, never clipped and never stretched; of 16-bit colours
  Pillow gives the high byte, at most one level less;
- palettes and CMYK become RGB; transparency is laid over black, the background of a scan; where a TIFF says that
  0 is white, it is inverted;
- the EXIF orientation of PNG and JPEG is ignored, as torchvision's ImageFolder does, so that pixels stay where
  masks, boxes and callipers of the data set expect them (TIFF has one of its own, which Pillow and ImageFolder
  follow); of several frames the first is read;
- a frame of a NIfTI sequence becomes grey as urfm.data.images.nifti says.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from urfm.core.errors import UnusableImage
from urfm.data.images import nifti
from urfm.data.images.pixels import Pixels

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # the largest ultrasound frame is below 3 million; 400 million fit in a PNG of 400 KB

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
