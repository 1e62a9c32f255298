"""Every metric of a cell, per seed and subset."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from urfm.core.progress import say
from urfm.metrics import IntArray, score
from urfm.statistics.predictions import Cell, read_seeds

COLUMNS = ["model", "task", "share", "subset", "seed", "metric", "value"]


def seed_scores(cell: Cell) -> pd.DataFrame:
    """COLUMNS, one row per subset, seed and metric; values are in [0, 1], NaN where undefined, and why is said."""
    rows: list[tuple[object, ...]] = []
    for subset in sorted(set(cell.predictions["subset"])):
        undefined: dict[str, None] = {}
        parts = read_seeds(cell, subset)
        for seed, part in parts.items():
            values = score(part.labels, part.probabilities[0], np.ones((len(part.labels), 1)))
            for metric, (value,) in values.items():
                rows.append((cell.model, cell.task, cell.share, subset, seed, metric, float(value)))
                if np.isnan(value):
                    undefined[metric] = None
        if undefined:
            absent = {name for part in parts.values() for name in absent_classes(cell.classes, part.labels)}
            say(
                f"{cell.name}: {', '.join(undefined)} of the {subset} part is undefined: "
                f"no image of {', '.join(sorted(absent))}"
            )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["subset", "seed", "metric"], ignore_index=True)


def absent_classes(classes: Sequence[str], labels: IntArray) -> list[str]:
    """Names of the classes that no image has."""
    return [name for number, name in enumerate(classes) if number not in labels]
