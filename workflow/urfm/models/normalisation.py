"""How pixels become the input of a network: one mean and deviation for all images, or those of each image itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LEAST_STD = 1 / 255  # of one grey level, where an image is all of one colour


def normalise(pixels: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """uint8 (…, 3, H, W) to float of about mean 0 and deviation 1.

    Parameters
    ----------
    pixels
        On the device of the network.
    mean, std
        Of each colour, for pixels in [0, 1]; None: of each image, over its pixels and colours.
    """
    images = pixels.float().div_(255)
    if mean is None or std is None:
        deviation, own = torch.std_mean(images, dim=(-3, -2, -1), keepdim=True)
        return images.sub_(own).div_(deviation.clamp_min_(LEAST_STD))
    shift, scale = (torch.tensor(colour, device=images.device).view(3, 1, 1) for colour in (mean, std))
    return images.sub_(shift).div_(scale)


def normalise_for(record: dict[str, Any], pixels: Tensor) -> Tensor:
    """The same for the encoder of a record, its json."""
    return normalise(pixels, record["mean"], record["std"])
