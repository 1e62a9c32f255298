"""One frame of a sequence in a NIfTI-1 file (.nii, .nii.gz): an array (width, height, frames), as CAMUS stores it.

Width runs to the right and height downwards, away from the probe, so a picture is the transposed array: what
SimpleITK shows, and the sector points down. (Readers that turn the array by 90 degrees instead mirror it.)

Grey levels, judged by the whole sequence so that its frames stay comparable:
- uint8 as stored;
- other numbers, after the header's slope and intercept: between 0 and 255 they are grey levels already and are rounded,
  floats between 0 and 1 are shares of white, 16-bit unsigned ones are scaled as those of a PNG (D90);
- anything else has no agreed display range and is refused: to stretch it would invent contrast.

The file is not trusted: the header is checked before anything is unpacked, and no more than it promises is.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from urfm.core.errors import UnusableImage
from urfm.data.images.depth import UNSAID, Depth, depth

HEADER_BYTES = 348
MAX_OFFSET = 1_000_000  # bytes before the pixels: the header and its extensions
MAX_FRAMES = 1_000  # CAMUS has 11 to 29
MAX_BYTES = 200_000_000  # of a sequence, unpacked; CAMUS's have some 10 million

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """What the header says of the numbers behind it: value = slope x stored + intercept."""

    width: int
    height: int
    frames: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float


def is_nifti(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def count_frames(path: Path) -> int:
    """The number of frames, 1 to MAX_FRAMES, by the header alone. Raises UnusableImage, and nothing else."""
    with _errors(), _open(path) as stream:
        return _read_layout(stream).frames


def decode(path: Path, frame: str, max_pixels: int, bits: int | None = None) -> tuple[Pixels, Depth]:
    """One picture as uint8 (height, width, 1), 0 to 255; `frame` is its index from 0, as text.

    Raises UnusableImage, and nothing else. The last sequence is kept, because its frames are asked for in a row.
    """
    with _errors():
        state = path.stat()
    found = _read_sequence(path, state.st_mtime_ns, state.st_size, max_pixels, bits)
    if isinstance(found, UnusableImage):
        raise UnusableImage(found.reason, found.detail)
    sequence, used = found
    frames = sequence.shape[2]
    try:
        index = range(frames).index(int(frame))
    except ValueError:
        raise UnusableImage("missing", f"no frame {frame!r} in the sequence; it has 0 to {frames - 1}") from None
    return np.ascontiguousarray(sequence[:, :, index].T)[..., None], used


def _open(path: Path) -> BufferedIOBase:
    """The file's content, unpacked, as a stream."""
    return gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb")


@contextmanager
def _errors() -> Iterator[None]:
    """Whatever goes wrong inside is an UnusableImage."""
    try:
        yield
    except UnusableImage:
        raise
    except FileNotFoundError:
        raise UnusableImage("missing", "no such file") from None
    except Exception as error:  # almost anything: OSError, EOFError, zlib.error, HeaderDataError, KeyError, …
        raise UnusableImage("unreadable", f"{type(error).__name__}: {error}") from error


def _read_layout(stream: BufferedIOBase) -> Layout:
    from nibabel.nifti1 import Nifti1Header  # here, because planning imports all readers and reads no file

    block = stream.read(HEADER_BYTES)
    if len(block) < HEADER_BYTES:
        raise UnusableImage("unreadable", f"{len(block)} bytes, less than the header of a NIfTI file")
    header = Nifti1Header(block, check=False)  # the block alone: extensions may be of any size
    if header["sizeof_hdr"] != HEADER_BYTES or header["magic"].item() != b"n+1":
        raise UnusableImage("unreadable", f"not a NIfTI-1 file: it begins with {block[:24]!r}")
    dimensions, *sizes = (int(size) for size in header["dim"])
    if dimensions != 3:
        raise UnusableImage("unsupported", f"{dimensions} dimensions; read are three: width, height, frames")
    width, height, frames = sizes[:3]
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise UnusableImage("unsupported", f"pixels of type {dtype}; read are integers and floats")
    slope, intercept = header.get_slope_inter()
    layout = Layout(
        width, height, frames, dtype, int(header["vox_offset"]), 1.0 if slope is None else slope, intercept or 0.0
    )
    if min(width, height, frames) < 1 or not HEADER_BYTES <= layout.offset <= MAX_OFFSET:
        raise UnusableImage("unreadable", f"the header makes no sense: {layout}")
    if frames > MAX_FRAMES:
        raise UnusableImage("too_large", f"{frames:,} frames; at most {MAX_FRAMES:,} are read")
    return layout


@lru_cache(maxsize=1)
def _read_sequence(
    path: Path, modified: int, size: int, max_pixels: int, bits: int | None
) -> tuple[Pixels, Depth] | UnusableImage:
    """The whole sequence, or why there is none: both are kept as long as the file's time and size are the same."""
    try:
        with _errors(), _open(path) as stream:
            layout = _read_layout(stream)
            pixels = layout.width * layout.height
            volume = pixels * layout.frames * layout.dtype.itemsize
            if pixels > max_pixels or volume > MAX_BYTES:
                raise UnusableImage(
                    "too_large",
                    f"{layout.width} x {layout.height} pixels, {volume:,} bytes in all; at most {max_pixels:,} pixels "
                    f"and {MAX_BYTES:,} bytes are read",
                )
            stream.read(layout.offset - HEADER_BYTES)
            content = stream.read(volume + 1)  # one more: the end, where gzip compares its checksum
            if len(content) != volume:
                found = "more" if len(content) > volume else f"{len(content):,}"
                raise UnusableImage("unreadable", f"the header promises {volume:,} bytes of pixels, there are {found}")
            stored = np.frombuffer(content, layout.dtype)
            grey, used = _to_uint8(stored, layout, bits)
            return grey.reshape(layout.width, layout.height, layout.frames, order="F"), used
    except UnusableImage as error:
        return error


def _to_uint8(stored: npt.NDArray[Any], layout: Layout, bits: int | None) -> tuple[Pixels, Depth]:
    used = UNSAID
    scaled = (layout.slope, layout.intercept) != (1.0, 0.0)
    if stored.dtype == np.uint8 and not scaled:
        return stored, used
    values = stored * layout.slope + layout.intercept if scaled else stored
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():  # NaN and infinity both show in the extremes
        raise UnusableImage("unreadable", "some pixels are not numbers")
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        factor = 255.0
    elif low >= 0 and high <= 255:
        factor = 1.0
    elif values.dtype.kind == "u" and values.dtype.itemsize == 2:
        used = depth(int(high), bits)
        factor = 255 / (2**used.bits - 1)
    else:
        raise UnusableImage(
            "unsupported",
            f"{values.dtype} pixels from {low:g} to {high:g} have no agreed display range; store 0 to 255",
        )
    return np.rint(values * factor).astype(np.uint8), used
