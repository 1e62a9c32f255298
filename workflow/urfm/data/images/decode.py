"""Decoding image files that may be anything: from the internet, from people, damaged or made to do harm.

Pillow decodes them (torchvision.io crashed on damaged PNGs, OpenCV rotates by EXIF), only four formats are tried, and
the header's size is checked before any pixel is. Stages decode in child processes (urfm.data.images.workers).

Every image becomes uint8 with one channel (grey, also when stored as equal colours) or three (RGB):
- 16-bit grey is scaled from the full range of the bits it uses, v x 255 / (2^bits - 1), never clipped and never
  stretched: 8, 12 or 16 bits, the fewest that hold the picture's highest value, or as many as the data set's `bits`
  says (D90); of 16-bit colours Pillow gives the high byte, at most one level less, and where that leaves 16 levels of
  12 bits they are refused;
- palettes and CMYK become RGB; transparency is laid over black, the background of a scan; where a TIFF says that
  0 is white, it is inverted;
- the EXIF orientation of PNG and JPEG is ignored, as torchvision's ImageFolder does, so that pixels stay where
  masks, boxes and callipers of the data set expect them (TIFF has one of its own, which Pillow and ImageFolder
  follow); of several frames the first is read;
- metadata do not matter, whatever their size: those of PNG are passed over, because Pillow refuses large ones;
- a frame of a NIfTI sequence becomes grey as urfm.data.images.nifti says.
"""

from __future__ import annotations

import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from urfm.core.errors import UnusableImage
from urfm.data.images import nifti
from urfm.data.images.depth import UNSAID, Depth, depth
from urfm.data.images.pixels import Pixels

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # the largest ultrasound frame is below 3 million; 400 million fit in a PNG of 400 KB
PNG = b"\x89PNG\r\n\x1a\n"
# What files begin with that are no picture which is read; at another place than the beginning where a number says so.
OTHERS = {
    "DICOM": (128, b"DICM"), "GIF": (0, b"GIF8"), "WebP": (8, b"WEBP"), "AVI": (8, b"AVI "), "MP4 or MOV": (4, b"ftyp"),
    "PDF": (0, b"%PDF"), "zip": (0, b"PK\x03\x04"), "JPEG 2000": (4, b"jP  "), "HDF5 or MATLAB": (0, b"\x89HDF"),
    "Matroska or WebM": (0, b"\x1aE\xdf\xa3"), "NumPy": (0, b"\x93NUMPY"), "gzip": (0, b"\x1f\x8b"),
}  # fmt: skip

# Tags of TIFF, and their values.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED, FLOAT = 0, 2, 3


class Picture(NamedTuple):
    """Pixels, and how they were read where the file has 16 bits."""

    pixels: Pixels
    depth: Depth = UNSAID


def decode(path: Path, frame: str = "", bits: int | None = None) -> Pixels:
    """Read an image file as uint8 (height, width, channels), channels 1 (grey) or 3 (RGB), values 0 to 255.

    `frame` is the manifest's: in a NIfTI sequence it says which picture is meant, elsewhere it is not read. `bits` is
    the data set's. Raises UnusableImage, and nothing else, for whatever is wrong with the file.
    """
    return read_picture(path, frame, bits).pixels


def read_picture(path: Path, frame: str = "", bits: int | None = None) -> Picture:
    """As `decode`, and with the depth that was found."""
    if nifti.is_nifti(path):
        return Picture(*nifti.decode(path, frame, MAX_PIXELS, bits))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities of metadata; the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # By name, Pillow would map grey TIFFs into memory, and scramble those that are stored turned.
            with open(path, "rb") as stream, Image.open(without_metadata(stream), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnusableImage("too_large", f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")
                deep = any(";16" in str(tile[3]) for tile in image.tile)  # how the file stores them
                image.load()
                return to_uint8(image, deep, bits)
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


def other_format(path: Path) -> str:
    """What a file is that is no picture we read, by its first bytes; empty for pictures and for what is unknown."""
    if nifti.is_nifti(path):
        return ""
    with open(path, "rb") as stream:
        head = stream.read(132)
    return next((name for name, (place, mark) in OTHERS.items() if head[place:].startswith(mark)), "")


def _beginning(path: Path) -> str:
    if known := other_format(path):
        return f"a {known} file, to be exported as PNG"
    with open(path, "rb") as stream:
        head = stream.read(24)
    return f"it begins with {head!r}" if head else "it is empty"


def without_metadata(stream: BinaryIO) -> BinaryIO:
    """A PNG without the chunks that say nothing of its pixels (all but critical ones and transparency); others as is.

    Pillow unpacks colour profiles and texts, and refuses the picture when they are large.
    """
    start = stream.read(len(PNG))
    if start != PNG:
        stream.seek(0)
        return stream
    kept, size, kind = [PNG], 0, b""
    while kind != b"IEND" and len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind[0] & 0x20 and kind != b"tRNS":  # a small first letter: ancillary
            stream.seek(length + 4, 1)
            continue
        content = stream.read(min(length + 4, 8 * MAX_PIXELS + 1))
        size += len(content)
        if size > 8 * MAX_PIXELS:
            raise UnusableImage("too_large", f"more than {8 * MAX_PIXELS:,} bytes of pixels")
        kept += [head, content]
    return BytesIO(b"".join(kept))


def to_uint8(image: Image.Image, deep: bool = False, bits: int | None = None) -> Picture:
    """A Pillow image as uint8 (height, width, 1 or 3); UnusableImage for what has no agreed range of brightness.

    `deep`: whether the file stores 16 bits a value; `bits`: how many of them are used, if somebody says so.
    """
    tags = getattr(image, "tag_v2", {})  # TIFF's
    if image.mode in ("I", "F") or {SIGNED, FLOAT} & set(tags.get(SAMPLE_FORMAT, ())):
        raise UnusableImage("unsupported", "signed, 32-bit or float pixels have no agreed range; store 8 or 16 bits")
    clear = image.info.get("transparency")  # a grey, a colour, or the opacity of a palette's entries
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        if clear is not None:
            wide[wide == clear] = 0
        stored: int = tags.get(BITS_PER_SAMPLE, (16,))[0]
        found = depth(int(wide.max()), bits) if stored == 16 else UNSAID
        white = 2 ** (found.bits or stored) - 1
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            wide = white - wide  # Pillow inverts 8 bits and fewer
        return Picture(((wide * 255 + white // 2) // white).astype(np.uint8)[..., None], found)
    if image.mode in ("1", "L") and clear is None:
        return Picture(np.asarray(image.convert("L"))[..., None])
    if clear is not None or image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    rgb = np.asarray(image.convert("RGB"))
    if deep and 0 < rgb.max() < 16:
        raise UnusableImage("unsupported", "16-bit colours that use 12 bits or fewer; store 8 bits a colour")
    grey = np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 0], rgb[..., 2])
    return Picture(rgb[..., :1] if grey else rgb)
