"""Variance and tests of the area under the ROC curve without resampling, for two classes.

DeLong, DeLong and Clarke-Pearson (1988), placements by ranks as Sun and Xu (2014). Images of one patient are summed
first, as Obuchowski (1997) does for clustered data; with one image per patient this is DeLong's method exactly. Areas
are means over seeds, and so are placements.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from urfm.metrics import FloatArray


def areas(positive: NDArray[np.bool_], patients: Sequence[str], scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Areas (models,) and their covariance (models, models) over patients.

    Parameters
    ----------
    positive, patients
        (images,), whether an image is of the second class, and its patient.
    scores
        (models, seeds, images), the higher the likelier positive.

    Returns
    -------
    NaN where there is no positive or no negative image; the covariance also where either is of one patient only.
    """
    models, _, images = scores.shape
    count = int(positive.sum())
    undefined = np.full(models, np.nan), np.full((models, models), np.nan)
    if count in (0, images):
        return undefined
    # A positive's placement: the share of negatives below it, ties one half. A negative's: of positives above it.
    within = np.empty_like(scores)
    for part in (positive, ~positive):
        within[..., part] = stats.rankdata(scores[..., part], axis=-1)
    beaten = stats.rankdata(scores, axis=-1) - within
    placements = np.where(positive, beaten / (images - count), 1 - beaten / count).mean(axis=1)
    area = placements[:, positive].mean(axis=1)

    _, numbers = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    deviations = placements - area[:, None]
    sums, factors = [], []
    for part in (positive, ~positive):
        totals = np.stack([np.bincount(numbers[part], row[part], numbers.max() + 1) for row in deviations])
        clusters = len(set(numbers[part]))
        if clusters < 2:
            return area, undefined[1]
        sums.append(totals / part.sum())
        factors.append(clusters / (clusters - 1))
    patients_in_all = numbers.max() + 1
    cross = sums[0] @ sums[1].T * patients_in_all / (patients_in_all - 1)
    return area, factors[0] * sums[0] @ sums[0].T + factors[1] * sums[1] @ sums[1].T + cross + cross.T


def interval(area: float, variance: float, confidence: float) -> tuple[float, float]:
    """Normal interval of an area, within [0, 1]; no width where nothing varies."""
    half = stats.norm.ppf((1 + confidence) / 2) * np.sqrt(variance)
    return float(max(0.0, area - half)), float(min(1.0, area + half))


def p_value(difference: float, variance: float) -> float:
    """Two-sided P of equal areas; NaN where their difference does not vary (its variance is rounding)."""
    return float(2 * stats.norm.sf(abs(difference) / np.sqrt(variance))) if variance > 1e-15 else float("nan")
