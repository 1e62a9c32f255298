"""The patient bootstrap: what it draws, its coverage, clustering, and few patients."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, roc_auc_score
from urfm.statistics.bootstrap import (
    bootstrap_scores,
    expanded_interval,
    mean_score,
    patient_counts,
    patient_strata,
    rarest,
    task_seed,
)


def test_strata_follow_the_majority_class_of_a_patient():
    """Patients 0 to 4: an image of class 1 and two of class 2; 5 to 9: one of class 1; 10 to 14: one of 1, one of 0."""
    patients = [f"{i:02d}" for i in [*range(5)] * 3 + [*range(5, 10)] + [*range(10, 15)] * 2]
    labels = np.repeat([1, 2, 2, 1, 1, 0], 5)
    numbers, strata = patient_strata(patients, labels)
    assert numbers.tolist() == [int(patient) for patient in patients]
    assert [members.tolist() for members in strata] == [[*range(10, 15)], [*range(5, 10)], [*range(5)]]
    assert rarest(patients, labels) == 5  # of class 0, and of class 2


def test_few_patients_of_a_class_are_drawn_with_those_of_the_largest():
    labels = np.repeat([0, 1, 2], [4, 9, 6])
    _, strata = patient_strata([f"{i:02d}" for i in range(19)], labels)
    assert [members.tolist() for members in strata] == [[*range(13)], [*range(13, 19)]]
    assert rarest([str(i) for i in range(19)], labels) == 4
    assert [len(members) for members in patient_strata(list("abcd"), np.array([0, 0, 1, 2]))[1]] == [4]


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
    found = bootstrap_scores(labels, patients, {"m": probabilities[None]}, 7, [4, 2])["m"]
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
    p = generator.dirichlet([1, 1], (2, 40))
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
        scores = bootstrap_scores(labels, patients, {"m": np.eye(2)[chosen][None]}, 250, [study])["m"]["accuracy"]
        low, high = expanded_interval(scores, 0.95, 100)
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
    clustered = bootstrap_scores(labels, [str(p) for p in patient], {"m": probabilities[None]}, 2000, [0])["m"]
    by_image = bootstrap_scores(labels, [str(i) for i in range(count)], {"m": probabilities[None]}, 2000, [0])["m"]
    ratio = clustered["accuracy"].std() / by_image["accuracy"].std()
    assert ratio == pytest.approx(np.sqrt(size), rel=0.08)


def test_scores_are_means_over_seeds_on_each_resample():
    """Not those of averaged predictions; two equal seeds count twice."""
    generator = np.random.default_rng(2)
    labels, patients = np.arange(60) % 3, [f"{i:02d}" for i in range(60)]
    seeds = generator.dirichlet(np.ones(3), (2, 60))
    three = np.stack([seeds[0], seeds[1], seeds[1]])
    found = bootstrap_scores(labels, patients, {"m": three}, 50, [0])["m"]
    alone = [bootstrap_scores(labels, patients, {"m": own[None]}, 50, [0])["m"] for own in seeds]
    one = np.ones((60, 1))
    for metric, values in found.items():
        assert values == pytest.approx((alone[0][metric] + 2 * alone[1][metric]) / 3)
    assert mean_score(labels, three, one)["accuracy"] == pytest.approx(
        np.mean([(own.argmax(axis=1) == labels).mean() for own in three])
    )


def test_expanded_interval():
    """Of few normal values it is as wide as Student's t interval of their mean (Hesterberg 2015, section 5.3)."""
    generator = np.random.default_rng(0)
    for n in (8, 20, 100):
        sample = stats.zscore(generator.normal(size=n), ddof=1)
        means = generator.choice(sample, (200_000, n)).mean(axis=1)
        low, high = expanded_interval(means, 0.95, n)
        expected = stats.t.interval(0.95, n - 1, 0, 1 / np.sqrt(n))
        assert high - low == pytest.approx(expected[1] - expected[0], rel=0.08)
        plain = np.subtract(*np.quantile(means, [0.975, 0.025]))
        assert plain < high - low
    assert expanded_interval(means, 0.95, 1_000_000) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-4)


def test_undefined_resamples_are_left_out():
    values = np.r_[np.nan, np.linspace(0, 1, 101)]
    assert expanded_interval(values, 0.9, 10**6) == (pytest.approx(0.05, abs=1e-4), pytest.approx(0.95, abs=1e-4))
    assert all(np.isnan(expanded_interval(np.array([np.nan]), 0.95, 30)))
    assert all(np.isnan(expanded_interval(np.array([0.5, 0.6]), 0.95, 1)))


def test_speed():
    """Faster than scikit-learn on the same resamples, one after the other, side by side on this machine."""
    generator = np.random.default_rng(0)
    labels = generator.integers(2, size=3000)
    probabilities = generator.dirichlet([1, 1], 3000)
    start = time.process_time()
    bootstrap_scores(labels, [str(i) for i in range(3000)], {"m": probabilities[None]}, 1000, [0])
    own = (time.process_time() - start) / 1000
    start = time.process_time()
    for _ in range(20):
        rows = generator.integers(3000, size=3000)
        f1_score(labels[rows], probabilities[rows].argmax(axis=1), average="macro")
        roc_auc_score(labels[rows], probabilities[rows, 1])
    assert own < (time.process_time() - start) / 20
