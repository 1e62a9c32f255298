"""Accuracy, macro F1 and AUROC of a cell, per seed and subset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from urfm.core.progress import say
from urfm.metrics import METRICS, IntArray, score
from urfm.statistics.predictions import Cell, read_seeds

SEED_COLUMNS = ["model", "task", "share", "subset", "seed", "metric", "value"]


def cell_metrics(cell: Cell) -> pd.DataFrame:
    """Metrics of a cell: model, task, share, subset, seed, metric, value (in [0, 1], NaN where undefined)."""
    rows: list[tuple[object, ...]] = []
    for subset in sorted(set(cell.predictions["subset"])):
        parts = read_seeds(cell, subset)
        if absent := sorted({name for part in parts.values() for name in absent_classes(cell.classes, part.labels)}):
            say(f"{cell.name}: auroc of the {subset} part is undefined: no image of {', '.join(absent)}")
        for seed, part in parts.items():
            values = score(part.labels, part.probabilities[0], np.ones((len(part.labels), 1)))
            rows.extend(
                (cell.model, cell.task, cell.share, subset, seed, metric, float(values[metric][0]))
                for metric in METRICS
            )
    table = pd.DataFrame(rows, columns=SEED_COLUMNS)
    return table.sort_values(["subset", "seed", "metric"], ignore_index=True)


def absent_classes(classes: Sequence[str], labels: IntArray) -> list[str]:
    """Names of the classes that no image has."""
    return [name for number, name in enumerate(classes) if number not in labels]
