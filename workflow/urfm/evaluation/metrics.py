"""Accuracy, macro F1 and AUROC of a cell, per seed and subset.

The paper (STAR Methods, "Evaluation metrics") reports exactly these. One definition serves a plain
score and thousands of bootstrap resamples: an image counts as often as its weight says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from urfm.evaluation.predictions import Cell, FloatArray, IntArray, read_seeds
from urfm.progress import say

METRICS = ("accuracy", "f1_macro", "auroc")
SEED_COLUMNS = ["model", "task", "share", "subset", "seed", "metric", "value"]


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


def f1_macro(labels: IntArray, predicted: IntArray, weights: FloatArray, classes: int) -> FloatArray:
    """Mean of the per-class F1 = 2 TP / (2 TP + FP + FN), (resamples,).

    A class that is neither true nor predicted anywhere has no F1 and is left out, as in scikit-learn.
    """
    numbers = np.arange(classes)[:, None]
    true, chosen = (labels == numbers).astype(float), (predicted == numbers).astype(float)
    hits = (true * chosen) @ weights
    total = (true + chosen) @ weights
    f1 = np.divide(2 * hits, total, out=np.full_like(total, np.nan), where=total > 0)
    mean: FloatArray = np.nanmean(f1, axis=0)
    return mean


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


def cell_metrics(cell: Cell) -> pd.DataFrame:
    """Metrics of a cell: model, task, share, subset, seed, metric, value (in [0, 1], NaN where undefined)."""
    rows: list[tuple[object, ...]] = []
    for subset in sorted(set(cell.predictions["subset"])):
        parts = read_seeds(cell, subset)
        if absent := sorted({name for part in parts.values() for name in absent_classes(cell.classes, part.labels)}):
            say(f"{cell.name}: auroc of the {subset} part is undefined: no image of {', '.join(absent)}")
        for seed, part in parts.items():
            values = score(part.labels, part.probabilities[0], np.ones((len(part.labels), 1)))
            rows.extend(
                (cell.model, cell.task, cell.share, subset, seed, metric, float(values[metric][0]))
                for metric in METRICS
            )
    table = pd.DataFrame(rows, columns=SEED_COLUMNS)
    return table.sort_values(["subset", "seed", "metric"], ignore_index=True)


def absent_classes(classes: Sequence[str], labels: IntArray) -> list[str]:
    """Names of the classes that no image has."""
    return [name for number, name in enumerate(classes) if number not in labels]
