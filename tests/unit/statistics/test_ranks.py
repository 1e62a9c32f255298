"""Ranks over tasks against Demsar's worked example and scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from urfm.statistics.ranks import average_ranks, critical_difference, friedman, pairs
from urfm.statistics.significance import holm

# Demsar 2006 (JMLR 7), Table 6: AUC of C4.5 with and without tuned m and cf on 14 data sets.
# He ranks 0.975 before 0.975 in the last but one, so that one gets a fourth digit.
DEMSAR = pd.DataFrame(
    [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ],
    columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"],
)  # fmt: skip


def test_demsars_example():
    """Average ranks, Friedman's statistic (without correction for ties) and critical difference as printed."""
    ranks = average_ranks(DEMSAR)
    assert ranks.round(3).tolist() == [3.143, 2.000, 2.893, 1.964]
    assert 12 * 14 / (4 * 5) * ((ranks**2).sum() - 4 * 25 / 4) == pytest.approx(9.28, abs=0.005)
    assert critical_difference(4, 14, 0.05) == pytest.approx(1.25, abs=0.005)


# Demsar 2006, Table 5 (a): critical values q of Nemenyi's two-tailed test at 0.05 and 0.10.
@pytest.mark.parametrize(
    ("models", "at_05", "at_10"),
    [(2, 1.960, 1.645), (3, 2.343, 2.052), (4, 2.569, 2.291), (6, 2.850, 2.589), (10, 3.164, 2.920)],
)
def test_published_critical_values(models, at_05, at_10):
    error = np.sqrt(models * (models + 1) / (6 * 10))
    assert critical_difference(models, 10, 0.05) / error == pytest.approx(at_05, abs=0.0015)
    assert critical_difference(models, 10, 0.10) / error == pytest.approx(at_10, abs=0.0015)


def test_pairs_and_friedman():
    table = pairs(DEMSAR)
    assert len(table) == 6
    ranks = average_ranks(DEMSAR)
    for _, row in table.iterrows():
        assert row["rank_difference"] == pytest.approx(ranks[row["second"]] - ranks[row["first"]])
        assert row["rank_difference"] >= 0
        expected = stats.wilcoxon(DEMSAR[row["first"]], DEMSAR[row["second"]]).pvalue
        assert row["wilcoxon_p"] == pytest.approx(expected)
        # Nemenyi's P crosses 0.05 where the difference of ranks crosses the critical difference.
        assert (row["nemenyi_p"] < 0.05) == (row["rank_difference"] > critical_difference(4, 14, 0.05))
    assert table["wilcoxon_p_holm"].tolist() == pytest.approx(holm(table["wilcoxon_p"].to_numpy()).tolist())
    ranked = DEMSAR.rank(axis=1)
    tied = [np.unique(row, return_counts=True)[1] for row in ranked.to_numpy()]
    ties = sum((counts**3 - counts).sum() for counts in tied)
    chi2 = (12 * 14 / 20 * ((ranked.mean() ** 2).sum() - 25)) / (1 - ties / (14 * (4**3 - 4)))
    assert friedman(DEMSAR) == pytest.approx(stats.chi2.sf(chi2, 3))


def test_two_models_and_two_tasks_are_enough_and_alike_models_are_nan():
    two = pd.DataFrame({"a": [0.9, 0.8], "b": [0.7, 0.8]})
    assert average_ranks(two).tolist() == [1.25, 1.75]
    assert np.isnan(friedman(two))
    assert pairs(two)["wilcoxon_p"].tolist() == [1.0]
    same = pd.DataFrame({"a": [0.9, 0.8], "b": [0.9, 0.8], "c": [0.9, 0.8]})
    assert np.isnan(friedman(same))
    assert pairs(same)["wilcoxon_p"].isna().all()
    assert pairs(same)["nemenyi_p"].tolist() == pytest.approx([1.0] * 3)
