"""Means, intervals, tests and ROC curves of a figure's cells (stage `statistics`).

Two kinds of uncertainty stand side by side. Over seeds (the paper's): mean, t interval and t-test, how
much training varies on these test images. Over patients: the bootstrap of the seed-averaged
predictions, what would change with other patients; all models of a task share the resamples, so
differences are paired. Only the test part is used, or, `external`, a set of other images predicted unchanged.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from urfm.cli import Settings, parse_settings, run
from urfm.errors import UrfmError
from urfm.evaluation.bootstrap import bootstrap_scores, percentile_interval, task_seed, two_sided_p
from urfm.evaluation.metrics import absent_classes
from urfm.evaluation.predictions import Cell, Subset, read_cell, read_subset
from urfm.evaluation.scores import METRICS, FloatArray, IntArray, score
from urfm.evaluation.significance import TTest, deviation, holm, t_interval, t_test
from urfm.files import sha256, write_csv, write_json, write_parquet
from urfm.progress import progress, say

KEY = ["model", "task", "share"]
SCORE_COLUMNS = [
    *KEY, "metric", "seeds", "mean", "sd", "ci_low", "ci_high",
    "ensemble", "boot_low", "boot_high", "images", "patients", "simulated",
]  # fmt: skip
DIFFERENCE_COLUMNS = [
    "model", "reference", "task", "share", "metric", "difference", "t_p", "t_p_holm",
    "boot_difference", "boot_low", "boot_high", "boot_p", "boot_p_holm", "simulated",
]  # fmt: skip
CURVE_COLUMNS = [*KEY, "fpr", "tpr", "auroc", "simulated"]
GRID = np.linspace(0, 1, 201)


class StatisticsSettings(Settings):
    """Settings of the stage."""

    figure: str = Field(description="name of the figure or table the statistics are for")
    reference: str = Field(description="model that every other one is compared with")
    subset: Literal["test", "external"] = Field(default="test", description="images that are scored")
    confidence: float = Field(gt=0, lt=1, description="level of every interval, e.g. 0.95")
    t_test: TTest = Field(description="test over seeds: welch or paired")
    bootstrap_resamples: int = Field(ge=1, description="resamples of patients")
    bootstrap_seed: int = Field(ge=0, description="seed of the resampling")


@dataclass(frozen=True)
class Statistics:
    """The three tables of the stage, sorted."""

    scores: pd.DataFrame
    differences: pd.DataFrame
    curves: pd.DataFrame


def compute(cells: Sequence[Cell], metrics: pd.DataFrame, settings: StatisticsSettings) -> Statistics:
    """Scores of every cell, differences to the reference model, and ROC curves.

    Parameters
    ----------
    cells
        Cells in any order; those of one task and share must hold the same test images.
    metrics
        Rows of the `metrics` stage for these cells (columns model, task, share, subset, seed, metric, value).
    """
    values = seed_values(cells, metrics, settings.subset)
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.task, cell.share, cell.model)):
        groups.setdefault((cell.task, cell.share), []).append(cell)
    scores: list[tuple[object, ...]] = []
    differences: list[tuple[object, ...]] = []
    curves: list[pd.DataFrame] = []
    for (task, share), group in progress(groups.items(), f"statistics of {settings.figure}", total=len(groups)):
        tests = same_images({cell.model: read_subset(cell, settings.subset) for cell in group}, f"{task}/{share}")
        first = next(iter(tests.values()))
        averaged = {model: test.ensemble for model, test in tests.items()}
        resampled = bootstrap_scores(
            first.labels,
            first.patients,
            averaged,
            settings.bootstrap_resamples,
            task_seed(settings.bootstrap_seed, task),
        )
        explain(group[0], first, task, share)
        one = np.ones((len(first.labels), 1))
        ensemble = {model: score(first.labels, p, one) for model, p in averaged.items()}
        for cell in group:
            for metric in METRICS:
                seeds = values[(cell.model, task, share, metric)].to_numpy()
                scores.append((
                    cell.model, task, share, metric, len(seeds), float(seeds.mean()), deviation(seeds),
                    *t_interval(seeds, settings.confidence),
                    float(ensemble[cell.model][metric][0]),
                    *percentile_interval(resampled[cell.model][metric], settings.confidence),
                    len(first.labels), len(set(first.patients)) if cell.patients_known else None, cell.simulated,
                ))  # fmt: skip
                if cell.model != settings.reference and settings.reference in tests:
                    reference = values[(settings.reference, task, share, metric)]
                    paired = resampled[settings.reference][metric] - resampled[cell.model][metric]
                    point = ensemble[settings.reference][metric][0] - ensemble[cell.model][metric][0]
                    simulated = any(c.simulated for c in group if c.model in (cell.model, settings.reference))
                    differences.append((
                        cell.model, settings.reference, task, share, metric,
                        float(reference.mean() - seeds.mean()),
                        over_seeds(reference, values[(cell.model, task, share, metric)], settings.t_test), np.nan,
                        float(point), *percentile_interval(paired, settings.confidence), two_sided_p(paired), np.nan,
                        simulated,
                    ))  # fmt: skip
            area = float(ensemble[cell.model]["auroc"][0])
            curve = pd.DataFrame({"fpr": GRID, "tpr": roc_curve(first.labels, averaged[cell.model])})
            curve = curve.assign(auroc=area, simulated=cell.simulated, model=cell.model, task=task, share=share)
            curves.append(curve[CURVE_COLUMNS])
    order = ["task", "share", "metric", "model"]
    return Statistics(
        scores=pd.DataFrame(scores, columns=SCORE_COLUMNS)
        .astype({"patients": "Int64"})  # missing where patients are not known
        .sort_values(order, ignore_index=True),
        differences=corrected(pd.DataFrame(differences, columns=DIFFERENCE_COLUMNS)).sort_values(
            order, ignore_index=True
        ),
        curves=pd.concat(curves, ignore_index=True),
    )


def seed_values(
    cells: Sequence[Cell], metrics: pd.DataFrame, subset: str = "test"
) -> Mapping[tuple[str, str, int, str], pd.Series]:
    """(model, task, share, metric) -> scores of a subset indexed by seed; UrfmError when a cell's seed has none."""
    test = metrics[metrics["subset"] == subset]
    values: dict[tuple[str, str, int, str], pd.Series] = {}
    for cell in cells:
        own = test[(test["model"] == cell.model) & (test["task"] == cell.task) & (test["share"] == cell.share)]
        for metric in METRICS:
            found = own[own["metric"] == metric].set_index("seed")["value"].sort_index()
            if found.index.tolist() != cell.seeds:
                raise UrfmError(
                    f"{cell.name}: --metrics hold {metric} of seeds {found.index.tolist()}, but the cell has "
                    f"{cell.seeds}; run the metrics stage of this cell again"
                )
            values[(cell.model, cell.task, cell.share, metric)] = found
    return values


