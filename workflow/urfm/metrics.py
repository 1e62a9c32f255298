"""The metrics: what each is called and how it is computed, from class numbers and probabilities. NumPy alone.

The paper (STAR Methods, "Evaluation metrics") reports exactly these. To add one, write its two functions, its lines in
METRICS and SELECTION and its name in MetricName: statistics, tables, figures, the report and
`finetuning.selection_metric` know it. Training reaches SELECTION alone, of it the one entry that is configured.
It has to lie in [0, 1], the higher the better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEARNT = 0.02  # R² of pre-training; below it the network knows little more than the mean target of each position


class Metric(NamedTuple):
    """How a metric is printed and computed.

    Attributes
    ----------
    short, words
        What columns and axes print ("F1"), and what stands in a sentence ("macro F1").
    weighted
        Labels (images,), probabilities (images, classes) and weights (images, resamples) to values (resamples,). An
        image counts as often as its weight says; ones are a plain score. NaN where the metric is not defined.
    of_ranks
        Whether it knows the order of probabilities alone, so that it may change while every answer stays.
    """

    short: str
    words: str
    weighted: Callable[[IntArray, FloatArray, FloatArray], FloatArray]
    of_ranks: bool = False

    @property
    def title(self) -> str:
        """`words` as a heading: "Macro F1"."""
        return self.words[0].upper() + self.words[1:]


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
    Metric name to (resamples,) values in [0, 1].
    """
    return {name: metric.weighted(labels, probabilities, weights) for name, metric in METRICS.items()}


def accuracy(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Share of the images whose prediction is right (resamples,)."""
    right: FloatArray = (probabilities.argmax(axis=1) == labels).astype(float) @ weights / weights.sum(axis=0)
    return right


def validation_accuracy(labels: IntArray, probabilities: FloatArray) -> float:
    """Share of the images whose prediction is right."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def macro_f1(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of the F1 of each class (resamples,).

    A class that is neither true nor predicted anywhere has no F1 and is left out, as in scikit-learn.
    """
    mean: FloatArray = np.nanmean(f1_by_class(labels, probabilities, weights), axis=0)
    return mean


def validation_f1(labels: IntArray, probabilities: FloatArray) -> float:
    """Mean of the F1 of the classes that have images."""
    f1 = f1_by_class(labels, probabilities, np.ones((len(labels), 1)))
    return float(f1[np.unique(labels)].mean())


def f1_by_class(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """F1 = 2 TP / (2 TP + FP + FN) of each class (classes, resamples); NaN where it is neither true nor predicted."""
    numbers = np.arange(probabilities.shape[1])[:, None]
    true, chosen = (labels == numbers).astype(float), (probabilities.argmax(axis=1) == numbers).astype(float)
    hits = (true * chosen) @ weights
    total = (true + chosen) @ weights
    f1: FloatArray = np.divide(2 * hits, total, out=np.full_like(total, np.nan), where=total > 0)
    return f1


def macro_auroc(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """AUROC (resamples,): of the second class for two classes, else the mean of one-vs-rest over the classes.

    NaN where a class has no weight.
    """
    classes = probabilities.shape[1]
    scored = [1] if classes == 2 else range(classes)
    values: FloatArray = np.mean([auroc(labels == c, probabilities[:, c], weights) for c in scored], axis=0)
    return values


def validation_auroc(labels: IntArray, probabilities: FloatArray) -> float:
    """AUROC, of more than two classes the mean of one-vs-rest over those that have images; NaN where only one has."""
    present = np.unique(labels)
    if len(present) < 2:
        return float("nan")
    scored = [1] if probabilities.shape[1] == 2 else present
    one = np.ones((len(labels), 1))
    return float(np.mean([auroc(labels == c, probabilities[:, c], one)[0] for c in scored]))


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


METRICS: dict[str, Metric] = {
    "accuracy": Metric("ACC", "accuracy", accuracy),
    "f1_macro": Metric("F1", "macro F1", macro_f1),
    "auroc": Metric("AUC", "AUROC", macro_auroc, of_ranks=True),
}
# What the best epoch is chosen by: labels and probabilities to one value, over the classes that have images, since a
# validation part may lack some. The same as above where all are there.
SELECTION: dict[str, Callable[[IntArray, FloatArray], float]] = {
    "accuracy": validation_accuracy,
    "f1_macro": validation_f1,
    "auroc": validation_auroc,
}
MetricName = Literal["accuracy", "f1_macro", "auroc"]  # the same names, for settings


def led_by(metric: MetricName | None) -> list[str]:
    """The names of all metrics, one of them first if it is given."""
    return sorted(METRICS, key=lambda name: name != metric)
