"""The numbers drawn as one long table, and the command line that figures 3, 4, 5 and 8 share."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from urfm.core.progress import say
from urfm.figures import output
from urfm.figures.read import FigureSettings, Numbers

COLUMNS = ["panel", "chart", "task", "model", "share", "metric", "quantity", "x", "value"]
KEY = ["task", "model", "share", "metric"]
COUNTS = ["seeds", "images", "patients"]


def score_rows(panel: str, chart: str, numbers: Numbers, metrics: Sequence[str]) -> pd.DataFrame:
    """Means, intervals and counts: a row per number, in percent."""
    table = numbers.scores[numbers.scores["metric"].isin(metrics)]
    return long(panel, chart, numbers, table, [*numbers.over.score, *COUNTS])


def difference_rows(panel: str, numbers: Numbers, metrics: Sequence[str], all_models: bool = False) -> pd.DataFrame:
    """The reference minus the strongest other model, or minus every other one; P values as they are."""
    table = numbers.differences if all_models else numbers.comparisons
    return long(panel, "comparison", numbers, table[table["metric"].isin(metrics)], numbers.over.difference)


def mean_rows(panel: str, numbers: Numbers, metrics: Sequence[str]) -> pd.DataFrame:
    """The mean over the tasks that all models have, and its difference to the strongest other model."""
    means = numbers.means[list(metrics)].melt(ignore_index=False, var_name="metric").reset_index()
    means = means.assign(panel=panel, chart="mean", task="", quantity="mean_over_tasks")
    average = numbers.average[numbers.average["metric"].isin(metrics)]
    compared = long(panel, "mean_comparison", numbers, average, numbers.over.difference)
    return pd.concat([means, compared], ignore_index=True)


def curve_rows(panel: str, numbers: Numbers) -> pd.DataFrame:
    """Points of ROC curves; x is the false positive rate; with the column `positive` (as in the statistics)."""
    points = numbers.curves.rename(columns={"fpr": "x", "tpr": "value"})
    return points.assign(panel=panel, chart="roc", metric="auroc", quantity="tpr")[[*COLUMNS, "positive"]]


def long(panel: str, chart: str, numbers: Numbers, table: pd.DataFrame, quantities: Sequence[str]) -> pd.DataFrame:
    """A row per number, tasks and models in the order they are drawn."""
    order = {name: place for place, name in enumerate([*numbers.tasks, *numbers.models])}
    ordered = table.sort_values(
        ["task", "share", "model"], key=lambda keys: keys if keys.name == "share" else keys.map(order), kind="stable"
    )
    cells = ordered[[*KEY, *quantities]].reset_index(drop=True).reset_index()
    rows = cells.melt(["index", *KEY], quantities, "quantity", "value").sort_values("index", kind="stable")
    return rows.drop(columns="index").assign(panel=panel, chart=chart)


def combine(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table of all, with `positive` where there are curves; numbers rounded to six digits after the point."""
    table = pd.concat([table for table in tables if len(table)], ignore_index=True)
    table = table.reindex(columns=[*COLUMNS, *({"positive"} & set(table.columns))])
    table["share"] = table["share"].astype("Int64")
    table[["x", "value"]] = table[["x", "value"]].astype(float).round(6)
    return table


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments that these figures share."""
    command = output.arguments(description)
    command.add_argument("--statistics", type=Path, nargs="+", required=True, help="folders of the statistics stage")
    return command


def save(
    stem: Path, figure: Figure, table: pd.DataFrame, numbers: Mapping[str, Numbers], settings: FigureSettings
) -> None:
    """Write the picture and the numbers drawn, and say what is in them."""
    output.save(stem, figure, settings.dpi, table)
    parts = [f"{name}: {len(one.tasks)} task(s), {len(one.models)} model(s)" for name, one in numbers.items()]
    simulated = "; simulated data" if any(one.simulated for one in numbers.values()) else ""
    say(f"{'; '.join(parts)}{simulated}; written to {stem}.pdf, .png and .csv")
