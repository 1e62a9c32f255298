"""Whether a seed has learnt anything: its training loss against the best constant guess, the classes it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import entropy

from urfm.config.finetuning import FinetuneSettings
from urfm.metrics import IntArray
from urfm.training.finetune.loop import Cell

NEAR = 0.98  # of the guess's loss: training that ends above this has hardly left it


def prior_loss(labels: IntArray, settings: FinetuneSettings) -> float:
    """Training loss of the best constant guess, the mean target: class frequencies, smoothed as labels are.

    Mixing images in pairs mixes their targets with the same weights, and so keeps the mean.
    """
    classes, smoothing = len(settings.classes), settings.label_smoothing
    frequencies = np.bincount(labels, minlength=classes) / len(labels)
    return float(entropy((1 - smoothing) * frequencies + smoothing / classes))


def warnings(cell: Cell, record: dict[str, Any]) -> list[str]:
    """What is wrong with a seed that is done; nothing as a rule."""
    found = []
    loss, prior = record["history"][-1]["train_loss"], prior_loss(cell.parts["train"].labels, cell.settings)
    if loss > NEAR * prior:
        found.append(f"training loss {loss:.3f} has not left the class prior {prior:.3f}")
    predicted = record["best"]["test"].argmax(1).unique().tolist()
    if len(predicted) == 1:
        found.append(f"predicts only {cell.settings.classes[predicted[0]]}")
    return found
