"""Every model's scores, and their differences to the reference, with intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from urfm.config.statistics import TTest
from urfm.metrics import METRICS
from urfm.statistics import delong
from urfm.statistics.bootstrap import percentile_interval, two_sided_p
from urfm.statistics.groups import Group
from urfm.statistics.significance import (
    corrected_interval,
    corrected_t_test,
    deviation,
    holm,
    t_interval,
    t_test,
)

SCORE_COLUMNS = [
    "model", "task", "share", "metric", "seeds", "mean", "sd", "ci_low", "ci_high", "nb_low", "nb_high",
    "ensemble", "boot_low", "boot_high", "delong_low", "delong_high", "images", "patients", "simulated",
]  # fmt: skip
DIFFERENCE_COLUMNS = [
    "model", "reference", "task", "share", "metric", "difference", "t_p", "t_p_holm",
    "nb_low", "nb_high", "nb_p", "nb_p_holm", "boot_difference", "boot_low", "boot_high", "boot_p", "boot_p_holm",
    "delong_p", "delong_p_holm", "simulated",
]  # fmt: skip
ORDER = ["task", "share", "metric", "model"]


def score_table(groups: Sequence[Group], confidence: float) -> pd.DataFrame:
    """One row per model, task, share and metric."""
    rows = [
        score_row(group, model, metric, confidence) for group in groups for model in group.models for metric in METRICS
    ]
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    return table.astype({"patients": "Int64"}).sort_values(ORDER, ignore_index=True)  # missing where not known


def score_row(group: Group, model: str, metric: str, confidence: float) -> tuple[object, ...]:
    seeds = group.seeds[model, metric].to_numpy()
    corrected = over_patients = by_delong = (np.nan, np.nan)
    estimate = np.nan
    if group.ratio:
        corrected = corrected_interval(seeds, group.ratio, confidence)
    if group.ensemble:
        estimate = float(group.ensemble[model][metric][0])
        over_patients = percentile_interval(group.resampled[model][metric], confidence)
    if metric == "auroc" and group.areas:
        variance = float(group.covariance.loc[model, model])  # type: ignore[arg-type]
        by_delong = delong.interval(group.areas[model], variance, confidence)
    return (
        model, group.task, group.share, metric, len(seeds), float(seeds.mean()), deviation(seeds),
        *t_interval(seeds, confidence), *corrected, estimate, *over_patients, *by_delong,
        group.images, group.patients, group.simulated[model],
    )  # fmt: skip


def difference_table(groups: Sequence[Group], reference: str, test: TTest, confidence: float) -> pd.DataFrame:
    """Reference minus model: one row per model that is not the reference, task, share and metric.

    A family of Holm's correction is every comparison of one metric: all tasks, shares and models.
    """
    rows = [
        difference_row(group, reference, model, metric, test, confidence)
        for group in groups
        if reference in group.models
        for model in group.models
        if model != reference
        for metric in METRICS
    ]
    table = pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS).sort_values(ORDER, ignore_index=True)
    for raw in ("t_p", "nb_p", "boot_p", "delong_p"):
        table[f"{raw}_holm"] = table.groupby("metric")[raw].transform(lambda p: holm(p.to_numpy()))
    return table


def difference_row(
    group: Group, reference: str, model: str, metric: str, test: TTest, confidence: float
) -> tuple[object, ...]:
    first, second = group.seeds[reference, metric], group.seeds[model, metric]
    both = first.index.intersection(second.index)
    gaps = (first.loc[both] - second.loc[both]).to_numpy()  # one per seed that both have
    if test == "paired":
        t_p = t_test(first.loc[both].to_numpy(), second.loc[both].to_numpy(), "paired")
    else:
        t_p = t_test(first.to_numpy(), second.to_numpy(), "welch")
    corrected = over_patients = (np.nan, np.nan)
    nb_p = boot_difference = boot_p = delong_p = np.nan
    if group.ratio:
        corrected = corrected_interval(gaps, group.ratio, confidence)
        nb_p = corrected_t_test(gaps, group.ratio)
    if group.ensemble:
        resampled = group.resampled[reference][metric] - group.resampled[model][metric]
        over_patients = percentile_interval(resampled, confidence)
        boot_p = two_sided_p(resampled)
        boot_difference = float((group.ensemble[reference][metric] - group.ensemble[model][metric])[0])
    if metric == "auroc" and group.areas:
        pair = group.covariance.loc[[reference, model], [reference, model]].to_numpy()
        delong_p = delong.p_value(
            group.areas[reference] - group.areas[model], float(np.array([1, -1]) @ pair @ np.array([1, -1]))
        )
    return (
        model, reference, group.task, group.share, metric, float(first.mean() - second.mean()), t_p, np.nan,
        *corrected, nb_p, np.nan, boot_difference, *over_patients, boot_p, np.nan, delong_p, np.nan,
        group.simulated[model] or group.simulated[reference],
    )  # fmt: skip
