"""Reliability curves of a comparison's models, a panel per task, and their calibration errors (stage `calibration`).

Predictions of single trained models, all seeds together; curves and errors come from the `statistics` stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.figures.output import arguments, save
from urfm.figures.style import GREY, Appearance
from urfm.figures.summary import Panels, SummarySettings, panels_over_table
from urfm.statistics.stored import Stored, read_statistics

FEWEST = 5  # predictions of a bin that is drawn


def read_curves(record: Path, settings: SummarySettings) -> tuple[Stored, pd.DataFrame, pd.DataFrame]:
    """Reliability curves and calibration errors of the largest share."""
    stored = read_statistics(record, ["reliability", "calibration"])
    curves, errors = (
        table[table["model"].isin(settings.models) & table["task"].isin(settings.tasks)]
        for table in (stored.tables["reliability"], stored.tables["calibration"])
    )
    if errors.empty:
        raise UrfmError(
            f"{record}: holds none of this figure's models and tasks; delete it and run the statistics again"
        )
    share = errors["share"].max()
    return stored, curves[curves["share"] == share], errors[errors["share"] == share]


def draw(stored: Stored, curves: pd.DataFrame, errors: pd.DataFrame, settings: SummarySettings) -> Figure:
    """A: a panel per task; B: the table of errors."""

    def panel(axes: Axes, task: str, models: Mapping[str, str], looks: Mapping[str, Appearance]) -> str:
        draw_curves(axes, curves[curves["task"] == task], models, looks)
        return f"n = {errors.loc[errors['task'] == task, 'predictions'].max():,}"

    return panels_over_table(
        errors,
        Panels(5, 36.5, 8, 6, 23.0, 23.0, "Confidence (%)", "Accuracy (%)", panel),
        "Expected calibration error (points)",
        error_words(errors),
        [
            "A: accuracy against the mean probability of the predicted class (confidence), in bins of equal width; "
            f"bins of fewer than {FEWEST} predictions are not drawn. n: predictions of a model, test images times "
            "seeds. Below the dashed line a model is overconfident.",
            "B: expected calibration error, the mean distance from that line weighted by predictions, of single "
            "trained models; in brackets, of the seed-averaged predictions. Bold: lowest of the task. Small test sets "
            "make it too large.",
        ],
        stored,
        settings,
    )


def draw_curves(axes: Axes, curves: pd.DataFrame, models: Mapping[str, str], looks: Mapping[str, Appearance]) -> None:
    axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.5, linestyle=(0, (3, 2)))
    for model in reversed(list(models)):
        own = curves[(curves["model"] == model) & (curves["predictions"] >= FEWEST)].sort_values("bin")
        look = looks[model]
        axes.plot(
            100 * own["confidence"], 100 * own["accuracy"], color=look.color, linestyle=look.line,
            marker=look.marker, markersize=2.4, markeredgewidth=0, clip_on=False,
        )  # fmt: skip
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 100])


def error_words(errors: pd.DataFrame) -> dict[tuple[str, str], tuple[str, bool]]:
    """(model, task) to the error, in brackets that of seed-averaged predictions; whether it is the task's lowest."""
    lowest = errors.groupby("task")["ece"].min()
    words = {}
    for row in errors.to_dict("records"):
        averaged = "" if pd.isna(row["ece_ensemble"]) else f" ({100 * row['ece_ensemble']:.1f})"
        words[row["model"], row["task"]] = f"{100 * row['ece']:.1f}{averaged}", row["ece"] == lowest[row["task"]]
    return words


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw the reliability curves of a comparison.")
    parser.add_argument("--statistics", type=Path, required=True, help="statistics.json of the comparison")
    options = parser.parse_args()
    settings = parse_settings(SummarySettings, options.settings)
    stored, curves, errors = read_curves(options.statistics, settings)
    keys = ["model", "task", "share"]
    numbers = curves.merge(errors.drop(columns=["predictions", "simulated"]), on=keys)
    save(options.output, draw(stored, curves, errors, settings), settings.dpi, numbers)
    say(f"calibration of {stored.name}: {errors['task'].nunique()} tasks; written to {options.output}.pdf, .png, .csv")


if __name__ == "__main__":
    run(main)
