"""Resampled scores of a task of figure 2, beside scikit-learn's functions on one resample after another.

Ours is everything that the stage of statistics does for the task: six models of ten seeds, intervals, tests,
calibration. scikit-learn's side is accuracy, macro F1 and area under the curve of one seed and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from urfm.statistics.predictions import Cell, read_cell
from urfm.statistics.stage import compute

from tests.benchmarks import statistics_scale
from tests.benchmarks.suite.harness import Result, take_turns, timed
from tests.benchmarks.suite.pictures import Bench

SKLEARN, TASKS = "scikit-learn", ("breast_tumor", "ovarian_tumor", "fetal_plane")


def one_by_one(cell: Cell, resamples: int) -> None:
    """Three scores of each resample of the first seed's test images."""
    table = cell.predictions[(cell.predictions["seed"] == cell.seeds[0]) & (cell.predictions["subset"] == "test")]
    labels = table["label"].map(cell.classes.index).to_numpy()
    probabilities = table[[f"p_{name}" for name in cell.classes]].to_numpy()
    draws = np.random.default_rng(0)
    for _ in range(resamples):
        rows = draws.integers(len(labels), size=len(labels))
        truth, told = labels[rows], probabilities[rows]
        chosen = told.argmax(axis=1)
        accuracy_score(truth, chosen)
        f1_score(truth, chosen, average="macro")
        if told.shape[1] == 2:
            roc_auc_score(truth, told[:, 1])
        else:
            roc_auc_score(truth, told, multi_class="ovr", average="macro")


def results(bench: Bench) -> Iterator[Result]:
    ours, theirs = (100, 5) if bench.quick else (2000, 50)
    for task in TASKS:
        paths = statistics_scale.cells(bench.folder / task, {task: statistics_scale.TASKS[task]})
        read = [read_cell(path) for path in paths]
        scored = sum(len(cell.seeds) for cell in read) * ours
        sides = {
            "urfm": (partial(compute, read, statistics_scale.settings(ours)), scored),
            SKLEARN: (partial(one_by_one, read[0], theirs), theirs),
        }
        # Of one resample of one seed, since the sides do another number of them.
        amounts = take_turns(sides, bench.rounds(3), warm_up=0, measure=lambda side: timed(side[0]) / side[1])
        yield Result("scored resamples of a seed", task, "a second", amounts, size=1)
