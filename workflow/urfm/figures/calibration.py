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
from urfm.figures.style import DOUBLE_COLUMN, GREY, LABEL, LINE, SMALL, TITLE, Appearance
from urfm.figures.summary import SummarySettings, foot, page
from urfm.statistics.stored import Stored, read_statistics

COLUMNS = 5
PANEL = 23.0  # mm, side of a panel's axes
PANEL_ROW = 36.5  # mm, with title and tick labels
ROW = 3.4  # mm, of the table
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
    draw_errors(background, table_top + 5.5, errors, models, tasks)
    add_foot(figure, foot_top, lines)
    return figure


def draw_legend(
    axes: Axes, top: float, rows: list[list[str]], titles: Mapping[str, str], looks: Mapping[str, Appearance]
) -> None:
    """Line and marker of each model with its title, centred."""
    for number, row in enumerate(rows):
        widths = [11 + style.text_width(titles[model], LABEL) for model in row]
        left, y = (DOUBLE_COLUMN - sum(widths)) / 2, top + LEGEND_ROW * number + 1.5
        for model, width in zip(row, widths, strict=True):
            look = looks[model]
            axes.plot([left, left + 6], [y, y], color=look.color, linestyle=look.line)
            axes.plot([left + 3], [y], color=look.color, marker=look.marker, markersize=3.2, markeredgewidth=0)
            axes.text(left + 7, y, titles[model], fontsize=LABEL, va="center_baseline")
            left += width


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


def draw_errors(
    axes: Axes, top: float, errors: pd.DataFrame, models: Mapping[str, str], tasks: Mapping[str, str]
) -> None:
    """A row per model, a column per task."""
    named = max(style.text_width(title) for title in models.values()) + 4
    width = min(18.0, (DOUBLE_COLUMN - 2 * MARGIN - named) / len(tasks))
    centres = {task: MARGIN + named + width * (place + 0.5) for place, task in enumerate(tasks)}
    for task, title in tasks.items():
        heading = style.wrap(title, width - 1)
        axes.text(
            centres[task], top + 5.2, "\n".join(heading), fontsize=SMALL, ha="center", va="bottom", linespacing=1.0
        )
    axes.plot([MARGIN, MARGIN + named + width * len(tasks)], [top + 5.8] * 2, color="black", linewidth=0.5)
    lowest = errors.groupby("task")["ece"].min()
    for number, (model, title) in enumerate(models.items()):
        y = top + 8 + ROW * number
        axes.text(MARGIN, y, title, fontsize=SMALL, va="center")
        for row in errors[errors["model"] == model].to_dict("records"):
            averaged = "" if pd.isna(row["ece_ensemble"]) else f" ({100 * row['ece_ensemble']:.1f})"
            weight = "bold" if row["ece"] == lowest[row["task"]] else "normal"
            text = f"{100 * row['ece']:.1f}{averaged}"
            axes.text(centres[row["task"]], y, text, fontsize=SMALL, ha="center", va="center", weight=weight)


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
