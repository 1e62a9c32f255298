"""How the new linear layer begins where `head` is linear_probe: linear probing, then fine-tuning.

Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (LP-FT), ICLR 2022. A
layer that begins near zero sends noise into the encoder until it has been learnt; with a hundred images and a few
dozen steps little of the encoder is left by then. The features are those of evaluation; with batch norm training sees
others, so it is not for such networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from urfm.training.finetune.images import TrainingImages
from urfm.training.frozen.features import BATCH, embed
from urfm.training.frozen.probes import fit_probe

VIEWS = 2  # of each training image, augmented as in the first epochs: what the layer will see
ABSENT = -20.0  # bias of a class that no training image has: a probability of about 1e-9
STRENGTH = 0.03  # C: a firm penalty, since fine-tuning goes on from there and a large weight is hard to take back


def probe_head(model: Any, images: TrainingImages, record: dict[str, Any], classes: int, device: torch.device) -> None:
    """Make the model's linear layer a logistic regression on the encoder's features of the training images.

    With images of one class only it stays as it is.
    """
    if len(set(images.labels)) < 2:
        return
    model.eval()
    views = [(epoch, index) for epoch in range(VIEWS) for index in range(len(images.labels))]
    features = []
    for first in range(0, len(views), BATCH):
        pixels = torch.stack([images[view][0] for view in views[first : first + BATCH]])
        features.append(embed(model, pixels, record, device))
    probe = fit_probe(np.concatenate(features), np.tile(images.labels, VIEWS), classes, STRENGTH)
    layer = model.get_classifier()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(probe.weight).reshape(layer.weight.shape))
        layer.bias.copy_(torch.from_numpy(np.maximum(probe.bias, ABSENT)))
