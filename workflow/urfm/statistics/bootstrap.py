"""Patient-clustered, class-stratified bootstrap of scores and of paired differences.

Images of one patient are not independent, so patients are drawn, not images: with m images per patient
of intra-patient correlation rho, an interval over images is too narrow by sqrt(1 + (m - 1) rho)
(Kish's design effect). Patients are drawn within their class, so class shares stay as they are. Scores are means over
seeds on every resample, as those that are reported. P values come from `urfm.statistics.permutation`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from urfm.metrics import METRICS, FloatArray, IntArray, score

BLOCK = 250  # resamples at a time: keeps (images, resamples) arrays in the processor's cache
FEW = 5  # patients: a class of fewer has no intervals, and is not drawn from by itself


def patient_strata(patients: Sequence[str], labels: IntArray) -> tuple[IntArray, list[IntArray]]:
    """Number the patients and group them by class.

    Returns
    -------
    (images,) patient number of each image, and one array of patient numbers per class that has any. The
    class of a patient with several is the one most of the patient's images have, the first of equal ones.
    Those of classes that are left with fewer than FEW patients join the largest, as they would hardly vary.
    """
    names, numbers = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(counts, (numbers, labels), 1)
    majority = counts.argmax(axis=1)
    sizes = np.bincount(majority)
    majority[sizes[majority] < FEW] = sizes.argmax()
    return numbers.astype(np.int64), [np.flatnonzero(majority == c) for c in np.unique(majority)]


def rarest(patients: Sequence[str], labels: IntArray) -> int:
    """Patients of the class that the fewest have an image of, of the classes that have any."""
    pairs = {(patient, int(label)) for patient, label in zip(patients, labels, strict=True)}
    return min(Counter(label for _, label in pairs).values())


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
        Model name to probabilities (seeds, images, classes).
    seed
        Entropy of the random generator; the same seed draws the same patients.

    Returns
    -------
    Model to metric to (resamples,) values in [0, 1], means over seeds.
    """
    numbers, strata = patient_strata(patients, labels)
    counts = patient_counts(strata, resamples, np.random.default_rng(list(seed)))
    blocks: dict[str, list[dict[str, FloatArray]]] = {name: [] for name in models}
    for start in range(0, resamples, BLOCK):
        weights = counts[:, start : start + BLOCK].astype(float)[numbers]
        for name, probabilities in models.items():
            blocks[name].append(mean_score(labels, probabilities, weights))
    return {
        name: {metric: np.concatenate([block[metric] for block in parts]) for metric in METRICS}
        for name, parts in blocks.items()
    }


def mean_score(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> dict[str, FloatArray]:
    """`score`, mean over seeds; `probabilities` is (seeds, images, classes). Equal seeds are scored once."""
    seeds, counts = np.unique(probabilities, axis=0, return_counts=True)
    scores = [score(labels, own, weights) for own in seeds]
    return {metric: np.average([one[metric] for one in scores], axis=0, weights=counts) for metric in METRICS}


def task_seed(seed: int, task: str) -> list[int]:
    """Entropy that depends on the task's name, so that adding a task leaves the others' resamples alone."""
    return [seed, int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "big")]


def expanded_interval(values: FloatArray, confidence: float, patients: int) -> tuple[float, float]:
    """Percentile interval of resampled values, widened for few patients (Hesterberg 2015, "expanded percentile").

    Percentiles alone are too narrow by sqrt((n - 1) / n) and take the normal distribution for Student's t; `patients` n
    is the size of the smallest stratum, so the interval is wide rather than narrow where others are larger.
    Resamples in which the score is undefined (NaN) are left out.
    """
    values = values[~np.isnan(values)]
    if not len(values) or patients < 2:
        return float("nan"), float("nan")
    tail = stats.norm.cdf(np.sqrt(patients / (patients - 1)) * stats.t.ppf((1 - confidence) / 2, patients - 1))
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
