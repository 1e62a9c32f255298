"""Models compared over tasks by their ranks (Demsar 2006): each task is one observation, not ten separate claims."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from urfm.metrics import METRICS
from urfm.statistics.groups import Group
from urfm.statistics.significance import holm

RANK_COLUMNS = [
    "share", "metric", "model", "tasks", "average_rank", "critical_difference", "friedman_p", "simulated",
]  # fmt: skip
PAIR_COLUMNS = [
    "share", "metric", "first", "second", "tasks", "rank_difference", "nemenyi_p", "wilcoxon_p", "wilcoxon_p_holm",
    "simulated",
]  # fmt: skip
INFINITE = np.inf  # degrees of freedom of the studentised range in Nemenyi's test


def rank_tables(groups: Sequence[Group], level: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ranks of the models over the tasks that all have, and every pair of them, per share and metric.

    Critical differences are at `level`, such as 0.05.
    """
    rank_rows, pair_rows = [], []
    for share in sorted({group.share for group in groups}):
        own = [group for group in groups if group.share == share]
        simulated = any(any(group.simulated.values()) for group in own)
        for metric in METRICS:
            means = {group.task: {m: group.seeds[m, metric].mean() for m in group.models} for group in own}
            scores = pd.DataFrame.from_dict(means, orient="index").dropna()
            tasks, models = scores.shape
            if tasks < 2 or models < 2:
                continue
            about: dict[str, Any] = {"share": share, "metric": metric, "tasks": tasks, "simulated": simulated}
            rank_rows.append(
                average_ranks(scores)
                .sort_index()
                .rename_axis("model")
                .reset_index(name="average_rank")
                .assign(
                    critical_difference=critical_difference(models, tasks, level),
                    friedman_p=friedman(scores),
                    **about,
                )
            )
            pair_rows.append(pairs(scores).assign(**about))
    return _stacked(rank_rows, RANK_COLUMNS), _stacked(pair_rows, PAIR_COLUMNS)


def _stacked(tables: Sequence[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def average_ranks(scores: pd.DataFrame) -> pd.Series:
    """Average rank of each model, 1 for the best; `scores` is (tasks, models), higher is better, ties share."""
    return scores.rank(axis=1, ascending=False).mean()


def friedman(scores: pd.DataFrame) -> float:
    """P of "all models are alike"; NaN for fewer than three models or two tasks, or if all scores are tied."""
    if scores.shape[1] < 3 or scores.shape[0] < 2 or scores.eq(scores.iloc[:, 0], axis=0).all(axis=None):
        return float("nan")
    return float(stats.friedmanchisquare(*scores.to_numpy().T).pvalue)


def rank_error(models: int, tasks: int) -> float:
    """Standard error of a difference of average ranks, sqrt(k (k + 1) / (6 N))."""
    return float(np.sqrt(models * (models + 1) / (6 * tasks)))


def critical_difference(models: int, tasks: int, level: float) -> float:
    """Nemenyi's: average ranks that differ by this or more differ at `level`, for all pairs at once."""
    q = stats.studentized_range.ppf(1 - level, models, INFINITE)
    return float(q / np.sqrt(2) * rank_error(models, tasks))


def pairs(scores: pd.DataFrame) -> pd.DataFrame:
    """Every pair: first, second (the worse rank), rank_difference, nemenyi_p, wilcoxon_p and its Holm correction.

    Wilcoxon's signed-rank test is exact for few tasks: five tasks cannot give P < 0.05.
    """
    ranks = average_ranks(scores)
    order = list(ranks.sort_values(kind="stable").index)
    error = rank_error(scores.shape[1], scores.shape[0])
    rows = []
    for first, second in combinations(order, 2):
        gap = float(ranks[second] - ranks[first])
        nemenyi = float(stats.studentized_range.sf(gap / error * np.sqrt(2), len(order), INFINITE))
        differences = scores[first] - scores[second]
        wilcoxon = float(stats.wilcoxon(differences).pvalue) if differences.any() else float("nan")
        rows.append((first, second, gap, nemenyi, wilcoxon))
    table = pd.DataFrame(rows, columns=["first", "second", "rank_difference", "nemenyi_p", "wilcoxon_p"])
    return table.assign(wilcoxon_p_holm=holm(table["wilcoxon_p"].to_numpy()))
