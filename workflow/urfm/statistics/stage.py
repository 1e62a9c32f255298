"""Means, intervals, tests and ROC curves of a comparison's cells (stage `statistics`; tables: docs/statistics.md).

Two kinds of uncertainty stand side by side. Over seeds (the paper's): mean, t interval and t-test, how much training
varies on these test images. Over patients: the bootstrap of the seed-averaged predictions and DeLong's method, what
would change with other patients; all models of a task share the resamples, so differences are paired. With a split a
seed, predictions cannot be averaged over seeds, and Nadeau and Bengio's corrected t takes the place of both. Models are
compared within a task and share, and by ranks over tasks. Only the test part is
used, or, `external`, a set of other images predicted unchanged.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import sha256, write_csv, write_json, write_parquet
from urfm.core.progress import progress, say
from urfm.metrics import METRICS, FloatArray, IntArray, score
from urfm.statistics import calibration, delong, ranks
from urfm.statistics.bootstrap import bootstrap_scores, percentile_interval, task_seed, two_sided_p
from urfm.statistics.predictions import Cell, Subset, pooled, read_cell, read_seeds, read_subset
from urfm.statistics.seed_scores import SEED_COLUMNS, cell_metrics
from urfm.statistics.significance import (
    TTest,
    corrected_interval,
    corrected_t_test,
    deviation,
    holm,
    t_interval,
    t_test,
)

KEY = ["model", "task", "share"]
SCORE_COLUMNS = [
    *KEY, "metric", "seeds", "mean", "sd", "ci_low", "ci_high", "nb_low", "nb_high",
    "ensemble", "boot_low", "boot_high", "delong_low", "delong_high", "images", "patients", "simulated",
]  # fmt: skip
DIFFERENCE_COLUMNS = [
    "model", "reference", "task", "share", "metric", "difference", "t_p", "t_p_holm",
    "nb_low", "nb_high", "nb_p", "nb_p_holm", "boot_difference", "boot_low", "boot_high", "boot_p", "boot_p_holm",
    "delong_p", "delong_p_holm", "simulated",
]  # fmt: skip
CURVE_COLUMNS = [*KEY, "fpr", "tpr", "auroc", "simulated"]
CLASS_COLUMNS = [
    *KEY, "class", "images", "sensitivity", "specificity", "precision", "f1", "auroc", "sensitivity_at_specificity",
    "simulated",
]  # fmt: skip
CALIBRATION_COLUMNS = [*KEY, "predictions", "ece", "brier", "ece_ensemble", "brier_ensemble", "simulated"]
RELIABILITY_COLUMNS = [*KEY, "bin", "predictions", "confidence", "accuracy", "simulated"]
CONFUSION_COLUMNS = [*KEY, "true", "predicted", "images", "simulated"]
RANK_COLUMNS = [
    "share", "metric", "model", "tasks", "average_rank", "critical_difference", "friedman_p", "simulated",
]  # fmt: skip
PAIR_COLUMNS = [
    "share", "metric", "first", "second", "tasks", "rank_difference", "nemenyi_p", "wilcoxon_p", "wilcoxon_p_holm",
    "simulated",
]  # fmt: skip
ORDER = ["task", "share", "metric", "model"]
GRID = np.linspace(0, 1, 201)
AVERAGE = "average"  # the task's name in rows that average over tasks


class StatisticsSettings(Settings):
    """Settings of the stage."""

    comparison: str = Field(description="its name under comparisons")
    reference: str = Field(description="model that every other one is compared with")
    subset: Literal["test", "external"] = Field(default="test", description="images that are scored")
    confidence: float = Field(gt=0, lt=1, description="level of every interval, e.g. 0.95")
    t_test: TTest = Field(description="test over seeds: welch or paired")
    bootstrap_resamples: int = Field(ge=1, description="resamples of patients")
    bootstrap_seed: int = Field(ge=0, description="seed of the resampling")
    specificity: float = Field(default=0.9, gt=0, lt=1, description="at which sensitivity is read off the ROC curve")
    calibration_bins: int = Field(default=10, ge=2, description="equal-width bins of probability")


@dataclass(frozen=True)
class Group:
    """What is compared with one another: the models' scores on one task with one share, or their average over tasks.

    `seeds`: (model, metric) -> test scores indexed by seed. `ratio`: test images a training image, for re-splits; 0
    where all seeds share a split. Of the seed-averaged predictions (none of all this for re-splits): `ensemble` and
    `resampled`, model -> metric -> (1,) and (resamples,); `areas` and `covariance`, DeLong's for two classes.
    `patients`: None where they are not known.
    """

    task: str
    share: int
    models: list[str]
    seeds: Mapping[tuple[str, str], pd.Series]
    simulated: Mapping[str, bool]
    images: int
    patients: int | None
    ratio: float = 0.0
    ensemble: Mapping[str, Mapping[str, FloatArray]] = field(default_factory=dict)
    resampled: Mapping[str, Mapping[str, FloatArray]] = field(default_factory=dict)
    areas: Mapping[str, float] = field(default_factory=dict)
    covariance: pd.DataFrame = field(default_factory=pd.DataFrame)


def compute(cells: Sequence[Cell], settings: StatisticsSettings) -> dict[str, pd.DataFrame]:
    """Every table of the stage by name, sorted (docs/statistics.md).

    `cells` may come in any order; those of one task and share must hold the same test images.
    """
    ordered = sorted(cells, key=lambda cell: (cell.task, cell.share, cell.model))
    seeds = pd.concat([cell_metrics(cell) for cell in ordered], ignore_index=True)
    together: dict[tuple[str, int], list[Cell]] = {}
    for cell in ordered:
        together.setdefault((cell.task, cell.share), []).append(cell)
    groups = [
        compared(group, seeds, settings)
        for group in progress(together.values(), f"statistics of {settings.comparison}", total=len(together))
    ]
    averages = averaged_over_tasks(groups)
    details = [cell_details(cell, settings) for cell in ordered]
    rank_table, pair_table = over_tasks(groups, settings)
    return {
        "scores": score_table(groups, settings),
        "differences": difference_table(groups, settings),
        "average_scores": score_table(averages, settings),
        "average_differences": difference_table(averages, settings),
        "curves": pd.concat([detail["curves"] for detail in details], ignore_index=True),
        "seeds": seeds[SEED_COLUMNS],
        "classes": pd.concat([detail["classes"] for detail in details], ignore_index=True),
        "calibration": pd.concat([detail["calibration"] for detail in details], ignore_index=True),
        "reliability": pd.concat([detail["reliability"] for detail in details], ignore_index=True),
        "confusion": pd.concat([detail["confusion"] for detail in details], ignore_index=True),
        "ranks": rank_table,
        "rank_pairs": pair_table,
    }


def compared(cells: Sequence[Cell], seeds: pd.DataFrame, settings: StatisticsSettings) -> Group:
    """The group of the cells of one task and share."""
    task, share = cells[0].task, cells[0].share
    explain(cells[0])
    test = seeds[(seeds["subset"] == settings.subset) & (seeds["task"] == task) & (seeds["share"] == share)]
    values = {
        (str(model), str(metric)): rows.set_index("seed")["value"].sort_index()
        for (model, metric), rows in test.groupby(["model", "metric"])
    }
    first = same_images(cells, settings.subset)
    known = all(cell.patients_known for cell in cells)
    group = Group(
        task=task,
        share=share,
        models=[cell.model for cell in cells],
        seeds=values,
        simulated={cell.model: cell.simulated for cell in cells},
        images=len(set(first.image_ids)),
        patients=len(set(first.patients)) if known else None,
    )
    if cells[0].resplit:
        return replace(group, ratio=len(first.labels) / len(cells[0].seeds) / cells[0].training_images)
    averaged = {cell.model: read_subset(cell, settings.subset).ensemble for cell in cells}
    seed = task_seed(settings.bootstrap_seed, task)
    one = np.ones((len(first.labels), 1))
    resampled = bootstrap_scores(first.labels, first.patients, averaged, settings.bootstrap_resamples, seed)
    group = replace(
        group, resampled=resampled, ensemble={model: score(first.labels, p, one) for model, p in averaged.items()}
    )
    if len(cells[0].classes) > 2:
        return group
    scores = np.stack([p[:, 1] for p in averaged.values()])
    area, covariance = delong.areas(first.labels == 1, first.patients, scores)
    return replace(
        group,
        areas=dict(zip(group.models, area.tolist(), strict=True)),
        covariance=pd.DataFrame(covariance, group.models, group.models),
    )


def same_images(cells: Sequence[Cell], subset: str) -> Subset:
    """The images of a subset of a task; UrfmError when two models were not tested on the same images and labels."""
    first = pooled(cells[0], subset)
    for cell in cells[1:]:
        other = pooled(cell, subset)
        if other.image_ids != first.image_ids or not np.array_equal(other.labels, first.labels):
            raise UrfmError(
                f"{cell.task}/{cell.share}: {cells[0].model} and {cell.model} were tested on different images, so they "
                "cannot be compared; fine-tune both on the same split and classes"
            )
    return first


def explain(cell: Cell) -> None:
    """Say why a number will be missing."""
    if len(cell.seeds) == 1:
        say(f"{cell.task}/{cell.share}: one seed: no interval and no t-test over seeds")
    if cell.resplit:
        say(f"{cell.task}/{cell.share}: a split a seed: no seed-averaged predictions, so no bootstrap and no DeLong")
    if cell.resplit and np.isnan(cell.training_images):
        say(f"{cell.task}/{cell.share}: cell.json does not say how many images were trained on: no corrected t")


def averaged_over_tasks(groups: Sequence[Group]) -> list[Group]:
    """The average over the tasks that every model has, one group a share; none for fewer than two tasks.

    Tasks are resampled independently, so the average of their resamples is a resample of the average.
    """
    averages = []
    for share in sorted({group.share for group in groups}):
        models = sorted({model for group in groups if group.share == share for model in group.models})
        parts = [group for group in groups if group.share == share and group.models == models]
        if len(parts) < 2:
            continue
        pairs = [(model, metric) for model in models for metric in METRICS]
        seeds = {
            pair: pd.concat([part.seeds[pair] for part in parts], axis=1, join="inner").mean(axis=1, skipna=False)
            for pair in pairs
        }
        patients = [part.patients for part in parts]
        averages.append(
            Group(
                task=AVERAGE,
                share=share,
                models=models,
                seeds=seeds,
                simulated={model: any(part.simulated[model] for part in parts) for model in models},
                images=sum(part.images for part in parts),
                patients=None if None in patients else sum(count for count in patients if count),
                ratio=float(np.mean([part.ratio for part in parts])),
                ensemble=_average([part.ensemble for part in parts]),
                resampled=_average([part.resampled for part in parts]),
            )
        )
    return averages


def _average(parts: Sequence[Mapping[str, Mapping[str, FloatArray]]]) -> dict[str, dict[str, FloatArray]]:
    return {
        model: {metric: np.mean([part[model][metric] for part in parts], axis=0) for metric in METRICS}
        for model in parts[0]
    }


def score_table(groups: Sequence[Group], settings: StatisticsSettings) -> pd.DataFrame:
    """A row a model, task, share and metric."""
    rows = [
        score_row(group, model, metric, settings) for group in groups for model in group.models for metric in METRICS
    ]
    table = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    return table.astype({"patients": "Int64"}).sort_values(ORDER, ignore_index=True)  # missing where not known


def score_row(group: Group, model: str, metric: str, settings: StatisticsSettings) -> tuple[object, ...]:
    seeds = group.seeds[model, metric].to_numpy()
    corrected = over_patients = by_delong = (np.nan, np.nan)
    estimate = np.nan
    if group.ratio:
        corrected = corrected_interval(seeds, group.ratio, settings.confidence)
    if group.ensemble:
        estimate = float(group.ensemble[model][metric][0])
        over_patients = percentile_interval(group.resampled[model][metric], settings.confidence)
    if metric == "auroc" and group.areas:
        variance = float(group.covariance.loc[model, model])  # type: ignore[arg-type]
        by_delong = delong.interval(group.areas[model], variance, settings.confidence)
    return (
        model, group.task, group.share, metric, len(seeds), float(seeds.mean()), deviation(seeds),
        *t_interval(seeds, settings.confidence), *corrected, estimate, *over_patients, *by_delong,
        group.images, group.patients, group.simulated[model],
    )  # fmt: skip


def difference_table(groups: Sequence[Group], settings: StatisticsSettings) -> pd.DataFrame:
    """A row a model that is not the reference, task, share and metric: reference minus model.

    A family of Holm's correction is every comparison of one metric: all tasks, shares and models.
    """
    rows = [
        difference_row(group, model, metric, settings)
        for group in groups
        if settings.reference in group.models
        for model in group.models
        if model != settings.reference
        for metric in METRICS
    ]
    table = pd.DataFrame(rows, columns=DIFFERENCE_COLUMNS).sort_values(ORDER, ignore_index=True)
    for raw in ("t_p", "nb_p", "boot_p", "delong_p"):
        table[f"{raw}_holm"] = table.groupby("metric")[raw].transform(lambda p: holm(p.to_numpy()))
    return table


def difference_row(group: Group, model: str, metric: str, settings: StatisticsSettings) -> tuple[object, ...]:
    first, second = group.seeds[settings.reference, metric], group.seeds[model, metric]
    both = first.index.intersection(second.index)
    gaps = (first.loc[both] - second.loc[both]).to_numpy()  # one a seed that both have
    if settings.t_test == "paired":
        t_p = t_test(first.loc[both].to_numpy(), second.loc[both].to_numpy(), "paired")
    else:
        t_p = t_test(first.to_numpy(), second.to_numpy(), "welch")
    corrected = over_patients = (np.nan, np.nan)
    nb_p = boot_difference = boot_p = delong_p = np.nan
    if group.ratio:
        corrected = corrected_interval(gaps, group.ratio, settings.confidence)
        nb_p = corrected_t_test(gaps, group.ratio)
    if group.ensemble:
        reference, other = (group.resampled[name][metric] for name in (settings.reference, model))
        over_patients = percentile_interval(reference - other, settings.confidence)
        boot_p = two_sided_p(reference - other)
        boot_difference = float((group.ensemble[settings.reference][metric] - group.ensemble[model][metric])[0])
    if metric == "auroc" and group.areas:
        pair = group.covariance.loc[[settings.reference, model], [settings.reference, model]].to_numpy()
        delong_p = delong.p_value(
            group.areas[settings.reference] - group.areas[model], float(np.array([1, -1]) @ pair @ np.array([1, -1]))
        )
    return (
        model, settings.reference, group.task, group.share, metric, float(first.mean() - second.mean()), t_p, np.nan,
        *corrected, nb_p, np.nan, boot_difference, *over_patients, boot_p, np.nan, delong_p, np.nan,
        group.simulated[model] or group.simulated[settings.reference],
    )  # fmt: skip


def over_tasks(groups: Sequence[Group], settings: StatisticsSettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ranks of the models over the tasks that all have, and every pair of them; a part a share and metric."""
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
                ranks.average_ranks(scores)
                .sort_index()
                .rename_axis("model")
                .reset_index(name="average_rank")
                .assign(
                    critical_difference=ranks.critical_difference(models, tasks, 1 - settings.confidence),
                    friedman_p=ranks.friedman(scores),
                    **about,
                )
            )
            pair_rows.append(ranks.pairs(scores).assign(**about))
    return _stacked(rank_rows, RANK_COLUMNS), _stacked(pair_rows, PAIR_COLUMNS)


