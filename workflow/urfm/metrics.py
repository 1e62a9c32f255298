"""Accuracy, F1 and AUROC from class numbers and probabilities; NumPy alone, for training and for statistics.

The paper (STAR Methods, "Evaluation metrics") reports exactly these. One definition serves a plain
score and thousands of bootstrap resamples: an image counts as often as its weight says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

METRICS = ("accuracy", "f1_macro", "auroc")


def score(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> dict[str, FloatArray]:
    """Every metric under every column of weights.

    Parameters
    ----------
    labels
        (images,) class numbers.
    probabilities
        (images, classes), in [0, 1]; the highest is the prediction, the first of equal ones.
    weights
        (images, resamples), how often an image counts, at least 0; `np.ones((images, 1))` for a plain score.

    Returns
    -------
    Metric name to (resamples,) values in [0, 1]. AUROC is NaN where a class has no weight.
    """
    predicted = probabilities.argmax(axis=1)
    return {
        "accuracy": (predicted == labels).astype(float) @ weights / weights.sum(axis=0),
        "f1_macro": f1_macro(labels, predicted, weights, probabilities.shape[1]),
        "auroc": auroc_macro(labels, probabilities, weights),
    }


def present_score(labels: IntArray, probabilities: FloatArray) -> dict[str, float]:
    """The metrics over the classes that have images, for parts that lack some.

    A class without images has neither recall nor ROC curve: F1 and AUROC average over the others. With one class
    only, AUROC is NaN. Where every class is there, these are the values of `score`.
    """
    classes = probabilities.shape[1]
    one = np.ones((len(labels), 1))
    present = np.unique(labels)
    predicted = probabilities.argmax(axis=1)
    ranked = present[1:] if classes == 2 else present  # two classes: the curve of the second
    areas = [auroc(labels == c, probabilities[:, c], one)[0] for c in ranked] if len(present) > 1 else []
    return {
        "accuracy": float((predicted == labels).mean()),
        "f1_macro": float(f1_by_class(labels, predicted, one, classes)[present].mean()),
        "auroc": float(np.mean(areas)) if areas else float("nan"),
    }


def f1_macro(labels: IntArray, predicted: IntArray, weights: FloatArray, classes: int) -> FloatArray:
    """Mean of the per-class F1 (resamples,).

    A class that is neither true nor predicted anywhere has no F1 and is left out, as in scikit-learn.
    """
    mean: FloatArray = np.nanmean(f1_by_class(labels, predicted, weights, classes), axis=0)
    return mean


def f1_by_class(labels: IntArray, predicted: IntArray, weights: FloatArray, classes: int) -> FloatArray:
    """F1 = 2 TP / (2 TP + FP + FN) of each class (classes, resamples); NaN where it is neither true nor predicted."""
    numbers = np.arange(classes)[:, None]
    true, chosen = (labels == numbers).astype(float), (predicted == numbers).astype(float)
    hits = (true * chosen) @ weights
    total = (true + chosen) @ weights
    f1: FloatArray = np.divide(2 * hits, total, out=np.full_like(total, np.nan), where=total > 0)
    return f1


def auroc_macro(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """AUROC (resamples,): of the second class for two classes, else the mean of one-vs-rest over the classes."""
    classes = probabilities.shape[1]
    scored = [1] if classes == 2 else range(classes)
    values: FloatArray = np.mean([auroc(labels == c, probabilities[:, c], weights) for c in scored], axis=0)
    return values


def auroc(positive: NDArray[np.bool_], scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted AUROC (resamples,): the share of (positive, negative) pairs in the right order, ties one half.

    Sorts once for all resamples; NaN where there is no positive or no negative weight.
    """
    order = np.argsort(scores, kind="stable")
    ranked = weights[order]
    # Equal scores form one group; a positive beats the negatives of lower groups and half of its own group's.
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    is_positive = positive[order][:, None]
    negatives = np.where(is_positive, 0.0, ranked)
    positives = ranked - negatives
    if len(starts) < len(order):
        negatives, positives = np.add.reduceat(negatives, starts), np.add.reduceat(positives, starts)
    beaten = np.cumsum(negatives, axis=0)
    all_pairs = positives.sum(axis=0) * beaten[-1]
    right = np.einsum("gr,gr->r", positives, beaten) - np.einsum("gr,gr->r", positives, negatives) / 2
    area: FloatArray = np.divide(right, all_pairs, out=np.full(weights.shape[1], np.nan), where=all_pairs > 0)
    return area
