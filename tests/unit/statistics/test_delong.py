"""DeLong's variance against its definition, a published closed form, simulation, and clustered data."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from urfm.statistics.delong import areas, interval, p_value


def by_definition(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong et al. 1988, equations 3 to 6: the kernel over every pair, then S10 / m + S01 / n."""
    kernels = []
    for row in scores:
        above = row[positive][:, None] - row[~positive][None]
        kernels.append((above > 0) + 0.5 * (above == 0))
    of_positives = np.array([kernel.mean(axis=1) for kernel in kernels])
    of_negatives = np.array([kernel.mean(axis=0) for kernel in kernels])
    covariance = np.cov(of_positives) / positive.sum() + np.cov(of_negatives) / (~positive).sum()
    return np.array([kernel.mean() for kernel in kernels]), covariance


def study(seed: int, images: int = 60, models: int = 3, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    positive = generator.random(images) < 0.4
    scores = generator.normal(size=(models, images)) + generator.normal(size=images) + positive
    return positive, np.round(scores * levels) / levels if levels else scores


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_equals_the_definition_with_and_without_ties(levels):
    positive, scores = study(levels, levels=levels)
    area, covariance = areas(positive, [str(i) for i in range(60)], scores[:, None])
    expected_area, expected = by_definition(positive, scores)
    assert area == pytest.approx(expected_area)
    assert area == pytest.approx([roc_auc_score(positive, row) for row in scores])
    assert covariance == pytest.approx(expected)


def test_patients_with_identical_images_count_once():
    """Obuchowski's variance of m copies of every image is the variance of the images alone."""
    positive, scores = study(4)
    patients = [str(i) for i in range(60)]
    area, covariance = areas(positive, patients, scores[:, None])
    copied = areas(np.tile(positive, 4), patients * 4, np.tile(scores, 4)[:, None])
    assert copied[0] == pytest.approx(area)
    assert copied[1] == pytest.approx(covariance)
    assert np.diag(
        areas(np.tile(positive, 4), [str(i) for i in range(240)], np.tile(scores, 4)[:, None])[1]
    ) == pytest.approx(np.diag(covariance) / 4, rel=0.05)


def test_variance_of_clustered_images_is_the_spread_of_repeated_studies():
    """Patients with a positive and a negative image that share an effect: 2,000 studies of 40 patients."""
    generator = np.random.default_rng(0)
    positive = np.tile([True, False], 40)
    patients = [str(i) for i in np.repeat(np.arange(40), 2)]
    found = []
    for _ in range(2000):
        effect = np.repeat(generator.normal(size=40), 2)
        area, covariance = areas(positive, patients, (effect + generator.normal(size=80) + positive)[None, None])
        found.append((area[0], covariance[0, 0]))
    spread = np.array(found)[:, 0].var()
    assert np.mean([variance for _, variance in found]) == pytest.approx(spread, rel=0.1)
    # Taking the images as independent would be wrong by far.
    images = areas(positive, [str(i) for i in range(80)], (effect + generator.normal(size=80) + positive)[None, None])
    assert images[1][0, 0] > 1.2 * spread


def test_level_of_the_paired_test():
    """Two equally good models that share the images' difficulty: P < 0.05 in 5 % of 1,000 studies (+- 3 sd)."""
    generator = np.random.default_rng(1)
    patients = [str(i) for i in range(100)]
    positive = np.arange(100) % 2 == 0
    rejected = 0
    for _ in range(1000):
        difficulty = generator.normal(size=100)
        area, covariance = areas(positive, patients, (positive + difficulty + generator.normal(size=(2, 100)))[:, None])
        gap = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        rejected += p_value(area[0] - area[1], gap) < 0.05
    assert abs(rejected / 1000 - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_of_several_seeds_area_and_variance_are_those_of_their_mean():
    """By the definition, of the mean over three seeds of each model; not of averaged scores."""
    positive, scores = study(7, models=6)
    area, covariance = areas(positive, [str(i) for i in range(60)], scores.reshape(2, 3, 60))
    single, joint = by_definition(positive, scores)
    mean = np.kron(np.eye(2), np.full(3, 1 / 3))  # the variance of a mean, from that of all six
    assert area == pytest.approx(mean @ single)
    assert covariance == pytest.approx(mean @ joint @ mean.T)


def test_undefined_cases():
    scores = np.array([[[0.1, 0.4, 0.3]]])
    assert np.isnan(areas(np.array([True] * 3), ["a", "b", "c"], scores)[0]).all()
    area, covariance = areas(np.array([True, False, False]), ["a", "b", "c"], scores)
    assert area == pytest.approx([0.0])
    assert np.isnan(covariance).all()
    perfect = areas(np.array([True, True, False, False]), list("abcd"), np.array([[[4.0, 3, 2, 1]]]))
    assert interval(1.0, perfect[1][0, 0], 0.95) == (1.0, 1.0)
    assert np.isnan(p_value(0.0, 0.0))
    assert p_value(-0.196, 0.01) == pytest.approx(2 * stats.norm.sf(1.96))
    assert interval(0.9, 0.01, 0.95) == (pytest.approx(0.9 - 0.196, abs=1e-4), 1.0)
