"""Intervals and t-tests against scipy, Holm against a worked example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from urfm.statistics.significance import corrected_interval, corrected_t_test, holm, t_interval, t_test

NUMBERS = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=10).filter(lambda x: np.std(x) > 1e-3)


@given(NUMBERS, st.sampled_from([0.9, 0.95, 0.99]))
def test_t_interval(values, confidence):
    values = np.array(values)
    expected = stats.t.interval(confidence, len(values) - 1, values.mean(), stats.sem(values))
    assert t_interval(values, confidence) == pytest.approx(expected)


@given(NUMBERS, NUMBERS)
def test_welch(first, second):
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert t_test(np.array(first), np.array(second), "welch") == pytest.approx(expected)


def test_welch_and_paired_by_hand():
    first, second = np.array([0.81, 0.83, 0.85]), np.array([0.78, 0.82, 0.80])
    t = (first.mean() - second.mean()) / np.sqrt(first.var(ddof=1) / 3 + second.var(ddof=1) / 3)
    a, b = first.var(ddof=1) / 3, second.var(ddof=1) / 3
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 2)
    assert t_test(first, second, "welch") == pytest.approx(2 * stats.t.sf(t, freedom))
    gap = first - second
    assert t_test(first, second, "paired") == pytest.approx(
        2 * stats.t.sf(gap.mean() / (gap.std(ddof=1) / np.sqrt(3)), 2)
    )
    assert t_test(first, second, "paired") == pytest.approx(stats.ttest_rel(first, second).pvalue)


@pytest.mark.parametrize("kind", ["welch", "paired"])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.8], [0.7]),  # one seed
        ([0.8, 0.8, 0.8], [0.7, 0.7, 0.7]),  # no spread: t would be x/0
        ([0.8, 0.8], [0.8, 0.8]),  # identical: 0/0
        ([0.8, np.nan], [0.7, 0.6]),  # an undefined score
    ],
)
def test_undefined_tests_are_nan_not_zero(kind, first, second):
    assert np.isnan(t_test(np.array(first), np.array(second), kind))


def test_paired_differences_that_differ_by_rounding_only_are_no_spread():
    first = np.array([0.3, 0.8, 0.7])
    assert np.isnan(t_test(first, first - 0.1, "paired"))


def test_degenerate_intervals():
    assert all(np.isnan(t_interval(np.array([0.8]), 0.95)))
    assert all(np.isnan(t_interval(np.array([0.8, np.nan]), 0.95)))
    assert t_interval(np.array([0.5, 0.5]), 0.95) == (0.5, 0.5)


@given(NUMBERS, st.floats(0.05, 1))
def test_corrected_t_is_the_one_sample_t_with_a_larger_variance(values, ratio):
    """Nadeau and Bengio 2003, equation 9: t = mean / sqrt((1 / J + n2 / n1) variance), J - 1 degrees of freedom."""
    values = np.array(values)
    assert corrected_t_test(values, 0) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert corrected_interval(values, 0, 0.9) == pytest.approx(t_interval(values, 0.9))
    t = values.mean() / np.sqrt((1 / len(values) + ratio) * values.var(ddof=1))
    assert corrected_t_test(values, ratio) == pytest.approx(2 * stats.t.sf(abs(t), len(values) - 1))
    low, high = corrected_interval(values, ratio, 0.95)
    assert (corrected_t_test(values, ratio) < 0.05) == (low > 0 or high < 0)


def test_undefined_corrected_tests_are_nan():
    assert np.isnan(corrected_t_test(np.array([0.1]), 1 / 3))
    assert np.isnan(corrected_t_test(np.array([0.1, 0.1]), 1 / 3))
    assert np.isnan(corrected_t_test(np.array([0.1, np.nan]), 1 / 3))


def test_holm_worked_example():
    """0.01, 0.04, 0.03, 0.005: sorted 0.005 x 4, 0.01 x 3, 0.03 x 2, then 0.04 x 1 lifted to 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_is_capped_skips_nan_and_keeps_order():
    assert holm([0.6, np.nan, 0.7]).tolist() == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert holm([]).tolist() == []
    assert holm([0.2]).tolist() == [0.2]