def same_images(tests: Mapping[str, Subset], name: str) -> Mapping[str, Subset]:
    """`tests` unchanged; UrfmError when two models were not tested on the same images and labels."""
    model, first = next(iter(tests.items()))
    for other, test in tests.items():
        if test.image_ids != first.image_ids or not np.array_equal(test.labels, first.labels):
            raise UrfmError(
                f"{name}: {model} and {other} were tested on different images, so they cannot be compared; "
                "fine-tune both on the same split and classes"
            )
    return tests


def explain(cell: Cell, test: Subset, task: str, share: int) -> None:
    """Say why a number will be missing."""
    absent = absent_classes(cell.classes, test.labels)
    if absent:
        say(f"{task}/{share}: auroc is undefined: no test image of {', '.join(absent)}")
    if len(cell.seeds) == 1:
        say(f"{task}/{share}: one seed: no interval and no t-test over seeds")


def over_seeds(reference: pd.Series, model: pd.Series, kind: TTest) -> float:
    """P of the t-test over seeds; the paired one uses the seeds both models have."""
    if kind == "paired":
        common = reference.index.intersection(model.index)
        reference, model = reference.loc[common], model.loc[common]
    return t_test(reference.to_numpy(), model.to_numpy(), kind)


def corrected(differences: pd.DataFrame) -> pd.DataFrame:
    """Fill the Holm columns. A family is every comparison of one metric: all tasks, shares and models."""
    for raw in ("t_p", "boot_p"):
        families = differences.groupby("metric")[raw]
        differences[f"{raw}_holm"] = families.transform(lambda p: holm(p.to_numpy()))
    return differences


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


def write(folder: Path, statistics: Statistics, settings: StatisticsSettings) -> None:
    """Write the three tables as parquet and csv, and statistics.json."""
    tables = {"scores": statistics.scores, "differences": statistics.differences, "curves": statistics.curves}
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table)
        write_csv(folder / f"{name}.csv", table)
    write_json(
        folder / "statistics.json",
        {
            "models": sorted(set(statistics.scores["model"])),
            "tasks": sorted(set(statistics.scores["task"])),
            "simulated": bool(statistics.scores["simulated"].any()),
            "settings": settings.model_dump(),
            "sha256": {f"{name}.parquet": sha256(folder / f"{name}.parquet") for name in tables},
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Means, intervals, tests and ROC curves from predictions.")
    parser.add_argument("--settings", required=True, help="JSON of StatisticsSettings")
    parser.add_argument("--cells", type=Path, nargs="+", required=True, help="cell.json files")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="metrics.csv files of the same cells")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    settings = parse_settings(StatisticsSettings, options.settings)
    cells = [read_cell(path, settings.subset) for path in options.cells]
    metrics = pd.concat([pd.read_csv(path) for path in options.metrics], ignore_index=True)
    if settings.reference not in {cell.model for cell in cells}:
        say(f"{settings.figure}: no cell of the reference {settings.reference}: scores only, no differences")
    statistics = compute(cells, metrics, settings)
    write(options.output, statistics, settings)
    say(
        f"{settings.figure}: {len(cells)} cells, {len(statistics.differences)} comparisons with "
        f"{settings.reference}; written to {options.output}"
    )


if __name__ == "__main__":
    run(main)
