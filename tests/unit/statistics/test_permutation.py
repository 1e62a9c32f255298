"""The permutation test against scipy's, against scikit-learn's scores of exchanged predictions, and its draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from urfm.metrics import METRICS, score
from urfm.statistics.permutation import (
    accuracy_contributions,
    auroc_contributions,
    draw_signs,
    exchanged_differences,
    permutation_p,
)


def predictions(
    classes: int, seeds: int = 2, images: int = 30, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, and probabilities of two models with some ties."""
    random = np.random.default_rng([classes, seed])
    labels = np.arange(images) % classes
    models = random.dirichlet(np.ones(classes), (2, seeds, images)) + 0.3 * np.eye(classes)[labels]
    models = np.round(models, 1) + 0.01
    first, second = models / models.sum(axis=-1, keepdims=True)
    return labels, first, second


def area(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean of one class against the rest; scores need not be probabilities."""
    classes = scores.shape[1]
    scored = [1] if classes == 2 else range(classes)
    return float(np.mean([sk.roc_auc_score(labels == c, scores[:, c]) for c in scored]))


@pytest.mark.parametrize("classes", [2, 3])
def test_draws_equal_scoring_exchanged_predictions(classes):
    """Patients of two images each: in every draw, scikit-learn's scores of the predictions that changed places."""
    labels, first, second = predictions(classes)
    patients = np.repeat(np.arange(15), 2)
    signs = draw_signs(15, 6, np.random.default_rng(1))
    found = exchanged_differences(labels, patients, first, second, signs)
    assert set(found) == set(METRICS)
    for draw in range(6):
        stays = (signs[:, draw] == 1)[patients][:, None]
        gaps = {name: [] for name in METRICS}
        for a, b in zip(first, second, strict=True):
            one, other = np.where(stays, a, b), np.where(stays, b, a)
            chosen = one.argmax(axis=1), other.argmax(axis=1)
            gaps["accuracy"].append(np.subtract(*(sk.accuracy_score(labels, c) for c in chosen)))
            gaps["f1_macro"].append(np.subtract(*(sk.f1_score(labels, c, average="macro") for c in chosen)))
            ranks = stats.rankdata(a, axis=0), stats.rankdata(b, axis=0)
            one, other = np.where(stays, *ranks), np.where(stays, *ranks[::-1])
            gaps["auroc"].append(area(labels, one) - area(labels, other))
        for metric, values in gaps.items():
            assert found[metric][draw] == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_first_draw_is_what_was_observed(classes):
    """So P and the difference of the means over seeds agree in sign, whatever the cell."""
    for seed in range(20):
        labels, first, second = predictions(classes, seeds=3, seed=seed)
        signs = draw_signs(30, 2, np.random.default_rng(0))
        found = exchanged_differences(labels, np.arange(30), first, second, signs)
        one = np.ones((30, 1))
        means = [[score(labels, own, one) for own in model] for model in (first, second)]
        for metric in METRICS:
            gap = np.subtract(*(np.mean([values[metric][0] for values in model]) for model in means))
            assert found[metric][0] == pytest.approx(gap, abs=1e-12)


def test_p_equals_scipys_exact_test():
    """Twelve patients: scipy goes through all 4,096 exchanges, we draw from them."""
    random = np.random.default_rng(0)
    labels = np.arange(12) % 2
    first, second = (np.eye(2)[np.where(random.random(12) < share, labels, 1 - labels)][None] for share in (0.9, 0.4))
    hits = [(model[0].argmax(axis=1) == labels).astype(float) for model in (first, second)]
    expected = stats.permutation_test(
        hits, lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    signs = draw_signs(12, 40_000, np.random.default_rng(1))
    p = permutation_p(exchanged_differences(labels, np.arange(12), first, second, signs)["accuracy"])
    assert 0.01 < expected < 0.5
    assert p == pytest.approx(expected, abs=4 * np.sqrt(expected / 40_000))


def test_contributions_are_the_difference():
    labels, first, second = predictions(3)
    for contributions, metric in ((accuracy_contributions, "accuracy"), (auroc_contributions, "auroc")):
        one = np.ones((30, 1))
        gaps = [
            score(labels, a, one)[metric] - score(labels, b, one)[metric] for a, b in zip(first, second, strict=True)
        ]
        assert contributions(labels, first, second).sum() == pytest.approx(np.mean(gaps))


def test_a_models_scale_means_nothing_to_auroc():
    labels, first, second = predictions(2)
    surer = second**5 / (second**5).sum(axis=2, keepdims=True)
    assert auroc_contributions(labels, first, surer) == pytest.approx(auroc_contributions(labels, first, second))


def test_draws_are_fair_and_begin_with_what_was_observed():
    signs = draw_signs(40, 5_000, np.random.default_rng(0))
    assert (signs[:, 0] == 1).all()
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 4 / np.sqrt(signs.size)


def test_p_at_its_ends():
    assert permutation_p(np.r_[0.5, np.zeros(999)]) == 1 / 1000
    assert permutation_p(np.zeros(100)) == 1.0
    assert permutation_p(np.r_[0.2, -0.2, 0.1, 0.3]) == 0.75  # two-sided
    assert np.isnan(permutation_p(np.full(3, np.nan)))


def test_class_without_an_image_has_no_auroc():
    _, first, second = predictions(3)
    assert np.isnan(auroc_contributions(np.zeros(30, int), first, second)).all()
