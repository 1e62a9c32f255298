"""Detectable differences and equivalence: closed forms, scipy's t-tests, and studies in which the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from urfm.statistics.bootstrap import bootstrap_scores, patient_strata
from urfm.statistics.equivalence import detectable, equivalence_p, standard_error
from urfm.statistics.permutation import draw_signs, exchanged_differences, permutation_p

LEVEL = 0.05


def test_standard_error_is_that_of_a_mean():
    """Of the mean of n values: s / sqrt(n), with n - 1 in s, although a bootstrap knows n only."""
    random = np.random.default_rng(0)
    for n in (6, 30):
        sample = random.normal(size=n)
        means = random.choice(sample, (100_000, n)).mean(axis=1)
        assert standard_error(means, n) == pytest.approx(stats.sem(sample), rel=0.02)
    assert standard_error(np.array([np.nan, 0.1, 0.3]), 10**9) == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert np.isnan(standard_error(np.array([0.1, 0.3]), 1))


def test_detectable_difference_by_hand():
    assert detectable(0.01, 0.05) == pytest.approx(0.028016, abs=1e-6)  # (1.95996 + 0.84162) x 0.01
    assert detectable(0.01, 0.05, freedom=9) == pytest.approx((2.26216 + 0.88340) * 0.01, abs=1e-6)
    # Answers to 49 images: 8 of them at least must differ, 16 %, if the models never disagree here.
    assert detectable(0.0, 0.05, unit=1 / 49) == pytest.approx(2.80159**2 / 49, abs=1e-5)
    assert np.isnan(detectable(0.0, 0.05))
    assert np.isnan(detectable(np.nan, 0.05, unit=0.1))


def test_t_tests_with_this_power_need_this_difference():
    """Of a paired t-test, by the noncentral t distribution: the exact power at our difference is 80 %."""
    for n in (20, 100, 1000):
        shift = detectable(1 / np.sqrt(n), 0.05, freedom=n - 1) * np.sqrt(n)
        critical = stats.t.ppf(0.975, n - 1)
        power = stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift)
        assert power == pytest.approx(0.80, abs=0.01)


def test_equivalence_equals_two_t_tests():
    """Of differences of patients, scipy's one-sided tests against either margin; the larger P counts."""
    random = np.random.default_rng(1)
    for shift in (-0.03, 0.0, 0.01, 0.08):
        gaps = random.normal(shift, 0.1, size=60)
        upper = stats.ttest_1samp(gaps, 0.05, alternative="less").pvalue
        lower = stats.ttest_1samp(gaps, -0.05, alternative="greater").pvalue
        p = equivalence_p(gaps.mean(), stats.sem(gaps), 0.05, freedom=59)
        assert p == pytest.approx(max(upper, lower))
        low, high = stats.t.interval(0.90, 59, gaps.mean(), stats.sem(gaps))
        assert (p < 0.05) == (low > -0.05 and high < 0.05)


def test_nothing_varies():
    assert np.isnan(equivalence_p(0.0, 0.0, 0.02))
    assert np.isnan(equivalence_p(np.nan, np.nan, 0.02, 0.1))
    # 49 patients answered alike: a true difference of 2 points would look so in 37 % of studies (0.98 ** 49).
    assert equivalence_p(0.0, 0.0, 0.02, 1 / 49, 48) > 0.2
    assert equivalence_p(0.0, 0.0, 0.02, 1 / 1000, 999) < 0.001  # 0.98 ** 1000


# Studies. Answers: a share of the patients is answered differently by the two models, one image each.


def answers(random: np.random.Generator, patients: int, differing: float, better: float) -> tuple[np.ndarray, ...]:
    """Labels, and probabilities (1, images, 2) of two models; the first is right more often by `better`."""
    labels = np.arange(patients) % 2
    drawn = random.random(patients)
    both = random.random(patients) < 0.8
    first_alone, second_alone = drawn < (differing + better) / 2, drawn > 1 - (differing - better) / 2
    right = np.where(first_alone, True, both & ~second_alone), np.where(second_alone, True, both & ~first_alone)
    return labels, *(np.eye(2)[np.where(one, labels, 1 - labels)][None] for one in right)


