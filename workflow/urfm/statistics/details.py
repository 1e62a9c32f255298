"""A cell in detail: its ROC curve, each class against the rest, the confusion matrix, and its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics as sk

from urfm.metrics import FloatArray, IntArray, auroc, macro_auroc
from urfm.statistics.calibration import brier, calibration_error, reliability
from urfm.statistics.predictions import Cell, Subset, pooled, positive_class, read_seeds

KEY = ["model", "task", "share"]
DETAILS = {  # name and columns of each table
    "curves": [*KEY, "positive", "fpr", "tpr", "auroc", "simulated"],
    "classes": [
        *KEY, "class", "images", "sensitivity", "specificity", "precision", "f1", "auroc",
        "sensitivity_at_specificity", "simulated",
    ],
    "calibration": [*KEY, "predictions", "ece", "brier", "ece_ensemble", "brier_ensemble", "simulated"],
    "reliability": [*KEY, "bin", "predictions", "confidence", "accuracy", "simulated"],
    "confusion": [*KEY, "true", "predicted", "images", "simulated"],
}  # fmt: skip
GRID = np.linspace(0, 1, 201)


def cell_details(cell: Cell, subset: str, specificity: float, bins: int, positive: str = "") -> dict[str, pd.DataFrame]:
    """The tables of DETAILS by name.

    Of the seed-averaged predictions; with a split per seed, of all seeds' test images together, and the curve is the
    mean of the seeds'. Calibration is that of single trained models, so it takes every seed's predictions. The positive
    class of two is `positive`, by default the second; UrfmError where there is no such class.
    """
    number = positive_class(cell, positive)
    seeds = list(read_seeds(cell, subset).values())
    one_each = pooled(cell, subset)
    labels, probabilities = one_each.labels, one_each.probabilities[0]
    every = np.concatenate([part.labels for part in seeds]), np.concatenate([p.probabilities[0] for p in seeds])
    reliable = reliability(*every, bins)
    errors = {
        "predictions": len(every[0]),
        "ece": calibration_error(reliable),
        "brier": brier(*every),
        "ece_ensemble": np.nan if cell.resplit else calibration_error(reliability(labels, probabilities, bins)),
        "brier_ensemble": np.nan if cell.resplit else brier(labels, probabilities),
    }
    tables = {
        "curves": mean_curve(seeds if cell.resplit else [one_each], number).assign(
            positive="" if number is None else cell.classes[number]
        ),
        "classes": class_table(cell.classes, labels, probabilities, specificity),
        "calibration": pd.DataFrame([errors]),
        "reliability": reliable,
        "confusion": confusion_table(cell.classes, labels, probabilities),
    }
    about: dict[str, Any] = {"model": cell.model, "task": cell.task, "share": cell.share, "simulated": cell.simulated}
    return {name: table.assign(**about)[DETAILS[name]] for name, table in tables.items()}


def mean_curve(parts: Sequence[Subset], positive: int | None) -> pd.DataFrame:
    """Mean ROC curve and area of one set of predictions each: fpr (GRID), tpr, auroc."""
    curves = [roc_curve(part.labels, part.probabilities[0], positive) for part in parts]
    areas = [macro_auroc(part.labels, part.probabilities[0], np.ones((len(part.labels), 1)))[0] for part in parts]
    return pd.DataFrame({"fpr": GRID, "tpr": np.mean(curves, axis=0), "auroc": np.mean(areas)})


def roc_curve(labels: IntArray, probabilities: FloatArray, positive: int | None) -> FloatArray:
    """True positive rate on GRID: of class `positive` of two, or the mean over classes of one-vs-rest curves (None)."""
    scored = range(probabilities.shape[1]) if positive is None else [positive]
    mean: FloatArray = np.mean([binary_curve(labels == c, probabilities[:, c]) for c in scored], axis=0)
    return mean


def binary_curve(positive: NDArray[np.bool_], scores: FloatArray) -> FloatArray:
    """True positive rate on GRID, linear between thresholds, the upper end at a jump; NaN without both classes."""
    if positive.all() or not positive.any():
        return np.full(len(GRID), np.nan)
    fpr, tpr, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    curve: FloatArray = np.interp(GRID, fpr, tpr)
    return curve


def sensitivity_at(positive: NDArray[np.bool_], scores: FloatArray, specificity: float) -> float:
    """Highest sensitivity of a threshold whose specificity on these images is at least `specificity`.

    NaN without positives or negatives. The threshold is chosen on the same images, so it is a point of the
    ROC curve, not a promise for other images.
    """
    if positive.all() or not positive.any():
        return float("nan")
    fpr, tpr, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    return float(tpr[fpr <= 1 - specificity + 1e-9].max())


def class_table(
    classes: Sequence[str], labels: IntArray, probabilities: FloatArray, specificity: float
) -> pd.DataFrame:
    """Each class against the rest, one row per class; NaN where a denominator is 0.

    Columns: class, images, sensitivity, specificity, precision, f1, auroc, sensitivity_at_specificity.
    """
    predicted, numbers = probabilities.argmax(axis=1), range(len(classes))
    precision, sensitivity, f1, images = sk.precision_recall_fscore_support(
        labels, predicted, labels=numbers, zero_division=np.nan
    )
    false_positives = [((predicted == c) & (labels != c)).sum() for c in numbers]
    one = np.ones((len(labels), 1))
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "class": list(classes),
                "images": images,
                "sensitivity": sensitivity,
                "specificity": 1 - np.array(false_positives) / (len(labels) - images),
                "precision": precision,
                "f1": f1,
                "auroc": [auroc(labels == c, probabilities[:, c], one)[0] for c in numbers],
                "sensitivity_at_specificity": [
                    sensitivity_at(labels == c, probabilities[:, c], specificity) for c in numbers
                ],
            }
        )


def confusion_table(classes: Sequence[str], labels: IntArray, probabilities: FloatArray) -> pd.DataFrame:
    """Images by true class and chosen class, one row per pair: true, predicted, images."""
    counts = sk.confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(len(classes)))
    return pd.DataFrame(
        [(true, chosen, counts[i, j]) for i, true in enumerate(classes) for j, chosen in enumerate(classes)],
        columns=["true", "predicted", "images"],
    )
