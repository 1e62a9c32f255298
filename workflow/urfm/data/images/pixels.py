"""What a picture is in memory: uint8 (height, width, channels), 0 to 255, channels 1 (grey) or 3 (RGB)."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def pixel_sha256(pixels: Pixels) -> str:
    """SHA-256 of shape and pixels: equal for equal pictures, whatever the file format."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def to_pillow(pixels: Pixels) -> Image.Image:
    """A Pillow image, mode L or RGB, of uint8 (height, width, 1 or 3)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def reduce(pixels: Pixels, long_side: int) -> Pixels:
    """Shrink to at most `long_side` pixels on the longer side, antialiased, aspect kept; never enlarge."""
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(to_pillow(pixels).resize(size, Image.Resampling.BICUBIC))
    return small.reshape(size[1], size[0], pixels.shape[2])
