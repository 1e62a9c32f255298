"""Gaussian blur as Deblur-MIM's authors make it: of the whole file, at the size it has, before anything is cut out."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from urfm.data.images.pixels import Pixels


def blur(image: Pixels, sigma: float) -> Pixels:
    """Gaussian blur of a uint8 (H, W, 3) image, sigma in its pixels; kernel and border as OpenCV's GaussianBlur
    with automatic size on 8-bit images, which Deblur-MIM used (9 x 9 for sigma 1.1, reflected without the edge)."""
    if not sigma:
        return image
    radius = (round(6 * sigma + 1) | 1) // 2
    grey = (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    channels = image[..., :1] if grey else image
    soft = ndimage.gaussian_filter(channels.astype(np.float32), (sigma, sigma, 0), mode="mirror", radius=radius)
    return np.broadcast_to(np.rint(soft).astype(np.uint8), image.shape).copy()