def scores(random: np.random.Generator, patients: int, area: float, better: float) -> tuple[np.ndarray, ...]:
    """The same of binormal scores of a correlation of 0.6: areas under the curve of `area` and `area - better`."""
    labels = np.arange(patients) % 2
    shared, *own = random.normal(size=(3, patients))
    models = []
    for noise, auroc in zip(own, (area, area - better), strict=True):
        margin = np.sqrt(0.6) * shared + np.sqrt(0.4) * noise + np.sqrt(2) * stats.norm.ppf(auroc) * (labels - 0.5)
        positive = stats.norm.cdf(margin)
        models.append(np.stack([1 - positive, positive], axis=-1)[None])
    return labels, *models


def error_of(labels: np.ndarray, first: np.ndarray, second: np.ndarray, metric: str) -> tuple[float, float, int]:
    """Difference, standard error, and patients of the smallest stratum."""
    names = [f"{number:04d}" for number in range(len(labels))]
    drawn = bootstrap_scores(labels, names, {"first": first, "second": second}, 200, [0])
    stratum = min(map(len, patient_strata(names, labels)[1]))
    gaps = drawn["first"][metric] - drawn["second"][metric]
    still = exchanged_differences(labels, np.arange(len(labels)), first, second, np.ones((len(labels), 1)))
    return float(still[metric][0]), standard_error(gaps, stratum), stratum


def found(labels: np.ndarray, first: np.ndarray, second: np.ndarray, metric: str, seed: int) -> bool:
    signs = draw_signs(len(labels), 400, np.random.default_rng(seed))
    return permutation_p(exchanged_differences(labels, np.arange(len(labels)), first, second, signs)[metric]) < LEVEL


STUDIES = [
    ("accuracy", answers, 100, 0.30),
    ("accuracy", answers, 400, 0.10),
    ("accuracy", answers, 49, 0.0),  # models that never disagree where their difference is estimated
    ("f1_macro", answers, 100, 0.30),
    ("auroc", scores, 120, 0.80),
]


@pytest.mark.parametrize(("metric", "draw", "patients", "level"), STUDIES)
def test_a_difference_of_this_size_is_found_in_eighty_percent_of_studies(metric, draw, patients, level):
    """Detectable as equally good models tell it; then studies in which they differ by just that.

    About 80 %, as variances are a little larger or smaller where the models differ, and 200 studies leave 3 points.
    """
    unit = 0.0 if metric == "auroc" else 1 / patients
    equal = [error_of(*draw(np.random.default_rng([1, n]), patients, level, 0.0), metric) for n in range(15)]
    size = float(np.mean([detectable(error, LEVEL, unit) for _, error, _ in equal]))
    level = max(level, size) if draw is answers else level  # who differs by d disagrees on d at least
    hits = [found(*draw(np.random.default_rng([2, n]), patients, level, size), metric, n) for n in range(200)]
    assert np.mean(hits) == pytest.approx(0.80, abs=0.09)


@pytest.mark.parametrize(
    ("metric", "draw", "patients", "level", "margin"),
    [
        ("accuracy", answers, 49, 0.02, 0.02),
        ("accuracy", answers, 140, 0.02, 0.02),
        ("accuracy", answers, 140, 0.20, 0.08),
        ("accuracy", answers, 400, 0.05, 0.05),
        ("f1_macro", answers, 300, 0.10, 0.05),
        ("auroc", scores, 200, 0.85, 0.05),
        ("auroc", scores, 60, 0.95, 0.10),
    ],
)
def test_models_that_differ_by_the_margin_are_called_equivalent_in_five_percent(metric, draw, patients, level, margin):
    studies = 300
    unit = 0.0 if metric == "auroc" else 1 / patients
    called = []
    for number in range(studies):
        gap, error, stratum = error_of(*draw(np.random.default_rng([3, number]), patients, level, margin), metric)
        called.append(equivalence_p(gap, error, margin, unit, stratum - 1) < LEVEL)
    assert np.mean(called) < LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / studies)


def test_equal_models_are_called_equivalent_where_patients_are_many():
    called = []
    for number in range(60):
        gap, error, stratum = error_of(*answers(np.random.default_rng([4, number]), 600, 0.05, 0.0), "accuracy")
        called.append(equivalence_p(gap, error, 0.05, 1 / 600, stratum - 1) < LEVEL)
    assert np.mean(called) > 0.8
