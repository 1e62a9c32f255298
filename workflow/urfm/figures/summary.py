"""What the figures that summarise a comparison's statistics share: settings, and a page in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from urfm.core.cli import Ordered, Settings
from urfm.figures import style
from urfm.figures.page import LEGEND_ROW, MARGIN, add_foot, legend_rows, panel_letter
from urfm.figures.style import DOUBLE_COLUMN, LABEL, LINE, SMALL, TITLE, Appearance, Unavailable
from urfm.statistics.stored import Stored

ROW = 3.4  # mm, of a table


class SummarySettings(Settings):
    """Settings of the stages `critical_difference`, `calibration` and `decision_curves`."""

    models: Ordered[str] = Field(min_length=1, description="[name, title] of each model, in order")
    tasks: Ordered[str] = Field(min_length=1, description="[name, title] of each task, in order")
    unavailable: list[Unavailable] = Field(default=[], description="tasks and models not available, with the reason")
    notes: list[str] = Field(default=[], description="sentences for the foot of the figure")
    dpi: int = Field(ge=72, description="resolution of the PNG")


Words = Mapping[tuple[str, str], tuple[str, bool]]  # (model, task) to what a table says, and whether in bold


@dataclass(frozen=True)
class Panels:
    """A panel per task: how many in a row, millimetres of a row and of the axes in it, and what the axes say.

    `draw` draws a task on its axes, with the titles and looks of the models, and returns what stands below its title.
    """

    columns: int
    row: float
    left: float
    top: float
    width: float
    height: float
    x: str
    y: str
    draw: Callable[[Axes, str, Mapping[str, str], Mapping[str, Appearance]], str]
    markers: bool = True  # in the legend


def foot(sentences: Sequence[str], stored: Stored, settings: SummarySettings, width: float) -> list[str]:
    """Lines for the foot: `sentences`, stand-ins, the settings' notes, and what is not available."""
    marked = style.stand_in_note(settings.models, stored.stand_ins)
    every = [*sentences, *marked, *settings.notes, *style.note_unavailable(settings.unavailable)]
    return [line for sentence in every for line in style.wrap(sentence, width - 2 * MARGIN)]


def page(figure: Figure) -> Axes:
    """Axes over the whole figure whose units are millimetres from its upper left corner, to draw lines in."""
    width, height = (25.4 * inches for inches in figure.get_size_inches())
    axes = style.add_axes(figure, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def panels_over_table(
    shown: pd.DataFrame,
    panels: Panels,
    heading: str,
    words: Words,
    sentences: Sequence[str],
    stored: Stored,
    settings: SummarySettings,
) -> Figure:
    """A: a panel per task; B, under `heading`: a table of models and tasks. Those are drawn that `shown` has."""
    models = {name: title for name, title in settings.models.items() if name in set(shown["model"])}
    tasks = {name: title for name, title in settings.tasks.items() if name in set(shown["task"])}
    looks = style.appearances(list(settings.models))
    lines = foot(sentences, stored, settings, DOUBLE_COLUMN)
    columns = min(panels.columns, len(tasks))
    legend_top = style.SIMULATED_BAND if stored.simulated else 1.5
    legend = legend_rows(models)
    panels_top = legend_top + LEGEND_ROW * len(legend) + 1
    table_top = panels_top + panels.row * -(-len(tasks) // columns) + 3
    foot_top = table_top + 12 + ROW * len(models) + 1
    figure = style.new_figure(DOUBLE_COLUMN, foot_top + LINE * len(lines) + 2)
    if stored.simulated:
        style.mark_simulated(figure)
    background = page(figure)
    draw_legend(background, legend_top, legend, models, looks, panels.markers)
    cell = (DOUBLE_COLUMN - 2 * MARGIN) / panels.columns
    style.add_text(figure, MARGIN, panels_top, "A", TITLE + 1, weight="bold")
    for number, (task, title) in enumerate(tasks.items()):
        row, column = divmod(number, columns)
        left, top = MARGIN + cell * column + panels.left, panels_top + panels.row * row + panels.top
        axes = style.add_axes(figure, left, top, panels.width, panels.height)
        below = panels.draw(axes, task, models, looks)
        axes.set_title(f"{title}\n{below}", fontsize=SMALL, pad=4, linespacing=1.1)
        if column == 0:
            axes.set_ylabel(panels.y)
        if number + columns >= len(tasks):
            axes.set_xlabel(panels.x)
    panel_letter(figure, MARGIN, table_top, "B", heading)
    draw_table(background, table_top + 5.5, words, models, tasks)
    add_foot(figure, foot_top, lines)
    return figure


def draw_legend(
    axes: Axes,
    top: float,
    rows: Sequence[Sequence[str]],
    titles: Mapping[str, str],
    looks: Mapping[str, Appearance],
    markers: bool,
) -> None:
    """Line, with its marker, of each model with its title, centred."""
    for number, row in enumerate(rows):
        widths = [11 + style.text_width(titles[model], LABEL) for model in row]
        left, y = (DOUBLE_COLUMN - sum(widths)) / 2, top + LEGEND_ROW * number + 1.5
        for model, width in zip(row, widths, strict=True):
            look = looks[model]
            axes.plot([left, left + 6], [y, y], color=look.color, linestyle=look.line)
            if markers:
                axes.plot([left + 3], [y], color=look.color, marker=look.marker, markersize=3.2, markeredgewidth=0)
            axes.text(left + 7, y, titles[model], fontsize=LABEL, va="center_baseline")
            left += width


def draw_table(
    axes: Axes,
    top: float,
    words: Words,
    models: Mapping[str, str],
    tasks: Mapping[str, str],
) -> None:
    """A row per model, a column per task."""
    named = max(style.text_width(title) for title in models.values()) + 4
    width = min(18.0, (DOUBLE_COLUMN - 2 * MARGIN - named) / len(tasks))
    for place, (task, title) in enumerate(tasks.items()):
        centre = MARGIN + named + width * (place + 0.5)
        heading = "\n".join(style.wrap(title, width - 1))
        axes.text(centre, top + 5.2, heading, fontsize=SMALL, ha="center", va="bottom", linespacing=1.0)
        for number, model in enumerate(models):
            text, bold = words.get((model, task), ("", False))
            weight = "bold" if bold else "normal"
            axes.text(centre, top + 8 + ROW * number, text, fontsize=SMALL, ha="center", va="center", weight=weight)
    axes.plot([MARGIN, MARGIN + named + width * len(tasks)], [top + 5.8] * 2, color="black", linewidth=0.5)
    for number, title in enumerate(models.values()):
        axes.text(MARGIN, top + 8 + ROW * number, title, fontsize=SMALL, va="center")
