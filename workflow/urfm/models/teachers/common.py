"""What all teachers are: a frozen network with its own normalisation, and the student whose patches it speaks of."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from urfm.config.fields import Colour
from urfm.config.models import TeacherSettings
from urfm.core.errors import UrfmError

PATCH_SIZE = 16  # of every teacher's network; `pixels` follows the student


class Student(NamedTuple):
    """What a teacher must know of the network that learns from it; patches and colours matter to `pixels` alone."""

    input_size: int  # pixels of a side of its square images, or of those that the teacher has of its own
    patch_size: int = PATCH_SIZE
    mean: Colour | None = IMAGENET_DEFAULT_MEAN  # None: each image's own
    std: Colour | None = IMAGENET_DEFAULT_STD


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, 3, H, W) to (B, h * w, patch_size² * 3): pixels of each patch in raster order, colours last (MAE)."""
    batch, colours, height, width = images.shape
    h, w = height // patch_size, width // patch_size
    patches = images.reshape(batch, colours, h, patch_size, w, patch_size)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(batch, h * w, patch_size**2 * colours)


class Teacher(nn.Module):
    """A frozen network that turns images into target tokens.

    Attributes
    ----------
    name, kind
        As configured.
    layer
        What is taken as tokens, in words, and of pictures of which size if that is the teacher's own.
    input_size
        Pixels of a side of the pictures that it sees.
    grid
        (h, w), tokens in raster order.
    dim
        Channels of a token.
    mean, std
        What the network's input is normalised with, for pixels in [0, 1].
    weights_sha256
        Of the weight file, empty if there is none.
    stand_in
        Whether these weights are random ones in the publisher's form.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        network: nn.Module,
        input_size: int,
        mean: Colour,
        std: Colour,
        layer: str,
        weights_sha256: str,
        stand_in: bool = False,
    ) -> None:
        super().__init__()
        self._mean: Tensor
        self._std: Tensor
        self.name, self.kind, self.stand_in = settings.name, settings.kind, stand_in
        self.weights_sha256 = weights_sha256
        self.layer = f"{layer}, at {input_size} pixels" if settings.input_size else layer
        self.input_size, self.mean, self.std = input_size, mean, std
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        with torch.inference_mode():
            tokens = self.network(torch.zeros(1, 3, input_size, input_size))
        self.grid: tuple[int, int] = (tokens.shape[1], tokens.shape[2])
        self.dim: int = tokens.shape[3]

    def tokens(self, images: Tensor) -> Tensor:
        """(B, 3, S, S), uint8 or float in [0, 1], to (B, h * w, dim); no gradient reaches the teacher."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        with torch.inference_mode():
            tokens = self.network((images - self._mean) / self._std).flatten(1, 2)
        return tokens.clone()  # an ordinary tensor, which a loss may keep for its backward pass

    def record(self) -> dict[str, Any]:
        """What identifies the targets, for sidecars and cache keys."""
        return {
            "name": self.name,
            "kind": self.kind,
            "layer": self.layer,
            "weights_sha256": self.weights_sha256,
            "stand_in": self.stand_in,
            "mean": list(self.mean),
            "std": list(self.std),
            "grid": list(self.grid),
            "dim": self.dim,
        }


def check_input_size(settings: TeacherSettings, input_size: int) -> None:
    """Raise an UrfmError unless images of `input_size` pixels are whole patches of the teacher's network."""
    if input_size % PATCH_SIZE:
        raise UrfmError(f"input_size: {settings.kind} needs a multiple of {PATCH_SIZE} pixels, not {input_size}")
