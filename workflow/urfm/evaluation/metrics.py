"""Accuracy, macro F1 and AUROC of a cell, per seed and subset (stage `metrics`)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from urfm.cli import run
from urfm.evaluation.predictions import Cell, read_cell, read_subset
from urfm.evaluation.scores import METRICS, IntArray, score
from urfm.files import write_csv
from urfm.progress import say


def cell_metrics(cell: Cell) -> pd.DataFrame:
    """Metrics of a cell: model, task, share, subset, seed, metric, value (in [0, 1], NaN where undefined)."""
    rows: list[tuple[object, ...]] = []
    for subset in sorted(set(cell.predictions["subset"])):
        part = read_subset(cell, subset)
        absent = absent_classes(cell.classes, part.labels)
        if absent:
            say(f"{cell.name}: auroc of the {subset} part is undefined: no image of {', '.join(absent)}")
        one = np.ones((len(part.labels), 1))
        for seed, probabilities in zip(cell.seeds, part.probabilities, strict=True):
            values = score(part.labels, probabilities, one)
            rows.extend(
                (cell.model, cell.task, cell.share, subset, seed, metric, float(values[metric][0]))
                for metric in METRICS
            )
    table = pd.DataFrame(rows, columns=["model", "task", "share", "subset", "seed", "metric", "value"])
    return table.sort_values(["subset", "seed", "metric"], ignore_index=True)


def absent_classes(classes: Sequence[str], labels: IntArray) -> list[str]:
    """Names of the classes that no image has."""
    return [name for number, name in enumerate(classes) if number not in labels]


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy, macro F1 and AUROC of a cell, per seed and subset.")
    parser.add_argument("--cell", type=Path, required=True, help="cell.json of the fine-tuning stage")
    parser.add_argument("--output", type=Path, required=True, help="metrics.csv to write")
    options = parser.parse_args()
    cell = read_cell(options.cell)
    table = cell_metrics(cell)
    write_csv(options.output, table)
    test = table[table["subset"] == "test"].groupby("metric")["value"].mean()
    summary = ", ".join(f"{metric} {100 * test[metric]:.2f} %" for metric in METRICS if metric in test)
    say(f"{cell.name}: test means over {len(cell.seeds)} seed(s): {summary}; written to {options.output}")


if __name__ == "__main__":
    run(main)
