"""Figure 5: the "organ barrier" (stage `figure_5`).

A: each organ's model on the tasks of its organ, beside the reference. B: every organ model on every task, its macro F1
minus the reference's. C: the same, divided by the largest absolute difference of the task, so within [-1, 1]. The CSV
holds exactly what is drawn: percent, points and shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pydantic import Field

from urfm.core.cli import parse_settings, run
from urfm.figures import drawn, notes, page, style
from urfm.figures.bars import Group, grouped_bars
from urfm.figures.page import MARGIN, WIDTH, Block
from urfm.figures.read import Comparison, FigureSettings, Numbers, read_comparisons, records
from urfm.figures.style import GREY, SMALL, TITLE, Appearance
from urfm.metrics import METRICS

METRIC = "f1_macro"
COLOURS = "PuOr"  # diverging, told apart with any colour vision; purple is better
SCALE = 8.0  # mm left of the bars
WIDEST_GROUP, BARS, LABELS = 30.0, 34.0, 13.0
CELL = (7.2, 11.0)  # mm, narrowest and widest column of a matrix
ROW = 5.2
BAR = 14.0  # mm, colour bar with its labels, and the letter of the panel beside


class Figure5Settings(FigureSettings):
    """Settings of the stage."""

    own: dict[str, list[str]] = Field(description="model of one organ -> the tasks of this organ")


def draw(numbers: Mapping[str, Numbers], settings: Figure5Settings) -> Figure:
    """A above B and C, which stand side by side where they fit."""
    (name, one), *_ = numbers.items()
    item = settings.comparisons[name]
    looks = style.appearances(list(item.models))
    pairs = own_pairs(one, settings.own)
    blocks: list[Block] = []
    if pairs:
        titles = {model: item.models[model] for model in one.models if model in dict(pairs) or model == item.reference}
        blocks += [
            page.heading_block("A", f"Each organ's model on the tasks of its organ: {METRICS[METRIC].words}"),
            page.legend_block(titles, looks),
            Block(BARS + LABELS, partial(draw_pairs, pairs=pairs, numbers=one, settings=item, looks=looks)),
        ]
    else:
        blocks.append(page.absent_block("A", "Each organ's model on the tasks of its organ", "nothing to draw"))
    table = differences(one, item)
    if table.empty:
        blocks.append(page.absent_block("B", "and C. Organ models and tasks", "needs the reference and an organ model"))
    else:
        blocks += matrices(one, item, settings.own)
    return page.compose(blocks, foot(one, item, settings, bool(pairs)), one.simulated)


def own_pairs(numbers: Numbers, own: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """(model, task) of each organ model and each task of its organ that have a result."""
    scores = numbers.scores[numbers.scores["metric"] == METRIC]
    there = set(zip(scores["model"], scores["task"], strict=True))
    pairs = [(model, task) for model in numbers.models for task in numbers.tasks if task in own.get(model, [])]
    return [pair for pair in pairs if pair in there]


def draw_pairs(
    figure: Figure,
    top: float,
    pairs: list[tuple[str, str]],
    numbers: Numbers,
    settings: Comparison,
    looks: Mapping[str, Appearance],
) -> None:
    """The reference and the organ's model, side by side, a pair a group."""
    scores = records(numbers.scores[numbers.scores["metric"] == METRIC], "model", "task")
    against = records(numbers.differences[numbers.differences["metric"] == METRIC], "model", "task")
    pitch = min(WIDEST_GROUP, (WIDTH - SCALE) / len(pairs))
    axes = style.add_axes(figure, MARGIN + SCALE, top + 0.5, pitch * len(pairs), BARS)
    groups = []
    for model, task in pairs:
        row = scores[(model, task)]
        lines = [*style.wrap(settings.tasks[task].title, pitch - 1), f"n = {row['images']:,}"]
        both = {name: scores[(name, task)] for name in (settings.reference, model) if (name, task) in scores}
        label = "\n".join([*lines, "simulated"] if row["simulated"] else lines)
        groups.append(Group(label, both, against.get((model, task))))
    grouped_bars(axes, groups, settings.reference, looks, numbers.over, least=3)
    axes.set_ylabel(f"{METRICS[METRIC].short} (%)", labelpad=1)


