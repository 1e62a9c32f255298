"""What a comparison could have shown, and whether two models are equally good within a margin.

A large P says nothing by itself: the models may be alike, or the patients too few. So beside it stand the smallest true
difference that would have been found with a power of 80 %, and P of two one-sided tests (Schuirmann 1987), whose null
hypothesis is that the models differ by the margin or more. Neither is corrected by what was observed: "observed power"
only repeats P (Hoenig and Heisey 2001).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from urfm.metrics import FloatArray

POWER = 0.80


def standard_error(resampled: FloatArray, patients: int) -> float:
    """Of a score or difference, from its resamples; a bootstrap's is too small by sqrt((n - 1) / n).

    Parameters
    ----------
    resampled
        (resamples,) values; undefined ones (NaN) are left out.
    patients
        n, of the smallest stratum, as of `urfm.statistics.bootstrap.expanded_interval`.
    """
    values = resampled[~np.isnan(resampled)]
    if len(values) < 2 or patients < 2:
        return float("nan")
    return float(values.std(ddof=1) * np.sqrt(patients / (patients - 1)))


def detectable(error: float, level: float, unit: float = 0.0, freedom: float = np.inf) -> float:
    """Smallest true difference that a two-sided test finds with a power of POWER; NaN where nothing varies.

    Parameters
    ----------
    error
        Standard error of the difference, as shares.
    level
        Of the test: 0.05.
    unit
        What a single image counts in a score of answers (1 / images for accuracy), 0 for one of ranks. Answers that
        differ by d differ on d / unit images at least, so the variance of a difference of d is at least d x unit,
        however little these two models happen to disagree. Without it, two models with equal answers to 49 images
        would be said to tell the least of differences apart. Of means over seeds that err on different images it is
        somewhat too large, the cautious side.
    freedom
        Degrees of freedom of a t-test.
    """
    factor = stats.t.ppf(1 - level / 2, freedom) + stats.t.ppf(POWER, freedom)
    smallest = max(factor * error, factor**2 * unit) if not np.isnan(error) else np.nan
    return float(smallest) if smallest > 0 else float("nan")


def equivalence_p(difference: float, error: float, margin: float, unit: float = 0.0, freedom: float = np.inf) -> float:
    """P of two one-sided t-tests: the models differ by less than the margin if it is small. NaN where nothing varies.

    Below 0.05 exactly where the 90 % interval lies within the margin on both sides.

    Parameters
    ----------
    difference, error
        What was observed, and its standard error, as shares.
    margin
        Largest difference that does not matter, above 0.
    unit
        What a single patient counts in a score of answers, 0 for one of ranks. If the models differed by the margin,
        the variance would be at least margin x (1 - margin) x unit, and what is observed moves in steps of a patient;
        so few patients whom both models answer alike do not make the models equivalent.
    freedom
        Degrees of freedom.
    """
    if np.isnan(difference) or np.isnan(error):
        return float("nan")
    error = max(error, np.sqrt(margin * (1 - margin) * unit))
    if not error:
        return float("nan")
    return float(stats.t.sf((margin - abs(difference) - unit / 2) / error, freedom))
