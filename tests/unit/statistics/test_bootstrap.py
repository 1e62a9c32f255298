"""The patient bootstrap: what it draws, its coverage, clustering, and its P."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score
from urfm.statistics.bootstrap import (
    bootstrap_scores,
    patient_counts,
    patient_strata,
    percentile_interval,
    task_seed,
    two_sided_p,
)


def test_strata_follow_the_majority_class_of_a_patient():
    patients = ["b", "a", "a", "a", "c", "c"]
    labels = np.array([1, 0, 2, 2, 1, 0])  # a: mostly 2; b: 1; c: one each, so the first class, 0
    numbers, strata = patient_strata(patients, labels)
    assert numbers.tolist() == [1, 0, 0, 0, 2, 2]
    assert [members.tolist() for members in strata] == [[2], [1], [0]]


def test_resamples_keep_the_size_of_every_stratum_and_are_uniform():
    strata = [np.array([0, 3, 4]), np.array([1, 2])]
    counts = patient_counts(strata, 20_000, np.random.default_rng(0))
    assert (counts[strata[0]].sum(axis=0) == 3).all()
    assert (counts[strata[1]].sum(axis=0) == 2).all()
    # multinomial: mean 1, variance 1 - 1/k
    assert counts.mean(axis=1) == pytest.approx(np.ones(5), abs=0.03)
    assert counts.var(axis=1) == pytest.approx([2 / 3, 1 / 2, 1 / 2, 2 / 3, 2 / 3], abs=0.03)


def test_resampled_scores_equal_scoring_the_repeated_images():
    """Each column of weights is the same as a data set in which images stand as often as drawn."""
    generator = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2] * 8, 2)
    patients = [str(i) for i in np.repeat(np.arange(24), 2)]
    probabilities = generator.dirichlet(np.ones(3), 48)
    found = bootstrap_scores(labels, patients, {"m": probabilities}, 7, [4, 2])["m"]
    numbers, strata = patient_strata(patients, labels)
    counts = patient_counts(strata, 7, np.random.default_rng([4, 2]))
    for column in range(7):
        rows = np.repeat(np.arange(48), counts[numbers, column])
        predicted = probabilities[rows].argmax(axis=1)
        assert found["accuracy"][column] == pytest.approx((predicted == labels[rows]).mean())
        assert found["f1_macro"][column] == pytest.approx(f1_score(labels[rows], predicted, average="macro"))
        area = roc_auc_score(labels[rows], probabilities[rows], multi_class="ovr", average="macro")
        assert found["auroc"][column] == pytest.approx(area)


def test_all_models_of_a_task_share_the_resamples_and_tasks_do_not():
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    patients = [str(i) for i in range(40)]
    p = generator.dirichlet([1, 1], 40)
    found = bootstrap_scores(labels, patients, {"a": p, "b": p.copy()}, 300, task_seed(0, "breast_tumor"))
    again = bootstrap_scores(labels, patients, {"b": p}, 300, task_seed(0, "breast_tumor"))
    other = bootstrap_scores(labels, patients, {"b": p}, 300, task_seed(0, "liver_mass"))
    for metric in found["a"]:
        np.testing.assert_array_equal(found["a"][metric], found["b"][metric])
        np.testing.assert_array_equal(found["b"][metric], again["b"][metric])
        assert not np.array_equal(again["b"][metric], other["b"][metric])


def test_coverage_of_the_interval():
    """Images of a true accuracy of 0.8: the 95 % interval holds it in about 95 % of studies (n = 200)."""
    generator = np.random.default_rng(3)
    studies, covered = 300, 0
    labels = np.arange(200) % 2
    patients = [str(i) for i in range(200)]
    for study in range(studies):
        right = generator.random(200) < 0.8
        chosen = np.where(right, labels, 1 - labels)
        scores = bootstrap_scores(labels, patients, {"m": np.eye(2)[chosen]}, 250, [study])["m"]["accuracy"]
        low, high = percentile_interval(scores, 0.95)
        covered += low <= 0.8 <= high
    # binomial sd of 300 studies: 1.3 points
    assert 0.91 <= covered / studies <= 0.985


@pytest.mark.parametrize("size", [1, 4, 8])
def test_clustering_widens_the_interval_by_the_design_effect(size):
    """Images of a patient all right or all wrong: rho = 1, so the sd grows by sqrt(1 + (m - 1) rho) = sqrt(m)."""
    generator = np.random.default_rng(0)
    count = 1600
    patient = np.arange(count) // size
    labels = patient % 2
    right = (generator.random(count // size) < 0.75)[patient]
    probabilities = np.eye(2)[np.where(right, labels, 1 - labels)]
    clustered = bootstrap_scores(labels, [str(p) for p in patient], {"m": probabilities}, 2000, [0])["m"]
    by_image = bootstrap_scores(labels, [str(i) for i in range(count)], {"m": probabilities}, 2000, [0])["m"]
    ratio = clustered["accuracy"].std() / by_image["accuracy"].std()
    assert ratio == pytest.approx(np.sqrt(size), rel=0.08)


def test_false_positives_keep_to_the_level():
    """Two equally good models: P < 0.05 in about 5 % of studies."""
    generator = np.random.default_rng(5)
    labels = np.arange(150) % 2
    patients = [str(i) for i in range(150)]
    found = 0
    for study in range(300):
        models = {
            name: np.eye(2)[np.where(generator.random(150) < 0.8, labels, 1 - labels)] for name in ("first", "second")
        }
        scores = bootstrap_scores(labels, patients, models, 250, [study])
        found += two_sided_p(scores["first"]["accuracy"] - scores["second"]["accuracy"]) < 0.05
    assert 0.015 <= found / 300 <= 0.09


def test_p_is_never_zero_and_inverts_the_interval():
    assert two_sided_p(np.full(1999, 0.1)) == pytest.approx(2 / 2000)
    assert two_sided_p(np.zeros(99)) == 1.0
    assert np.isnan(two_sided_p(np.full(3, np.nan)))
    values = np.random.default_rng(0).normal(1.0, 0.5, 1999)
    assert two_sided_p(values) == pytest.approx(2 * (1 + (values <= 0).sum()) / 2000)
    assert two_sided_p(values) == two_sided_p(-values)
    low, high = percentile_interval(values, 0.95)
    assert (two_sided_p(values) < 0.05) == (low > 0 or high < 0)


def test_undefined_resamples_are_left_out():
    values = np.r_[np.nan, np.linspace(0, 1, 101)]
    assert percentile_interval(values, 0.9) == (pytest.approx(0.05), pytest.approx(0.95))
    assert all(np.isnan(percentile_interval(np.array([np.nan]), 0.95)))


def test_speed():
    """Faster than scikit-learn on the same resamples, one after the other, side by side on this machine."""
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=3000)
    probabilities = generator.dirichlet([1, 1], 3000)
    start = time.process_time()
    bootstrap_scores(labels, [str(i) for i in range(3000)], {"m": probabilities}, 1000, [0])
    own = (time.process_time() - start) / 1000
    start = time.process_time()
    for _ in range(20):
        rows = generator.integers(3000, size=3000)
        f1_score(labels[rows], probabilities[rows].argmax(axis=1), average="macro")
        roc_auc_score(labels[rows], probabilities[rows, 1])
    assert own < (time.process_time() - start) / 20
