"""How probabilities fit outcomes, and what a classifier does class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from urfm.metrics import FloatArray, IntArray, auroc


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


def confusion(labels: IntArray, probabilities: FloatArray) -> IntArray:
    """Images by true class (rows) and chosen class (columns)."""
    classes = probabilities.shape[1]
    flat = np.bincount(labels * classes + probabilities.argmax(axis=1), minlength=classes**2)
    return flat.reshape(classes, classes).astype(np.int64)


def sensitivity_at(positive: np.ndarray, scores: FloatArray, specificity: float) -> float:
    """Highest sensitivity of a threshold whose specificity on these images is at least `specificity`.

    NaN without positives or negatives. The threshold is chosen on the same images, so it is a point of the
    ROC curve, not a promise for other images.
    """
    negatives = np.sort(scores[~positive])
    if not len(negatives) or not positive.any():
        return float("nan")
    allowed = int(np.floor((1 - specificity) * len(negatives) + 1e-9))  # negatives that may be called positive
    # Called positive is what lies above the highest negative that may not be.
    return float((scores[positive] > negatives[-1 - allowed]).mean()) if allowed < len(negatives) else 1.0


def class_table(
    classes: Sequence[str], labels: IntArray, probabilities: FloatArray, specificity: float
) -> pd.DataFrame:
    """One row a class against the rest: class, images, sensitivity, specificity, precision, f1, auroc,
    sensitivity_at_specificity. NaN where a denominator is 0."""
    counts = confusion(labels, probabilities).astype(float)
    hits, true, chosen, total = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    one = np.ones((len(labels), 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "class": list(classes),
                "images": true.astype(int),
                "sensitivity": hits / true,
                "specificity": 1 - (chosen - hits) / (total - true),
                "precision": hits / chosen,
                "f1": 2 * hits / (true + chosen),
                "auroc": [auroc(labels == c, probabilities[:, c], one)[0] for c in range(len(classes))],
                "sensitivity_at_specificity": [
                    sensitivity_at(labels == c, probabilities[:, c], specificity) for c in range(len(classes))
                ],
            }
        )
