"""Perceptual hashes of ultrasound pictures: near duplicates differ in few bits, unrelated pictures in many.

A picture is reduced, and a grey opening removes what is thin and bright: text, callipers, depth ticks. What is then the
largest connected part above the black of the frame is the sector. Four windows are described, each by the signs of its
192 lowest two-dimensional cosine coefficients (all but the mean): the whole picture, the box around the sector, and
both without a rim of 3 % a side. Signs do not change with brightness and contrast; the sector's box finds a
picture again that was cut out of its frame or put into another; the rims find one that was cropped by a few percent.

The distance of two pictures is the smallest number of different signs (of 192) between any window of one and any of
the other. docs/decisions.md (D25) says how well this separates, and why the limit is 36.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from urfm.data.images.pixels import Pixels

Floats = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]  # top, bottom, left, right

SIDE = 192  # pixels of the longer side at which a picture is described
STROKE = 5  # pixels of that: what is thinner and brighter than its surroundings is furniture
BLACK = 0.1  # share of the grey range, from the 1st to the 99th percentile, up to which a pixel may belong to the frame
FLAT = 8  # a grey range below this holds no picture
RIM = 0.03
ZERO = 1e-6  # far below any coefficient of a picture and far above rounding: equal signs on every machine
WINDOWS, BITS = 4, 192

_FREQUENCIES = 17
_SQUARE = np.add.outer(np.arange(_FREQUENCIES) ** 2, np.arange(_FREQUENCIES) ** 2).ravel()
_LOWEST = np.argsort(_SQUARE, kind="stable")[1 : BITS + 1]  # by distance from the mean, which is left out
# The 64 lowest, by which the search begins, are dealt into three parts, so that each knows of all their frequencies.
ORDER = np.concatenate([*(_LOWEST[:64][part::3] for part in range(3)), _LOWEST[64:]])


def perceptual_hash(pixels: Pixels) -> str:
    """768 bits, 192 per window, as 192 hexadecimal digits; empty if there is nothing to see.

    Parameters
    ----------
    pixels
        uint8 (height, width, 1 or 3). Of colours the smallest channel counts, so coloured overlays are thin and dark.
    """
    grey = ndimage.grey_opening(_reduce(pixels), (STROKE, STROKE))
    low, high = np.percentile(grey, (1, 99))
    if high - low < FLAT:
        return ""
    whole = (0.0, float(grey.shape[0]), 0.0, float(grey.shape[1]))
    sector = _sector(grey > low + BLACK * (high - low))
    values = grey.astype(np.float64)
    windows = (whole, sector, _without_rim(whole), _without_rim(sector))
    return np.packbits(np.concatenate([_signs(values, window) for window in windows])).tobytes().hex()


def _reduce(pixels: Pixels) -> Pixels:
    """Grey values (height, width), at most SIDE on the longer side."""
    height, width, channels = pixels.shape
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    scale = SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    small = np.asarray(image)
    return small if small.ndim == 2 else small.min(axis=2)


def _sector(bright: npt.NDArray[np.bool_]) -> Box:
    """The box around the largest connected part, without rows and columns that hold hardly anything of it."""
    parts, count = ndimage.label(bright)
    largest = parts == 1 + np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:])
    ends: list[float] = []
    for axis in (1, 0):
        held = largest.sum(axis=axis)
        inside = np.flatnonzero(held >= 0.05 * held.max())
        ends += [float(inside[0]), float(inside[-1] + 1)]
    return ends[0], ends[1], ends[2], ends[3]


def _without_rim(box: Box) -> Box:
    top, bottom, left, right = box
    height, width = RIM * (bottom - top), RIM * (right - left)
    return top + height, bottom - height, left + width, right - width


def _signs(grey: Floats, box: Box) -> npt.NDArray[np.bool_]:
    """Signs of the lowest cosine coefficients (DCT-II) of a window, without resampling it."""
    down, across = _cosines(grey.shape[0], box[0], box[1]), _cosines(grey.shape[1], box[2], box[3])
    mean = (down[0] @ grey @ across[0]) / (down[0].sum() * across[0].sum())
    signs: npt.NDArray[np.bool_] = (down @ (grey - mean) @ across.T).ravel()[ORDER] > ZERO
    return signs


def _cosines(length: int, start: float, stop: float) -> Floats:
    """(frequencies, length): cosines over start to stop; a pixel that lies in it by a part counts by that part."""
    place = np.arange(length)
    share = np.clip(np.minimum(place + 1, stop) - np.maximum(place, start), 0, 1)
    phase = np.pi * np.arange(_FREQUENCIES)[:, None] * (place + 0.5 - start) / (stop - start)
    waves: Floats = share * np.cos(phase)
    return waves
