"""Studies of two equally good models: patients of several classes, images of a patient alike, models alike too."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from urfm.statistics.bootstrap import (
    FEW,
    bootstrap_scores,
    expanded_interval,
    mean_score,
    patient_strata,
    rarest,
)
from urfm.statistics.permutation import FEW as FEW_IN_ALL
from urfm.statistics.permutation import draw_signs, exchanged_differences, permutation_p

METRICS = ("accuracy", "f1_macro", "auroc")


class Design(NamedTuple):
    """A test part: so many classes, patients of each, images of a patient."""

    classes: int
    patients: int
    images: int


# From the fewest patients that a class can have to a hundred; those of issue reports among them.
GRID = [
    Design(6, 1, 1),
    Design(6, 2, 5),
    Design(8, 2, 1),
    Design(2, 4, 4),
    Design(2, 5, 30),
    Design(3, 5, 1),
    Design(2, 10, 4),
    Design(8, 11, 1),
    Design(2, 25, 1),
    Design(4, 30, 3),
    Design(2, 100, 1),
]


class Study(NamedTuple):
    """Labels and patients of the images, and the probabilities (seeds, images, classes) of two models."""

    labels: np.ndarray
    patients: list[str]
    models: tuple[np.ndarray, np.ndarray]


def study(design: Design, number: int, seeds: int = 2) -> Study:
    """Logits: 1.2 for the right class, plus effects of patients (variance 0.6) and images (0.4), half of them of both
    models, and noise of each seed. The second model is three times as sure of itself, which no metric may see."""
    random = np.random.default_rng([*design, number])
    patients = design.classes * design.patients
    patient = np.repeat(np.arange(patients), design.images)
    labels = patient // design.patients
    shared, *own = (effects(random, patients, design)[patient] for _ in range(3))
    of_images, *of_models = (random.normal(size=(len(labels), design.classes)) for _ in range(3))
    models = []
    for number_, sharpness in enumerate((1, 3)):
        logits = 1.2 * np.eye(design.classes)[labels]
        logits = logits + np.sqrt(0.3) * (shared + own[number_]) + np.sqrt(0.2) * (of_images + of_models[number_])
        noisy = logits + 0.3 * random.normal(size=(seeds, *logits.shape))
        odds = np.exp(sharpness * (noisy - noisy.max(axis=2, keepdims=True)))
        models.append(odds / odds.sum(axis=2, keepdims=True))
    return Study(labels, [f"{name:04d}" for name in patient], (models[0], models[1]))


def effects(random: np.random.Generator, patients: int, design: Design) -> np.ndarray:
    return random.normal(size=(patients, design.classes))


def findings(design: Design, number: int, draws: int = 400) -> dict[str, dict[str, bool | None]]:
    """Whether P is below 0.05, and whether the interval leaves out 0, by metric; None where it is refused."""
    labels, patients, (first, second) = study(design, number)
    numbers, strata = patient_strata(patients, labels)
    signs = draw_signs(len(set(patients)), draws, np.random.default_rng(number))
    exchanged = exchanged_differences(labels, numbers, first, second, signs)
    refused = rarest(patients, labels) < FEW, len(set(patients)) < FEW_IN_ALL
    drawn = bootstrap_scores(labels, patients, {"first": first, "second": second}, draws, [number])
    found: dict[str, dict[str, bool | None]] = {"P": {}, "interval": {}}
    for metric in METRICS:
        gaps = drawn["first"][metric] - drawn["second"][metric]
        low, high = expanded_interval(gaps, 0.95, min(map(len, strata)))
        found["interval"][metric] = None if refused[0] else not low <= 0 <= high
        found["P"][metric] = None if refused[1] else permutation_p(exchanged[metric]) < 0.05
    return found


def percentiles(design: Design, number: int, draws: int = 400) -> dict[str, bool | None]:
    """Whether a percentile interval of patients drawn within their own class, however few, leaves out 0."""
    labels, patients, models = study(design, number)
    random = np.random.default_rng(number)
    patient = np.unique(patients, return_inverse=True)[1]
    counts = np.zeros((design.classes * design.patients, draws))
    for start in range(0, len(counts), design.patients):
        members = slice(start, start + design.patients)
        counts[members] = random.multinomial(design.patients, [1 / design.patients] * design.patients, draws).T
    first, second = (mean_score(labels, model, counts[patient]) for model in models)
    bounds = {metric: np.nanquantile(first[metric] - second[metric], [0.025, 0.975]) for metric in METRICS}
    return {metric: bool(not low <= 0 <= high) for metric, (low, high) in bounds.items()}
