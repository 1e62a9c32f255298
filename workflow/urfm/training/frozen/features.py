"""Features of a frozen encoder: the input of the linear layer, as fine-tuning finds it when it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from urfm.config.fields import Pooling, Resize
from urfm.core.files import read_json
from urfm.core.progress import progress
from urfm.data.images.store import ImageStore
from urfm.metrics import FloatArray
from urfm.models.classifier import load_classifier
from urfm.models.device import own_device
from urfm.models.normalisation import normalise_for
from urfm.training.finetune.images import evaluation_transform, open_image

BATCH = 64


def encoder_features(
    images: Sequence[tuple[ImageStore, str]], path: Path, classes: int, pooling: Pooling, resize: Resize, seed: int
) -> FloatArray:
    """Features (images, dim) of the encoder whose json is `path`.

    `seed` draws the weights of a random encoder, the very ones that fine-tuning with this seed begins with.
    """
    torch.set_num_threads(1)  # their number changes bits
    device = own_device()
    record = read_json(path)
    model = load_classifier(path, classes, pooling, drop_path=0.0, seed=seed).eval()
    transform = evaluation_transform(record["input_size"], resize)
    parts = []
    for first in progress(range(0, len(images), BATCH), "features: batches"):
        squares = [transform(open_image(store, name, record)) for store, name in images[first : first + BATCH]]
        parts.append(embed(model, torch.stack(squares), record, device))
    return np.concatenate(parts)


def embed(model: Any, pixels: torch.Tensor, record: dict[str, Any], device: torch.device) -> FloatArray:
    """Features (images, dim), the model's input to its linear layer, of uint8 (images, 3, size, size)."""
    model.to(device)
    with torch.inference_mode():
        parts = [
            model.forward_head(model.forward_features(normalise_for(record, part.to(device))), pre_logits=True)
            for part in torch.split(pixels, BATCH)
        ]
    return torch.cat(parts).double().cpu().numpy()
