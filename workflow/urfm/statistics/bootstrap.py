"""Patient-clustered, class-stratified bootstrap of scores and of paired differences.

Images of one patient are not independent, so patients are drawn, not images: with m images per patient
of intra-patient correlation rho, an interval over images is too narrow by sqrt(1 + (m - 1) rho)
(Kish's design effect). Patients are drawn within their class, so class shares stay as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from urfm.metrics import METRICS, FloatArray, IntArray, score

BLOCK = 250  # resamples at a time: keeps (images, resamples) arrays in the processor's cache


def patient_strata(patients: Sequence[str], labels: IntArray) -> tuple[IntArray, list[IntArray]]:
    """Number the patients and group them by class.

    Returns
    -------
    (images,) patient number of each image, and one array of patient numbers per class that has any. The
    class of a patient with several is the one most of the patient's images have, the first of equal ones.
    """
    names, numbers = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (numbers, labels), 1)
    majority = counts.argmax(axis=1)
    return numbers.astype(np.int64), [np.flatnonzero(majority == c) for c in np.unique(majority)]


def patient_counts(strata: Sequence[IntArray], resamples: int, generator: np.random.Generator) -> IntArray:
    """How often each patient is drawn in each resample, (patients, resamples); strata keep their sizes."""
    counts = np.zeros((sum(map(len, strata)), resamples), dtype=np.int64)
    for members in strata:
        size = len(members)
        drawn = generator.integers(size, size=(size, resamples)) * resamples + np.arange(resamples)
        counts[members] = np.bincount(drawn.ravel(), minlength=size * resamples).reshape(size, resamples)
    return counts


def bootstrap_scores(
    labels: IntArray, patients: Sequence[str], models: Mapping[str, FloatArray], resamples: int, seed: Sequence[int]
) -> dict[str, dict[str, FloatArray]]:
    """Scores of every model on the same resamples.

    Parameters
    ----------
    labels, patients
        (images,) class numbers, and the patient of each image.
    models
        Model name to probabilities (images, classes).
    seed
        Entropy of the random generator; the same seed draws the same patients.

    Returns
    -------
    Model to metric to (resamples,) values in [0, 1].
    """
    numbers, strata = patient_strata(patients, labels)
    counts = patient_counts(strata, resamples, np.random.default_rng(list(seed)))
    blocks: dict[str, list[dict[str, FloatArray]]] = {name: [] for name in models}
    for start in range(0, resamples, BLOCK):
        weights = counts[:, start : start + BLOCK].astype(float)[numbers]
        for name, probabilities in models.items():
            blocks[name].append(score(labels, probabilities, weights))
    return {
        name: {metric: np.concatenate([block[metric] for block in parts]) for metric in METRICS}
        for name, parts in blocks.items()
    }


def task_seed(seed: int, task: str) -> list[int]:
    """Entropy that depends on the task's name, so that adding a task leaves the others' resamples alone."""
    return [seed, int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "big")]


def percentile_interval(values: FloatArray, confidence: float) -> tuple[float, float]:
    """Percentile interval of resampled values; resamples in which the score is undefined (NaN) are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def two_sided_p(differences: FloatArray) -> float:
    """Two-sided bootstrap P of "no difference", from resampled differences.

    P = 2 (1 + min(number <= 0, number >= 0)) / (1 + resamples), at most 1: twice the smaller share of
    resamples on either side of zero, with one added to numerator and denominator, so that P is never 0
    (Davison and Hinkley 1997, 4.2). It inverts the percentile interval: P < 0.05 exactly when the 95 %
    interval leaves zero out, up to the correction. 2,000 resamples resolve P down to 0.001.
    """
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return float("nan")
    smaller = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (1 + smaller) / (1 + len(differences)))
