"""What the tests of a difference do when two models are equally good: the paper's calls them different, ours do not.

From a hundred patients a class down to one, ours keep their level or are refused. For tests over seeds, each study
draws images of two classes with two independent sets of features; a model is a nearest-mean classifier on one of them,
so both models are equally good. A seed is a training run on a random 80 % of the training part.
"""

from __future__ import annotations

import numpy as np
import pytest
from equal_models import GRID, METRICS, Design, findings
from equal_models import study as study_of
from urfm.statistics.permutation import draw_signs, exchanged_differences, permutation_p
from urfm.statistics.significance import corrected_t_test, t_test

STUDIES, IMAGES, FEATURES, SEEDS = 300, 600, 6, 10
TRAIN, TEST = 450, 150
LEVEL = 0.05
PATIENTS = np.arange(TEST)


def margins(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """How much nearer the mean of class 1 is than that of class 0, (test images,)."""
    means = [train[labels == c].mean(axis=0) for c in (0, 1)]
    return (test - (means[0] + means[1]) / 2) @ (means[1] - means[0])


def study(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(IMAGES) % 2
    return labels, generator.normal(size=(2, IMAGES, FEATURES)) + 0.35 * labels[:, None]


def one_split(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Test labels, and margins (models, seeds, test images) of ten trainings on one split."""
    labels, features = study(generator)
    order = generator.permutation(IMAGES)
    train, test = order[:TRAIN], order[TRAIN:]
    runs = [generator.permutation(train)[: int(0.8 * TRAIN)] for _ in range(SEEDS)]
    return labels[test], np.array([[margins(x[run], labels[run], x[test]) for run in runs] for x in features])


def resplits(generator: np.random.Generator) -> np.ndarray:
    """Accuracies (models, splits) of trainings on ten splits of the same images."""
    labels, features = study(generator)
    splits = [np.split(generator.permutation(IMAGES), [TRAIN]) for _ in range(SEEDS)]
    return np.array([[((margins(x[a], labels[a], x[b]) > 0) == labels[b]).mean() for a, b in splits] for x in features])


def probabilities(margin: np.ndarray) -> np.ndarray:
    positive = 1 / (1 + np.exp(-margin))
    return np.stack([1 - positive, positive], axis=-1)


def above_level(rate: float) -> float:
    """How many binomial standard deviations a rate of rejections lies above the level."""
    return (rate - LEVEL) / np.sqrt(LEVEL * (1 - LEVEL) / STUDIES)


@pytest.fixture(scope="module")
def rates() -> dict[str, float]:
    """Share of studies in which each test says that the models differ."""
    found: dict[str, list[float]] = {
        name: [] for name in ("welch", "paired", "permutation", "uncorrected", "corrected")
    }
    for number in range(STUDIES):
        labels, margin = one_split(np.random.default_rng([1, number]))
        first, second = ((margin > 0) == labels).mean(axis=2)
        found["welch"].append(t_test(first, second, "welch"))
        found["paired"].append(t_test(first, second, "paired"))
        signs = draw_signs(TEST, 400, np.random.default_rng(number))
        exchanged = exchanged_differences(labels, PATIENTS, *probabilities(margin), signs)
        found["permutation"].append(permutation_p(exchanged["accuracy"]))
        first, second = resplits(np.random.default_rng([2, number]))
        found["uncorrected"].append(t_test(first, second, "paired"))
        found["corrected"].append(corrected_t_test(first - second, TEST / TRAIN))
    return {name: float(np.mean(np.array(p) < LEVEL)) for name, p in found.items()}


def test_tests_over_seeds_of_one_split_call_equal_models_different(rates):
    assert rates["welch"] > 0.5
    assert rates["paired"] > 0.5


def test_the_test_over_patients_keeps_its_level(rates):
    assert above_level(rates["permutation"]) < 3


def test_the_corrected_t_keeps_its_level_where_the_plain_one_does_not(rates):
    assert above_level(rates["corrected"]) < 3
    assert above_level(rates["uncorrected"]) > 5


@pytest.mark.parametrize("design", GRID, ids=str)
def test_few_patients_keep_the_level_or_are_refused(design: Design):
    """P below 0.05, or an interval without 0, in 5 % of studies of equally good models, up to three standard errors."""
    studies = 150
    bound = LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / studies)
    found = [findings(design, number) for number in range(studies)]
    for way in ("P", "interval"):
        for metric in METRICS:
            values = [one[way][metric] for one in found]
            few = design.patients < 5 if way == "interval" else design.classes * design.patients < 10
            assert (values == [None] * studies) == few
            if not few:
                assert np.mean(np.array(values, float)) < bound, (way, metric)


def test_a_better_model_is_found():
    """The second model made worse by half of its own logits' noise: no test of level means anything without power."""
    found = []
    for number in range(60):
        labels, patients, (first, second) = study_of(Design(2, 25, 2), number)
        noise = np.random.default_rng(number).dirichlet([1, 1], second.shape[1])
        worse = (second + 2 * noise) / 3
        numbers = np.unique(patients, return_inverse=True)[1]
        signs = draw_signs(50, 400, np.random.default_rng(number))
        found.append(permutation_p(exchanged_differences(labels, numbers, first, worse, signs)["auroc"]) < LEVEL)
    assert np.mean(found) > 0.5
