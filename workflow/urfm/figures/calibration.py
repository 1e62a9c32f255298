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
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.page import LEGEND_ROW, MARGIN, add_foot, legend_rows, panel_letter
from urfm.figures.style import DOUBLE_COLUMN, GREY, LINE, SMALL, TITLE, Appearance
from urfm.figures.summary import ROW, SummarySettings, draw_legend, draw_table, foot, page
from urfm.statistics.stored import Stored, read_statistics

COLUMNS = 5
PANEL = 23.0  # mm, side of a panel's axes
PANEL_ROW = 36.5  # mm, with title and tick labels
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
    models = {name: title for name, title in settings.models.items() if name in set(errors["model"])}
    tasks = {name: title for name, title in settings.tasks.items() if name in set(errors["task"])}
    looks = style.appearances(list(settings.models))
    lines = foot(
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
        DOUBLE_COLUMN,
    )
    columns = min(COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    legend_top = style.SIMULATED_BAND if stored.simulated else 1.5
    legend = legend_rows(models)
    panels_top = legend_top + LEGEND_ROW * len(legend) + 1
    table_top = panels_top + PANEL_ROW * rows + 3
    foot_top = table_top + 12 + ROW * len(models) + 1
    figure = style.new_figure(DOUBLE_COLUMN, foot_top + LINE * len(lines) + 2)
    if stored.simulated:
        style.mark_simulated(figure)
    background = page(figure)
    draw_legend(background, legend_top, legend, models, looks)
    cell = (DOUBLE_COLUMN - 2 * MARGIN) / COLUMNS
    style.add_text(figure, MARGIN, panels_top, "A", TITLE + 1, weight="bold")
    for number, (task, title) in enumerate(tasks.items()):
        row, column = divmod(number, columns)
        left = MARGIN + cell * column + 8
        axes = style.add_axes(figure, left, panels_top + PANEL_ROW * row + 6, PANEL, PANEL)
        own = errors[errors["task"] == task]
        axes.set_title(f"{title}\nn = {own['predictions'].max():,}", fontsize=SMALL, pad=4, linespacing=1.1)
        draw_curves(axes, curves[curves["task"] == task], models, looks)
        if column == 0:
            axes.set_ylabel("Accuracy (%)")
        if number + columns >= len(tasks):
            axes.set_xlabel("Confidence (%)")
    panel_letter(figure, MARGIN, table_top, "B", "Expected calibration error (points)")
    draw_table(background, table_top + 5.5, error_words(errors), models, tasks)
    add_foot(figure, foot_top, lines)
    return figure


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
