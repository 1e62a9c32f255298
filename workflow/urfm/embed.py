"""An encoder in use: an image in, a vector out.

    from urfm import load
    encoder = load("results/encoders/urfm.json")
    features = encoder.embed(image)  # a Pillow image, an array or a path

The vector is what the linear layer sees when fine-tuning begins (urfm.models.classifier.load_classifier).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from urfm.config.fields import Pooling
from urfm.core.errors import UnusableImage, UrfmError
from urfm.core.files import read_json
from urfm.data.images.blur import blur
from urfm.data.images.decode import decode, to_uint8
from urfm.data.images.pixels import to_pillow
from urfm.models.classifier import load_classifier
from urfm.models.normalisation import normalise_for

Picture = Image.Image | npt.NDArray[np.uint8] | str | Path


class Encoder:
    """An encoder and what its json says of it.

    Attributes
    ----------
    model
        timm's network, in evaluation mode, with a classifier that is not used.
    record
        Architecture, input size, normalisation, origin of the weights.
    """

    def __init__(self, model: Any, record: dict[str, Any]) -> None:
        self.model, self.record = model, record

    def prepare(self, image: Picture) -> torch.Tensor:
        """(3, size, size): the whole image squashed to a square, as in fine-tuning's evaluation, and normalised.

        Blurred before where the encoder needs it (Deblur-MIM).
        """
        size = self.record["input_size"]
        pixels = blur(np.array(_open(image).convert("RGB")), self.record.get("blur_sigma", 0.0))
        square = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        return normalise_for(self.record, torch.from_numpy(np.array(square)).permute(2, 0, 1))

    def embed(self, image: Picture) -> npt.NDArray[np.float32]:
        """The vector (dim,) of an image: Pillow, uint8 (H, W), (H, W, 1) or (H, W, 3), or the path of a file."""
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            maps = self.model.forward_features(self.prepare(image)[None].to(device))
            features: npt.NDArray[np.float32] = self.model.forward_head(maps, pre_logits=True)[0].float().cpu().numpy()
        return features


def load(path: str | Path, pooling: Pooling = "mean") -> Encoder:
    """An encoder from its json or safetensors, or from the folder of a pre-training run or of an export.

    `mean` averages the patch tokens and standardises them; `cls` takes the class token after the last norm;
    convolutional networks know `mean` only. `encoder.model.to("cuda")` moves it to a GPU.
    """
    record = _record(Path(path))
    return Encoder(load_classifier(record, 1, pooling, drop_path=0.0, seed=0).eval(), read_json(record))


def _record(path: Path) -> Path:
    if not path.is_dir():
        return path.with_suffix(".json")
    records = [record for record in path.glob("*.json") if record.stem != "snapshots"]  # of a run, on its way
    found = sorted(record for record in records if record.with_suffix(".safetensors").is_file())
    if len(found) != 1:
        names = ", ".join(record.name for record in found) or "none"
        raise UrfmError(f"{path}: one encoder is needed, a .safetensors with a .json beside it; found {names}")
    return found[0]


def _open(image: Picture) -> Image.Image:
    """The picture as 8-bit Pillow image; 16-bit pixels are scaled, as everywhere here."""
    try:
        if isinstance(image, str | Path):
            return to_pillow(decode(Path(image)))
        if isinstance(image, Image.Image):
            return to_pillow(to_uint8(image).pixels)
    except UnusableImage as error:
        raise UrfmError(f"{image}: {error.reason} ({error.detail})") from error
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise UrfmError(
            f"image: expected uint8 (H, W), (H, W, 1) or (H, W, 3), found {image.dtype} {image.shape}; "
            "scale its values to 0 … 255"
        )
    return to_pillow(image if image.ndim == 3 else image[..., None])