def _stacked(tables: Sequence[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def cell_details(cell: Cell, settings: StatisticsSettings) -> dict[str, pd.DataFrame]:
    """A cell's ROC curve, class by class scores, confusion matrix, calibration and reliability curve.

    Of the seed-averaged predictions; with a split a seed, of all seeds' test images together, and the curve is the mean
    of the seeds'. Calibration is that of single trained models, so it takes every seed's predictions.
    """
    seeds = list(read_seeds(cell, settings.subset).values())
    one_each = pooled(cell, settings.subset)
    labels, probabilities = one_each.labels, one_each.probabilities[0]
    curves = [(part.labels, part.probabilities[0]) for part in (seeds if cell.resplit else [one_each])]
    every = np.concatenate([part.labels for part in seeds]), np.concatenate([p.probabilities[0] for p in seeds])
    area = [float(score(truth, p, np.ones((len(truth), 1)))["auroc"][0]) for truth, p in curves]
    curve = calibration.reliability(*every, settings.calibration_bins)
    ensemble_curve = calibration.reliability(labels, probabilities, settings.calibration_bins)
    errors = {
        "predictions": len(every[0]),
        "ece": calibration.calibration_error(curve),
        "brier": calibration.brier(*every),
        "ece_ensemble": np.nan if cell.resplit else calibration.calibration_error(ensemble_curve),
        "brier_ensemble": np.nan if cell.resplit else calibration.brier(labels, probabilities),
    }
    counts = calibration.confusion(labels, probabilities)
    confusion = pd.DataFrame(
        [(true, chosen, counts[i, j]) for i, true in enumerate(cell.classes) for j, chosen in enumerate(cell.classes)],
        columns=["true", "predicted", "images"],
    )
    tables = {
        "curves": (
            pd.DataFrame({"fpr": GRID, "tpr": np.mean([roc_curve(*part) for part in curves], axis=0)}).assign(
                auroc=np.mean(area)
            ),
            CURVE_COLUMNS,
        ),
        "classes": (
            calibration.class_table(cell.classes, labels, probabilities, settings.specificity),
            CLASS_COLUMNS,
        ),
        "calibration": (pd.DataFrame([errors]), CALIBRATION_COLUMNS),
        "reliability": (curve, RELIABILITY_COLUMNS),
        "confusion": (confusion, CONFUSION_COLUMNS),
    }
    about: dict[str, Any] = {"model": cell.model, "task": cell.task, "share": cell.share, "simulated": cell.simulated}
    return {name: table.assign(**about)[columns] for name, (table, columns) in tables.items()}


def roc_curve(labels: IntArray, probabilities: FloatArray) -> FloatArray:
    """True positive rate on GRID: second class of two, else the mean over classes of one-vs-rest curves."""
    classes = probabilities.shape[1]
    scored = [1] if classes == 2 else range(classes)
    mean: FloatArray = np.mean([binary_curve(labels == c, probabilities[:, c]) for c in scored], axis=0)
    return mean


def binary_curve(positive: np.ndarray, scores: FloatArray) -> FloatArray:
    """True positive rate on GRID, linear between thresholds, the upper end at a jump; NaN without both classes."""
    if positive.all() or not positive.any():
        return np.full(len(GRID), np.nan)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) < 0, True])
    hits = np.cumsum(positive[order])[ends]
    fpr = np.r_[0, (ends + 1 - hits) / (~positive).sum()]
    return np.interp(GRID, fpr, np.r_[0, hits / positive.sum()])


