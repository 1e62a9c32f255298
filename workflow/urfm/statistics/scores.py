"""Every model's scores, and their differences to the reference, with intervals and tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from urfm.config.statistics import TTest
from urfm.metrics import METRICS
from urfm.statistics import delong
from urfm.statistics.bootstrap import expanded_interval
from urfm.statistics.equivalence import detectable, equivalence_p, standard_error
from urfm.statistics.groups import Group
from urfm.statistics.permutation import permutation_p
from urfm.statistics.significance import (
    corrected_error,
    corrected_interval,
    corrected_t_test,
    deviation,
    holm,
    t_interval,
    t_test,
)

SCORE_COLUMNS = [
    "model", "task", "share", "metric", "seeds", "mean", "sd", "ci_low", "ci_high", "nb_low", "nb_high",
    "boot_low", "boot_high", "delong_low", "delong_high", "images", "patients", "few_patients", "resplit", "simulated",
]  # fmt: skip
ENSEMBLE_COLUMNS = ["model", "task", "share", "metric", "score", "boot_low", "boot_high", "few_patients", "simulated"]
DIFFERENCE_COLUMNS = [
    "model", "reference", "task", "share", "metric", "difference", "t_p", "t_p_holm",
    "nb_low", "nb_high", "nb_p", "nb_p_holm", "boot_low", "boot_high", "perm_p", "perm_p_holm",
    "delong_p", "delong_p_holm", "detectable", "equivalence_p", "equivalence_p_holm", "few_patients", "simulated",
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
    if group.ratio:
        corrected = corrected_interval(seeds, group.ratio, confidence)
    if group.resampled and not group.few:
        over_patients = expanded_interval(group.resampled[model][metric], confidence, group.stratum)
    if metric == "auroc" and group.areas:
        variance = float(group.covariance.loc[model, model])  # type: ignore[arg-type]
        by_delong = delong.interval(group.areas[model], variance, confidence)
    return (
        model, group.task, group.share, metric, len(seeds), float(seeds.mean()), deviation(seeds),
        *t_interval(seeds, confidence), *corrected, *over_patients, *by_delong,
        group.images, group.patients, group.few, group.resplit, group.simulated[model],
    )  # fmt: skip


def ensemble_table(groups: Sequence[Group], confidence: float) -> pd.DataFrame:
    """Scores of the seed-averaged predictions, which are another quantity than the mean of the seeds' scores."""
    rows = [
        (
            model, group.task, group.share, metric, float(group.ensemble[model][metric][0]),
            *(
                (np.nan, np.nan)
                if group.few
                else expanded_interval(group.ensemble_resampled[model][metric], confidence, group.stratum)
            ),
            group.few, group.simulated[model],
        )
        for group in groups
        for model in group.ensemble
        for metric in METRICS
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=ENSEMBLE_COLUMNS).sort_values(ORDER, ignore_index=True)


def difference_table(
    groups: Sequence[Group], reference: str, test: TTest, confidence: float, margin: float
) -> pd.DataFrame:
    """Reference minus model: one row per model that is not the reference, task, share and metric.

    A family of Holm's correction is every comparison of one metric: all tasks, shares and models. `margin` is a
    difference, as a share, that does not matter.
    """
    rows = [
        difference_row(group, reference, model, metric, test, confidence, margin)
        for group in groups
        if reference in group.models
        for model in group.models
        if model != reference
        for metric in METRICS
    ]
    table = pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS).sort_values(ORDER, ignore_index=True)
    for raw in ("t_p", "nb_p", "perm_p", "delong_p", "equivalence_p"):
        table[f"{raw}_holm"] = table.groupby("metric")[raw].transform(lambda p: holm(p.to_numpy()))
    return table


def difference_row(
    group: Group, reference: str, model: str, metric: str, test: TTest, confidence: float, margin: float
) -> tuple[object, ...]:
    first, second = (group.seeds[name, metric].to_numpy() for name in (reference, model))
    corrected = over_patients = (np.nan, np.nan)
    nb_p = perm_p = delong_p = np.nan
    if group.ratio:
        corrected = corrected_interval(first - second, group.ratio, confidence)
        nb_p = corrected_t_test(first - second, group.ratio)
    if group.resampled and not group.few:
        resampled = group.resampled[reference][metric] - group.resampled[model][metric]
        over_patients = expanded_interval(resampled, confidence, group.stratum)
    if group.exchanged and not group.no_p:
        perm_p = permutation_p(group.exchanged[model][metric])
    if metric == "auroc" and group.areas:
        pair = group.covariance.loc[[reference, model], [reference, model]].to_numpy()
        delong_p = delong.p_value(
            group.areas[reference] - group.areas[model], float(np.array([1, -1]) @ pair @ np.array([1, -1]))
        )
    return (
        model, reference, group.task, group.share, metric, float(first.mean() - second.mean()),
        t_test(first, second, test), np.nan,
        *corrected, nb_p, np.nan, *over_patients, perm_p, np.nan, delong_p, np.nan,
        *power_and_equivalence(group, reference, model, metric, 1 - confidence, margin), np.nan,
        group.few or group.no_p, group.simulated[model] or group.simulated[reference],
    )  # fmt: skip


def power_and_equivalence(
    group: Group, reference: str, model: str, metric: str, level: float, margin: float
) -> tuple[float, float]:
    """The smallest difference that this group could have shown, and P of equivalence; NaN for too few patients."""
    first, second = (group.seeds[name, metric].to_numpy() for name in (reference, model))
    difference = float(first.mean() - second.mean())
    if group.ratio:
        error, freedom = corrected_error(first - second, group.ratio), len(first) - 1
        return detectable(error, level, freedom=freedom), equivalence_p(difference, error, margin, freedom=freedom)
    if not group.resampled or group.few or group.no_p:
        return np.nan, np.nan
    error = standard_error(group.resampled[reference][metric] - group.resampled[model][metric], group.stratum)
    unit = 0.0 if METRICS[metric].of_ranks else group.unit
    return (
        detectable(error, level, unit * group.independent / group.images),
        equivalence_p(difference, error, margin, unit, group.stratum - 1),
    )
