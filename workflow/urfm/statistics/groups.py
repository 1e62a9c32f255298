"""What is compared with one another: the models' scores on one task with one share, or averaged over the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.metrics import METRICS, FloatArray, score
from urfm.statistics import bootstrap, delong, permutation
from urfm.statistics.predictions import Cell, Subset, pooled, read_subset
from urfm.statistics.stored import AVERAGE

Scores = Mapping[str, Mapping[str, FloatArray]]  # model to metric to values
FEW_PATIENTS = (
    f"no P below {permutation.FEW} patients, no interval over patients below {bootstrap.FEW} of a class "
    "(docs/statistics.md)"
)


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
    independent
        Test patients, images where patients are not known.
    resplit, ratio
        Whether every seed has a split of its own, and test images per training image then.
    few
        Whether a class has too few patients for intervals.
    stratum
        Patients of the smallest stratum that is resampled; of an average, the sum of the tasks'.
    unit
        What one patient counts in a score of answers: 1 / patients; of an average, smaller by the number of tasks.
    resampled
        Model to metric to (resamples,) means over seeds; empty for re-splits.
    ensemble, ensemble_resampled
        Of the seed-averaged predictions, (1,) and (resamples,).
    exchanged
        Model to metric to (draws,) of the reference minus the model (`urfm.statistics.permutation`).
    areas, covariance
        By DeLong's method, for two classes.
    """

    task: str
    share: int
    models: list[str]
    seeds: Mapping[tuple[str, str], pd.Series]
    simulated: Mapping[str, bool]
    images: int
    patients: int | None
    independent: int
    resplit: bool
    ratio: float = 0.0
    few: bool = False
    stratum: int = 0
    unit: float = 0.0
    resampled: Scores = field(default_factory=dict)
    ensemble: Scores = field(default_factory=dict)
    ensemble_resampled: Scores = field(default_factory=dict)
    exchanged: Scores = field(default_factory=dict)
    areas: Mapping[str, float] = field(default_factory=dict)
    covariance: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def no_p(self) -> bool:
        """Whether there are too few patients for P."""
        return self.independent < permutation.FEW


def compared(
    cells: Sequence[Cell], seeds: pd.DataFrame, subset: str, reference: str, resamples: int, draws: int, entropy: int
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
    reference
        Model that every other one is compared with.
    resamples, draws, entropy
        Of the bootstrap and of the permutation test, and of both.
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
    names = set(first.patients)
    group = Group(
        task=task,
        share=share,
        models=[cell.model for cell in cells],
        seeds=values,
        simulated={cell.model: cell.simulated for cell in cells},
        images=len(set(first.image_ids)),
        patients=len(names) if known else None,
        independent=len(names),
        resplit=cells[0].resplit,
    )
    if cells[0].resplit:
        return replace(group, ratio=len(first.labels) / len(cells[0].seeds) / cells[0].training_images)
    parts = {cell.model: read_subset(cell, subset) for cell in cells}
    group = over_patients(group, parts, reference, resamples, draws, bootstrap.task_seed(entropy, task))
    if group.few or group.no_p:
        fewest = bootstrap.rarest(first.patients, first.labels)
        say(f"{task}/{share}: too few patients, {len(names)}, {fewest} of the rarest class: {FEW_PATIENTS}")
    return group if len(cells[0].classes) > 2 or group.few else by_delong(group, parts)


def over_patients(
    group: Group, parts: Mapping[str, Subset], reference: str, resamples: int, draws: int, seed: Sequence[int]
) -> Group:
    """The group with what resampling its patients and exchanging its models says."""
    first = next(iter(parts.values()))
    labels, one = first.labels, np.ones((len(first.labels), 1))
    numbers, strata = bootstrap.patient_strata(first.patients, labels)
    signs = permutation.draw_signs(len(set(first.patients)), draws, np.random.default_rng([*seed, 1]))
    ensembles = {model: part.ensemble[None] for model, part in parts.items()}
    probabilities = {model: part.probabilities for model, part in parts.items()}
    return replace(
        group,
        few=bootstrap.rarest(first.patients, labels) < bootstrap.FEW,
        stratum=min(map(len, strata)),
        unit=1 / group.independent,
        resampled=bootstrap.bootstrap_scores(labels, first.patients, probabilities, resamples, seed),
        ensemble={model: score(labels, averaged[0], one) for model, averaged in ensembles.items()},
        ensemble_resampled=bootstrap.bootstrap_scores(labels, first.patients, ensembles, resamples, seed),
        exchanged={
            model: permutation.exchanged_differences(labels, numbers, probabilities[reference], own, signs)
            for model, own in probabilities.items()
            if reference in parts and model != reference
        },
    )


def by_delong(group: Group, parts: Mapping[str, Subset]) -> Group:
    """The group with areas and their covariance, for two classes."""
    first = next(iter(parts.values()))
    scores = np.stack([part.probabilities[:, :, 1] for part in parts.values()])
    area, covariance = delong.areas(first.labels == 1, first.patients, scores)
    return replace(
        group,
        areas=dict(zip(group.models, area.tolist(), strict=True)),
        covariance=pd.DataFrame(covariance, group.models, group.models),
    )


def only(group: Group, models: list[str]) -> Group:
    """The group of some of its models."""

    def kept(scores: Scores) -> Scores:
        return {model: scores[model] for model in models if model in scores}

    return replace(
        group,
        models=models,
        resampled=kept(group.resampled),
        ensemble=kept(group.ensemble),
        ensemble_resampled=kept(group.ensemble_resampled),
        exchanged=kept(group.exchanged),
    )


def same_images(cells: Sequence[Cell], subset: str) -> Subset:
    """The images of a subset of a task; UrfmError when two models were not tested on the same, with the same seeds."""
    first = pooled(cells[0], subset)
    for cell in cells[1:]:
        if cell.seeds != cells[0].seeds:
            raise UrfmError(
                f"{cell.task}/{cell.share}: {cells[0].model} has seeds {cells[0].seeds} and {cell.model} {cell.seeds}; "
                "fine-tune both with the same seeds"
            )
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
        say(f"{cell.task}/{cell.share}: a split per seed: no common test part, so nothing over patients")
    if cell.resplit and np.isnan(cell.training_images):
        say(f"{cell.task}/{cell.share}: cell.json does not say how many images were trained on: no corrected t")


def averaged_over_tasks(groups: Sequence[Group]) -> list[Group]:
    """The average over the tasks that every model has, one group a share; none for fewer than two tasks.

    Tasks are resampled independently, so the average of their resamples is a resample of the average; so are draws.
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
                independent=sum(part.independent for part in parts),
                resplit=all(part.resplit for part in parts),
                ratio=float(np.mean([part.ratio for part in parts])),
                few=any(part.few for part in parts),
                stratum=sum(part.stratum for part in parts),
                unit=sum(part.unit for part in parts) / len(parts) ** 2,
                resampled=_average([part.resampled for part in parts]),
                ensemble=_average([part.ensemble for part in parts]),
                ensemble_resampled=_average([part.ensemble_resampled for part in parts]),
                exchanged=_average([part.exchanged for part in parts]),
            )
        )
    return averages


def _average(parts: Sequence[Scores]) -> Scores:
    return {
        model: {metric: np.mean([part[model][metric] for part in parts], axis=0) for metric in METRICS}
        for model in parts[0]
    }
