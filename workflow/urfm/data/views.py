"""Random crops as explicit boxes, so that a view can be stored, checked and shown to two networks."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from urfm.data.images.pixels import Pixels

RATIO = (3 / 4, 4 / 3)  # torchvision's default, which MAE uses


class View(NamedTuple):
    """A box of the stored image, in its pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flip: bool


def draw_view(random: np.random.Generator, height: int, width: int, scale: tuple[float, float], flip: bool) -> View:
    """A random view of a `height` x `width` image, as torchvision's RandomResizedCrop and RandomHorizontalFlip.

    Area uniform in `scale` (share of the image), aspect ratio log-uniform in 3/4 to 4/3; after ten tries that do
    not fit, the largest central box with an allowed ratio. `flip` allows mirroring, with probability 1/2.
    Only `random()` is drawn, whose stream is the same in every version of numpy.
    """
    mirrored = bool(random.random() < 0.5) and flip
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * random.random())
        ratio = math.exp(low + (high - low) * random.random())
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int((height - h + 1) * random.random())
            left = int((width - w + 1) * random.random())
            return View(top, left, h, w, mirrored)
    w = min(width, max(1, round(height * RATIO[1])))
    h = min(height, max(1, round(width / RATIO[0])))
    return View((height - h) // 2, (width - w) // 2, h, w, mirrored)


def take_view(image: Pixels, view: View, size: int) -> Tensor:
    """Cut `view` out of a uint8 (H, W, 3) image and resize it, antialiased bicubic, to uint8 (3, size, size)."""
    box = torch.from_numpy(image[view.top : view.top + view.height, view.left : view.left + view.width])
    # uint8 in (colours last in memory: four times faster), uint8 out: what bicubic filters give beyond 0 and 255
    # is clamped.
    pixels: Tensor = transforms.resize(
        box.permute(2, 0, 1), [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True
    )
    return (pixels.flip(-1) if view.flip else pixels).contiguous()
