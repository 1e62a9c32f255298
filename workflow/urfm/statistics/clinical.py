"""Two-class tasks as a clinician reads them: sensitivity and specificity at a threshold, and net benefit.

The threshold is chosen on the validation part, of each seed by itself, and applied unchanged to the images that are
scored: chosen on these, it would promise more than other patients keep. Net benefit (Vickers and Elkin 2006) weighs
those rightly treated against those wrongly treated, at the odds of the probability from which one would treat.
All are means over seeds; intervals are over patients, as those of `urfm.statistics.scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics as sk

from urfm.config.statistics import Statistics, ThresholdRule
from urfm.core.progress import say
from urfm.metrics import FloatArray
from urfm.statistics import bootstrap
from urfm.statistics.predictions import Cell, positive_class, read_seeds, read_subset

BoolArray = NDArray[np.bool_]
CHOSEN_ON = "val"  # never the part that is scored
KEY = ["model", "task", "share", "positive"]
COUNTS = ["images", "positives", "patients", "few_patients", "simulated"]
CLINICAL = {  # name and columns of each table
    "thresholds": [
        *KEY, "seed", "part", "rule", "part_images", "part_positives", "threshold", "sensitivity", "specificity",
        "simulated",
    ],
    "operating_points": [
        *KEY, "part", "rule", "seeds", "threshold_low", "threshold_high", "sensitivity", "sensitivity_low",
        "sensitivity_high", "specificity", "specificity_low", "specificity_high", *COUNTS,
    ],
    "net_benefit": [*KEY, "threshold", "net_benefit", "boot_low", "boot_high", "treat_all", *COUNTS],
}  # fmt: skip
GRID = np.arange(1, 100) / 100  # probabilities from which one would treat


@dataclass(frozen=True)
class Part:
    """Images that some seeds share: which are positive (images,), whose, and their scores in [0, 1] (seeds, images)."""

    positive: BoolArray
    patients: list[str]
    scores: FloatArray


@dataclass(frozen=True)
class Ratio:
    """A sum over images divided by another: `above` (..., images) by `below` (images,)."""

    above: FloatArray
    below: FloatArray

    def under(self, weights: FloatArray) -> FloatArray:
        """(..., resamples), where images count as often as `weights` (images, resamples) say; NaN where 0 / 0."""
        above, below = self.above @ weights, self.below @ weights
        ratio: FloatArray = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
        return ratio

    @property
    def value(self) -> FloatArray:
        """(...)."""
        return self.under(np.ones((len(self.below), 1)))[..., 0]


def sensitivity(positive: BoolArray, called: FloatArray) -> Ratio:
    """Of the positives, the share that is called so; `called` (images,) is the share of seeds that do."""
    return Ratio(called * positive, positive.astype(float))


def specificity(positive: BoolArray, called: FloatArray) -> Ratio:
    """Of the negatives, the share that is not called positive."""
    return Ratio((1 - called) * ~positive, (~positive).astype(float))


RATES = {"sensitivity": sensitivity, "specificity": specificity}


def net_benefit(positive: BoolArray, scores: FloatArray, thresholds: FloatArray) -> Ratio:
    """True positives less false positives times p / (1 - p), per image: (thresholds,), mean over seeds.

    Parameters
    ----------
    positive, scores
        (images,) and (seeds, images); who has at least the threshold is treated.
    thresholds
        p, above 0 and below 1.
    """
    gain = np.where(positive, 1.0, -(thresholds / (1 - thresholds))[:, None])
    treated = np.mean([own >= thresholds[:, None] for own in scores], axis=0)
    return Ratio(treated * gain, np.ones(len(positive)))


def treat_all(prevalence: float, thresholds: FloatArray) -> FloatArray:
    """Net benefit of treating everybody; that of treating nobody is 0."""
    benefit: FloatArray = prevalence - (1 - prevalence) * thresholds / (1 - thresholds)
    return benefit


def choose_threshold(positive: BoolArray, scores: FloatArray, rule: ThresholdRule, least: float) -> float:
    """The score from which an image is called positive; NaN without positives or negatives.

    Parameters
    ----------
    rule
        "youden": highest sensitivity + specificity; "specificity": highest sensitivity of those whose specificity is
        at least `least`. The highest threshold of equal ones, infinity where calling none positive is best.
    """
    if positive.all() or not positive.any():
        return float("nan")
    fpr, tpr, thresholds = sk.roc_curve(positive, scores, drop_intermediate=False)
    worth = tpr - fpr if rule == "youden" else np.where(fpr <= 1 - least + 1e-9, tpr, -1)
    return float(thresholds[np.round(worth, 12).argmax()])  # sums that are equal but for rounding


def clinical_tables(
    cells: Sequence[Cell], subset: str, settings: Statistics, positive: Mapping[str, str]
) -> dict[str, pd.DataFrame]:
    """The tables of CLINICAL by name, of the cells with two classes; without rows where there are none.

    `positive` has the positive class of a task, where it is not the second.
    """
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in CLINICAL}
    for cell in cells:
        number = positive_class(cell, positive.get(cell.task, ""))
        if number is None:
            continue
        about: dict[str, Any] = {
            "model": cell.model,
            "task": cell.task,
            "share": cell.share,
            "positive": cell.classes[number],
            "simulated": cell.simulated,
        }
        for name, table in of_cell(cell, number, subset, settings).items():
            found[name].append(table.assign(**about)[CLINICAL[name]])
    return {
        name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=CLINICAL[name])
        for name, tables in found.items()
    }


def of_cell(cell: Cell, number: int, subset: str, settings: Statistics) -> dict[str, pd.DataFrame]:
    """The tables of one cell, whose positive class is `number`; no intervals where every seed has its own split."""
    chosen = thresholds_of(cell, number, settings)
    parts = parts_of(cell, number, subset)
    cuts = np.split(chosen["threshold"].to_numpy()[:, None], len(parts))
    called = [np.where(np.isnan(cut), np.nan, part.scores >= cut) for part, cut in zip(parts, cuts, strict=True)]
    for name, rate in RATES.items():
        chosen[name] = [
            float(rate(part.positive, own).value) for part, seeds in zip(parts, called, strict=True) for own in seeds
        ]
    weights, stratum = (None, 0) if cell.resplit else resamples(parts[0], cell.task, settings)
    few = not cell.resplit and weights is None

    def interval(ratio: Ratio) -> list[tuple[float, float]]:
        """One for each value of the ratio."""
        if weights is None:
            return [(np.nan, np.nan)] * ratio.value.size
        rows = np.atleast_2d(ratio.under(weights))
        return [bootstrap.expanded_interval(row, settings.confidence, stratum) for row in rows]

    counts: dict[str, Any] = {
        "images": sum(len(part.positive) for part in parts),
        "positives": sum(int(part.positive.sum()) for part in parts),
        "patients": len({name for part in parts for name in part.patients}) if cell.patients_known else pd.NA,
        "few_patients": few,
    }
    point: dict[str, Any] = {
        "part": CHOSEN_ON, "rule": settings.threshold, "seeds": len(chosen),
        "threshold_low": chosen["threshold"].min(), "threshold_high": chosen["threshold"].max(),
    }  # fmt: skip
    for name, rate in RATES.items():
        low, high = interval(rate(parts[0].positive, called[0].mean(axis=0)))[0]
        point |= {name: chosen[name].mean(skipna=False), f"{name}_low": low, f"{name}_high": high}
    benefits = [net_benefit(part.positive, part.scores, GRID) for part in parts]
    curve = pd.DataFrame(interval(benefits[0]), columns=["boot_low", "boot_high"]).assign(
        threshold=GRID,
        net_benefit=np.mean([benefit.value for benefit in benefits], axis=0),
        treat_all=np.mean([treat_all(part.positive.mean(), GRID) for part in parts], axis=0),
        **counts,
    )
    return {"thresholds": chosen, "operating_points": pd.DataFrame([point | counts]), "net_benefit": curve}


def thresholds_of(cell: Cell, number: int, settings: Statistics) -> pd.DataFrame:
    """Each seed's threshold, and what it was chosen on: seed, part, rule, part_images, part_positives, threshold."""
    rows = []
    for seed, part in read_seeds(cell, CHOSEN_ON).items():
        positive, scores = part.labels == number, part.probabilities[0, :, number]
        threshold = choose_threshold(positive, scores, settings.threshold, settings.specificity)
        rows.append((seed, CHOSEN_ON, settings.threshold, len(positive), int(positive.sum()), threshold))
    table = pd.DataFrame(rows, columns=["seed", "part", "rule", "part_images", "part_positives", "threshold"])
    if table["threshold"].isna().any():
        say(f"{cell.name}: no threshold, hence no sensitivity at one: a class has no image in the validation part")
    return table


def parts_of(cell: Cell, number: int, subset: str) -> list[Part]:
    """The images that are scored: one part that all seeds share, or one a seed."""
    parts = read_seeds(cell, subset).values() if cell.resplit else [read_subset(cell, subset)]
    return [Part(part.labels == number, part.patients, part.probabilities[:, :, number]) for part in parts]


def resamples(part: Part, task: str, settings: Statistics) -> tuple[FloatArray | None, int]:
    """Weights (images, resamples) of drawn patients, and the size of the smallest stratum; None for too few patients.

    Drawn as the task's scores are (`urfm.statistics.bootstrap.bootstrap_scores`).
    """
    labels = part.positive.astype(np.int64)
    if bootstrap.rarest(part.patients, labels) < bootstrap.FEW:
        return None, 0
    numbers, strata = bootstrap.patient_strata(part.patients, labels)
    generator = np.random.default_rng(bootstrap.task_seed(settings.bootstrap_seed, task))
    counts = bootstrap.patient_counts(strata, settings.bootstrap_resamples, generator)
    return counts.astype(float)[numbers], min(map(len, strata))
