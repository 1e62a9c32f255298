"""What is compared with one another: the models' scores on one task with one share, or averaged over the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.metrics import METRICS, FloatArray, score
from urfm.statistics import delong
from urfm.statistics.bootstrap import bootstrap_scores, task_seed
from urfm.statistics.predictions import Cell, Subset, pooled, read_subset
from urfm.statistics.stored import AVERAGE


@dataclass(frozen=True)
class Group:
    """The models' scores on one task with one share of its training part, or their average over tasks.

    Attributes
    ----------
    seeds
        (model, metric) to test scores indexed by seed.
    simulated
        Whether a model's cell saw simulated images.
    images, patients
        Of the test part; None where the patients are not known.
    ratio
        Test images per training image, for re-splits; 0 where all seeds share a split.
    ensemble, resampled
        Of the seed-averaged predictions, model to metric to (1,) and (resamples,); empty for re-splits.
    areas, covariance
        Of the same by DeLong's method, for two classes.
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


def compared(
    cells: Sequence[Cell], seeds: pd.DataFrame, subset: str, bootstrap_resamples: int, bootstrap_seed: int
) -> Group:
    """The group of the cells of one task and share.

    Parameters
    ----------
    cells
        Those of each model; they must hold the same images.
    seeds
        Scores of every seed, columns as of `seed_scores`, of these and other cells.
    subset
        Part that is scored: "test" or "external".
    """
    task, share = cells[0].task, cells[0].share
    explain(cells[0])
    test = seeds[(seeds["subset"] == subset) & (seeds["task"] == task) & (seeds["share"] == share)]
    values = {
        (str(model), str(metric)): rows.set_index("seed")["value"].sort_index()
        for (model, metric), rows in test.groupby(["model", "metric"])
    }
    first = same_images(cells, subset)
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
    averaged = {cell.model: read_subset(cell, subset).ensemble for cell in cells}
    seed = task_seed(bootstrap_seed, task)
    one = np.ones((len(first.labels), 1))
    resampled = bootstrap_scores(first.labels, first.patients, averaged, bootstrap_resamples, seed)
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


def only(group: Group, models: list[str]) -> Group:
    """The group of some of its models."""
    return replace(
        group,
        models=models,
        ensemble={model: group.ensemble[model] for model in models if group.ensemble},
        resampled={model: group.resampled[model] for model in models if group.resampled},
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
        say(f"{cell.task}/{cell.share}: a split per seed: no seed-averaged predictions, so no bootstrap and no DeLong")
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
