"""How the new linear layer begins where `head` is linear_probe: linear probing, then fine-tuning.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (LP-FT), ICLR 2022. A
layer that begins near zero sends noise into the encoder until it has been learnt; with a hundred images and a few
dozen steps little of the encoder is left by then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from urfm.config.finetuning import FinetuneSettings
from urfm.data.images.store import ImageStore
from urfm.training.finetune.images import Part
from urfm.training.frozen.features import encoder_features
from urfm.training.frozen.probes import linear_probe

ABSENT = -20.0  # bias of a class that no training image has: a probability of about 1e-9


def probe_head(
    model: Any, encoder: Path, parts: dict[str, Part], store: ImageStore, settings: FinetuneSettings, seed: int
) -> None:
    """Make the model's linear layer a logistic regression on features of the training part, not augmented.

    The validation part chooses its penalty, as for `mode: linear_probe`. With one class only it stays as it is.
    """
    known, chosen = parts["train"], parts["val"]
    if len(np.unique(known.labels)) < 2:
        return
    names = [(store, name) for part in (known, chosen) for name in part.rows["image_id"]]
    number = len(settings.classes)
    features = encoder_features(names, encoder, number, settings.pooling, settings.evaluation_resize, seed)
    train, validation = np.split(features, [len(known.labels)])
    probe = linear_probe(train, known.labels, validation, chosen.labels, number)
    layer = model.get_classifier()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight).reshape(layer.weight.shape))
        layer.bias.copy_(torch.from_numpy(np.maximum(probe.bias, ABSENT)))