def write(
    folder: Path, tables: Mapping[str, pd.DataFrame], settings: StatisticsSettings, stand_ins: Sequence[str] = ()
) -> None:
    """Write every table as parquet and csv, and statistics.json; `stand_ins` names models that are no results."""
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table)
        write_csv(folder / f"{name}.csv", table)
    scores = tables["scores"]
    write_json(
        folder / "statistics.json",
        {
            "models": sorted(set(scores["model"])),
            "tasks": sorted(set(scores["task"])),
            "shares": sorted({int(share) for share in scores["share"]}),
            "simulated": bool(scores["simulated"].any()),
            "stand_ins": list(stand_ins),
            "settings": settings.model_dump(),
            "sha256": {f"{name}.parquet": sha256(folder / f"{name}.parquet") for name in tables},
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Means, intervals, tests and ROC curves from predictions.")
    parser.add_argument("--settings", required=True, help="JSON of StatisticsSettings")
    parser.add_argument("--cells", type=Path, nargs="+", required=True, help="cell.json files")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    settings = parse_settings(StatisticsSettings, options.settings)
    cells = [read_cell(path, settings.subset) for path in options.cells]
    if settings.reference not in {cell.model for cell in cells}:
        say(f"{settings.comparison}: no cell of the reference {settings.reference}: scores only, no differences")
    tables = compute(cells, settings)
    write(options.output, tables, settings, sorted({cell.model for cell in cells if cell.stand_in}))
    say(
        f"{settings.comparison}: {len(cells)} cells, {len(tables['differences'])} comparisons with "
        f"{settings.reference}; written to {options.output}"
    )


if __name__ == "__main__":
    run(main)
