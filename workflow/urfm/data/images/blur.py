"""Gaussian blur as Deblur-MIM's authors make it: OpenCV's, of the whole file at the size it has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from urfm.data.images.pixels import Pixels


def kernel(sigma: float) -> npt.NDArray[np.int32]:
    """OpenCV's weights for 8-bit pixels, in 256ths: as many as fit in 6 sigma (9 for 1.1), rounded from the outside in,
    each with the error of those before it; the middle has what is left."""
    radius = (round(6 * sigma + 1) | 1) // 2
    weights = np.exp(-(np.arange(-radius, 1) ** 2) / (2 * sigma**2))
    exact = 256 * weights[:-1] / (2 * weights[:-1].sum() + 1)
    side = np.diff(np.rint(np.cumsum(exact)), prepend=0)
    return np.array([*side, 256 - 2 * side.sum(), *side[::-1]], np.int32)


def blur(image: Pixels, sigma: float) -> Pixels:
    """Blur a uint8 (height, width, channels) image, sigma in its pixels: what OpenCV's GaussianBlur gives, bit for bit.

    OpenCV computes in whole numbers too, with the border mirrored at the outermost pixel.
    """
    if not sigma:
        return image
    sums = image.astype(np.int32)
    for axis in (0, 1):
        sums = ndimage.correlate1d(sums, kernel(sigma), axis, mode="mirror")
    return ((sums + (1 << 15)) >> 16).astype(np.uint8)
