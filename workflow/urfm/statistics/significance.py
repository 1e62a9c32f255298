"""Intervals and tests over seeds, and the correction for many tests.

A t-test over seeds on one split asks whether two training procedures differ on these very test
images. It says nothing about other patients: two equally good models come out different in more than
80 % of cases. The paper uses it, so it is computed, and labelled as seed variability.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from urfm.config.statistics import TTest
from urfm.metrics import FloatArray

# Scores are ratios of counts: a spread below this is rounding, not variation.
NO_SPREAD = 1e-12


def deviation(values: FloatArray) -> float:
    """Sample standard deviation; NaN for one value, exactly 0 where only rounding varies."""
    if len(values) < 2:
        return float("nan")
    sd = float(values.std(ddof=1))
    return 0.0 if sd < NO_SPREAD else sd


def t_interval(values: FloatArray, confidence: float) -> tuple[float, float]:
    """Confidence interval of the mean of `values` (seeds,); NaN for one value, zero width without spread."""
    if len(values) < 2 or np.isnan(values).any():
        return float("nan"), float("nan")
    mean = float(values.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * deviation(values) / np.sqrt(len(values)))
    return mean - half, mean + half


def t_test(first: FloatArray, second: FloatArray, kind: TTest) -> float:
    """Two-sided P of equal means over seeds; NaN where the test is undefined.

    "welch": independent samples, unequal variances. "paired": both arrays hold the same seeds in the
    same order. Undefined: fewer than two values, a NaN, or no spread at all (then t would be x/0).
    """
    if min(len(first), len(second)) < 2 or np.isnan(first).any() or np.isnan(second).any():
        return float("nan")
    if kind == "paired":
        return float(stats.ttest_rel(first, second).pvalue) if deviation(first - second) else float("nan")
    spread = deviation(first), deviation(second)
    if not any(spread):
        return float("nan")
    samples = first.mean(), spread[0], len(first), second.mean(), spread[1], len(second)
    return float(stats.ttest_ind_from_stats(*samples, equal_var=False).pvalue)


def corrected_error(values: FloatArray, ratio: float) -> float:
    """Standard error of a mean over re-splits (Nadeau and Bengio 2003): sd x sqrt(1 / J + test / training images).

    Re-splits share training images, so their scores are correlated and sd / sqrt(J) is too small.
    """
    return deviation(values) * float(np.sqrt(1 / len(values) + ratio)) if len(values) else float("nan")


def corrected_interval(values: FloatArray, ratio: float, confidence: float) -> tuple[float, float]:
    """Confidence interval of the mean of `values` (re-splits,), corrected; `ratio`: test images per training image."""
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * corrected_error(values, ratio))
    return float(values.mean()) - half, float(values.mean()) + half


def corrected_t_test(differences: FloatArray, ratio: float) -> float:
    """Two-sided P of a mean difference of 0 over re-splits; NaN for fewer than two, a NaN, or no spread."""
    error = corrected_error(differences, ratio)
    if np.isnan(error) or not error:
        return float("nan")
    return float(2 * stats.t.sf(abs(differences.mean()) / error, len(differences) - 1))


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Holm's step-down correction of one family; NaN stays NaN and does not count (Holm 1979)."""
    p = np.asarray(p_values, dtype=float)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return corrected
