"""How probabilities fit outcomes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from urfm.metrics import FloatArray, IntArray


def reliability(labels: IntArray, probabilities: FloatArray, bins: int) -> pd.DataFrame:
    """Reliability curve of the chosen class, equal-width bins of its probability; empty bins are left out.

    Columns: bin, predictions, confidence (mean probability of the chosen class), accuracy.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    numbers = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (low, high], as Guo et al. 2017
    table = pd.DataFrame({"bin": numbers, "confidence": confidence, "accuracy": right.astype(float)})
    grouped = table.groupby("bin")
    return (
        grouped.mean()
        .assign(predictions=grouped.size())
        .reset_index()[["bin", "predictions", "confidence", "accuracy"]]
    )


def calibration_error(curve: pd.DataFrame) -> float:
    """Expected calibration error of a reliability curve: |accuracy - confidence|, weighted by predictions."""
    return float(np.average((curve["accuracy"] - curve["confidence"]).abs(), weights=curve["predictions"]))


def brier(labels: IntArray, probabilities: FloatArray) -> float:
    """Half the squared distance between probabilities and outcome, in [0, 1]; the usual score for two classes."""
    outcome = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - outcome) ** 2).sum(axis=1).mean() / 2)
