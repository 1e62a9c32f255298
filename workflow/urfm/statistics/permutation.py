"""Paired permutation test of two models over patients: P of "the two are equally good".

If two models are alike, nothing changes when they change places on some of the patients. So all predictions of a
patient, of every image and seed, are exchanged or left at random, many times over, and P is how often the models then
differ as much as they do. That holds for any number of patients and keeps images of a patient together; a bootstrap
of few patients does not keep its level (docs/statistics.md has the simulation). As AUROC knows no scale, models are
compared by the ranks of their own probabilities there (Venkatraman and Begg 1996).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from urfm.metrics import METRICS, FloatArray, IntArray, accuracy, macro_auroc

Weighted = Callable[[IntArray, FloatArray, FloatArray], FloatArray]  # as `urfm.metrics.Metric.weighted`
BLOCK = 250  # draws at a time
FEW = 10  # patients: with fewer there is no P; six that all agree would already give 0.03


def draw_signs(patients: int, draws: int, generator: np.random.Generator) -> FloatArray:
    """(patients, draws): 1 where a patient's predictions stay, -1 where they are exchanged; all stay in the first."""
    signs: FloatArray = np.where(generator.random((patients, draws)) < 0.5, -1.0, 1.0)
    signs[:, 0] = 1.0
    return signs


def exchanged_differences(
    labels: IntArray, patients: IntArray, first: FloatArray, second: FloatArray, signs: FloatArray
) -> dict[str, FloatArray]:
    """Every metric's difference, first minus second model, mean over seeds, in every draw.

    Parameters
    ----------
    labels, patients
        (images,) class numbers, and number of each image's patient.
    first, second
        Probabilities (seeds, images, classes) of the models; seed by seed they change places.
    signs
        (patients, draws) of `draw_signs`.

    Returns
    -------
    Metric to (draws,) differences in [-1, 1], the first of them the one that was observed; NaN where undefined.
    """
    found = {}
    for name, metric in METRICS.items():
        if contributions := CONTRIBUTIONS.get(metric.weighted):
            found[name] = np.bincount(patients, contributions(labels, first, second), len(signs)) @ signs
        else:
            found[name] = by_weights(metric.weighted, labels, patients, first, second, signs)
    return found


def by_weights(
    weighted: Weighted, labels: IntArray, patients: IntArray, first: FloatArray, second: FloatArray, signs: FloatArray
) -> FloatArray:
    """Any metric's differences: both models' images are one set, of which each of the two has half in every draw."""
    twice, blocks = np.tile(labels, 2), []
    for start in range(0, signs.shape[1], BLOCK):
        stays = ((1 + signs[:, start : start + BLOCK]) / 2)[patients]
        own, others = np.concatenate([stays, 1 - stays]), np.concatenate([1 - stays, stays])
        differences = [
            weighted(twice, both, own) - weighted(twice, both, others)
            for both in (np.concatenate(pair) for pair in zip(first, second, strict=True))
        ]
        blocks.append(np.mean(differences, axis=0))
    return np.concatenate(blocks)


def accuracy_contributions(labels: IntArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """(images,) numbers whose sum is the difference of accuracy; exchanging an image's predictions turns its sign."""
    one, other = ((model.argmax(axis=2) == labels).mean(axis=0) for model in (first, second))
    difference: FloatArray = (one - other) / len(labels)
    return difference


def auroc_contributions(labels: IntArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """(images,) numbers whose sum is the difference of AUROC, mean over seeds (and classes against the rest).

    Exchanging an image's predictions turns the sign of its number, exactly so, with ranks for probabilities. With
    t = 1 or -1 for each image, and K_ab(i, j) = 1 where positive i of model a is above negative j of model b, 1/2 at
    ties, the difference is the mean over pairs of (t_i + t_j) / 2 (K_11 - K_22) + (t_i - t_j) / 2 (K_12 - K_21).
    NaN where a class has no image, or all.
    """
    classes = first.shape[2]
    scored = [1] if classes == 2 else range(classes)
    total = np.zeros(len(labels))
    for c in scored:
        positive = labels == c
        if positive.all() or not positive.any():
            return np.full(len(labels), np.nan)
        for pair in zip(first[:, :, c], second[:, :, c], strict=True):
            a, b = (stats.rankdata(scores) for scores in pair)
            for part, sign in ((positive, 1), (~positive, -1)):
                # Shares of the other part below an image; a negative's contribution counts those above it: the sign.
                own = below(a[part], a[~part]) - below(b[part], b[~part])
                crossed = below(a[part], b[~part]) - below(b[part], a[~part])
                total[part] += sign * (own + crossed) / 2 / part.sum()
    return total / len(scored) / len(first)


def below(scores: FloatArray, others: FloatArray) -> FloatArray:
    """Of each score, the share of the others that are lower, ties one half."""
    ordered = np.sort(others)
    places = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    share: FloatArray = places / 2 / len(others)
    return share


# Metrics whose difference is a sum over images: fast, whatever the number of draws.
CONTRIBUTIONS: dict[Weighted, Callable[[IntArray, FloatArray, FloatArray], FloatArray]] = {
    accuracy: accuracy_contributions,
    macro_auroc: auroc_contributions,
}


def permutation_p(differences: FloatArray) -> float:
    """Two-sided P: the share of draws, the observed one among them, in which the models differ at least as much.

    At least 1 / draws. NaN where the difference is not defined.
    """
    if np.isnan(differences).any():
        return float("nan")
    observed = abs(differences[0])
    return float((np.abs(differences) >= observed - 1e-12).mean())  # sums in another order differ by rounding