def differences(numbers: Numbers, settings: Comparison) -> pd.DataFrame:
    """Macro F1 of each organ model minus the reference's, percentage points: a row per model, a column per task."""
    rows = numbers.differences[numbers.differences["metric"] == METRIC]
    if rows.empty:
        return pd.DataFrame()
    table = -rows.pivot_table(index="model", columns="task", values="difference")
    models = [model for model in numbers.models if model in table.index and model != settings.reference]
    return table.reindex(index=models, columns=[task for task in numbers.tasks if task in table.columns])


def normalised(table: pd.DataFrame) -> pd.DataFrame:
    """Each column divided by its largest absolute value; a column of zeros stays zero."""
    largest = table.abs().max()
    return table / largest.where(largest > 0, 1)


def significant(numbers: Numbers, table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Where P, corrected by Holm's method, is below `level`."""
    rows = numbers.differences[numbers.differences["metric"] == METRIC]
    p = rows.pivot_table(index="model", columns="task", values=numbers.over.p_holm, dropna=False)
    return p.reindex_like(table) < level


def matrices(numbers: Numbers, settings: Comparison, own: Mapping[str, list[str]]) -> list[Block]:
    """B and C, side by side or one below the other."""
    table = differences(numbers, settings)
    marked = significant(numbers, table, 0.05)
    names = 2.0 + max(style.text_width(settings.models[model]) for model in table.index)
    titles = 3.0 + max(style.text_width(settings.tasks[task].title) for task in table.columns)
    free = WIDTH - names - 2 * BAR
    beside = free >= 2 * CELL[0] * len(table.columns)
    width = min(CELL[1], free / len(table.columns) / (2 if beside else 1))
    limit = float(np.nanmax(np.abs(table.to_numpy()))) or 1.0
    panels = [
        ("B", f"Difference of {METRICS[METRIC].words} (points)", table, limit, "+z.1f"),
        ("C", "Divided by the task's largest difference", normalised(table), 1.0, "+z.2f"),
    ]

    def draw_one(figure: Figure, top: float, number: int, left: float, named: bool) -> None:
        letter, heading, values, extreme, form = panels[number]
        page.panel_letter(figure, left if named else left - 5, top, letter, heading)
        axes_left = left + names if named else left
        axes = style.add_axes(
            figure, axes_left, top + page.HEADING + titles, width * len(table.columns), ROW * len(table)
        )
        draw_matrix(axes, values, marked, extreme, form, settings, own)
        if not named:
            axes.set_yticks([])
        bar = style.add_axes(
            figure, axes_left + width * len(table.columns) + 1.2, top + page.HEADING + titles, 2, ROW * len(table)
        )
        colour_bar(figure, bar, axes, extreme)

    def draw_both(figure: Figure, top: float) -> None:
        draw_one(figure, top, 0, MARGIN, named=True)
        first = names + width * len(table.columns) + BAR
        headed = 14.0 + style.text_width(panels[0][1], TITLE)
        draw_one(figure, top, 1, MARGIN + max(first, headed), named=False)

    height = page.HEADING + titles + ROW * len(table) + 2
    if beside:
        return [Block(height, draw_both)]
    return [Block(height, partial(draw_one, number=number, left=MARGIN, named=True)) for number in range(2)]


def draw_matrix(
    axes: Axes,
    values: pd.DataFrame,
    marked: pd.DataFrame,
    extreme: float,
    form: str,
    settings: Comparison,
    own: Mapping[str, list[str]],
) -> None:
    """Models (rows) and tasks (columns), each cell with its number; colours from -extreme to +extreme."""
    axes.imshow(values, cmap=COLOURS, vmin=-extreme, vmax=extreme, aspect="auto")
    axes.set_yticks(range(len(values)), [settings.models[str(model)] for model in values.index])
    titles = [settings.tasks[str(task)].title for task in values.columns]
    axes.set_xticks(range(len(titles)), titles, rotation=90)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    for row, model in enumerate(values.index):
        for column, task in enumerate(values.columns):
            value = float(values.to_numpy()[row, column])
            if np.isnan(value):
                axes.text(column, row, "n/a", ha="center", va="center", color=GREY)
                continue
            text = f"{value:{form}}".replace("-", "−") + ("*" if marked.to_numpy()[row, column] else "")
            dark = abs(value) > 0.6 * extreme
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=SMALL)
            if task in own.get(str(model), []):
                frame = Rectangle((column - 0.46, row - 0.44), 0.92, 0.88, fill=False, linewidth=0.9, edgecolor="black")
                axes.add_patch(frame)


def colour_bar(figure: Figure, bar: Axes, matrix: Axes, extreme: float) -> None:
    colours = figure.colorbar(matrix.images[0], cax=bar, ticks=[-extreme, 0, extreme])
    colours.outline.set_linewidth(0.4)
    end = f"{extreme:.0f}" if extreme >= 10 or extreme == 1 else f"{extreme:.1f}"
    bar.set_yticklabels([f"−{end}", "0", f"+{end}"])


def foot(numbers: Numbers, settings: Comparison, whole: Figure5Settings, pairs: bool) -> list[str]:
    sentences = []
    if pairs:
        sentences.append(f"A: n: test images. {notes.bars([numbers], whole.confidence)}")
        both = Comparison.model_validate(settings.model_dump() | {"against": []})
        sentences.append(notes.p_values(numbers, both).replace("the strongest other model", "the organ's model"))
    if not differences(numbers, settings).empty:
        sentences += [
            f"B: mean {METRICS[METRIC].words} over seeds minus that of {notes.reference_title(settings)}, percentage "
            f"points; frame: task of the model's organ; asterisk: P < .05, two-sided, {numbers.over.name}, corrected "
            "by Holm's method for all models and tasks.",
            "C: each task's differences divided by the largest absolute one, so that they lie between −1 and 1.",
        ]
    return sentences + notes.missing(whole, dict.fromkeys(whole.comparisons, numbers))


def drawn_numbers(numbers: Mapping[str, Numbers], settings: Figure5Settings) -> pd.DataFrame:
    """Everything drawn, one number per row; scores are percent, differences the model's minus the reference's."""
    (name, one), *_ = numbers.items()
    item = settings.comparisons[name]
    pairs = own_pairs(one, settings.own)
    keep = {*pairs, *((item.reference, task) for _, task in pairs)}
    scores = drawn.score_rows("A", "bars", one, [METRIC])
    scores = scores[[pair in keep for pair in zip(scores["model"], scores["task"], strict=True)]]
    compared = drawn.difference_rows("A", one, [METRIC], all_models=True)
    compared = compared[[pair in keep for pair in zip(compared["model"], compared["task"], strict=True)]]
    table = differences(one, item)
    tables = [scores, compared]
    for letter, quantity, values in (("B", "f1_difference", table), ("C", "normalised_difference", normalised(table))):
        rows = values.rename_axis(index="model").reset_index().melt("model", var_name="task").dropna()
        tables.append(rows.assign(panel=letter, chart="matrix", metric=METRIC, quantity=quantity))
    return drawn.combine(tables)


def main() -> None:
    options = drawn.parser("Draw Figure 5: models of one organ on tasks of all organs.").parse_args()
    settings = parse_settings(Figure5Settings, options.settings)
    numbers = read_comparisons(options.statistics, settings)
    drawn.save(options.output, draw(numbers, settings), drawn_numbers(numbers, settings), numbers, settings)


if __name__ == "__main__":
    run(main)
