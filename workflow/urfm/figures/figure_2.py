"""Figure 2: every model on every task (stage `figure_2`).

A: mean accuracy, macro F1 and AUROC over the tasks, and one radar chart per metric. B superficial, C
abdominal, D other organs: for each task accuracy and F1 with intervals and P, and the ROC curves. All
numbers come from the `statistics` stage; the CSV holds exactly what is drawn, in percent.

A comparison of one's own is drawn alike. Its `metric` stands first and always has bars and P, AUROC too. If it has one
task, a mean over tasks has nothing to add: the task takes the whole width, with bars of every metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from pydantic import Field

from urfm.core.cli import parse_settings, run
from urfm.core.progress import say
from urfm.figures import notes, page, style
from urfm.figures.bars import bar, level
from urfm.figures.output import arguments, save
from urfm.figures.page import HEADING, MARGIN, WIDTH, Block
from urfm.figures.read import (
    Comparison,
    Numbers,
    read_numbers,
    records,
    unavailable,
)
from urfm.figures.style import GREY, LABEL, Appearance
from urfm.figures.task_panel import Place, draw_task
from urfm.metrics import METRICS, MetricName, led_by

ABREAST = 3  # metrics of A side by side
MEANS = 29.0  # mm, their means with the heading above
GROUPS = {"superficial": "Superficial organs", "abdominal": "Abdominal organs", "other": "Other organs"}
WIDEST_CELL = 112.0
CELL_HEIGHT = 34.5  # mm, a task's title, n, bars and curves
WIDE_HEIGHT, WIDE_ROC = 44.0, 42.0  # mm, of a task that is alone


class Figure2Settings(Comparison):
    """Settings of the stage."""

    metric: MetricName | None = Field(default=None, description="which stands first; none: the paper's order")
    own: bool = Field(default=False, description="no figure of the paper: panels are lettered one after another")
    confidence: float = Field(gt=0, lt=1)
    dpi: int = Field(ge=72, description="resolution of the PNG")


def draw(numbers: Numbers, settings: Figure2Settings) -> Figure:
    """The whole figure; its height follows from the number of tasks, models and notes."""
    lines = {model: settings.lines[model] for model in numbers.line_means.index}
    shown = {model: settings.models[model] for model in numbers.models} | lines
    titles = style.stand_in_titles(shown, numbers.stand_ins)
    looks = style.appearances(list(settings.models)) | style.line_appearances(list(lines))
    blocks = [page.legend_block(titles, looks)]
    if is_single(numbers, settings):
        place = Place(MARGIN, 0, WIDTH, WIDE_HEIGHT, WIDE_ROC)

        def draw_single(figure: Figure, top: float) -> None:
            bars = bars_of(numbers, settings)
            draw_task(figure, place._replace(top=top), bars, numbers.tasks[0], numbers, settings, looks)

        return page.compose([*blocks, Block(WIDE_HEIGHT, draw_single)], foot(numbers, settings), numbers.simulated)
    blocks.append(summary_block(numbers, settings, looks))
    columns = min(3 if len(bars_of(numbers, settings)) <= 2 else 2, len(numbers.tasks))
    for cells in rows_of(panels_of(numbers.tasks, settings), columns):
        headed = HEADING if any(heading for heading, _ in cells) else 0
        row = partial(
            draw_row, headed=headed, width=WIDTH / columns, cells=cells, numbers=numbers, settings=settings, looks=looks
        )
        blocks.append(Block(headed + CELL_HEIGHT, row))
    return page.compose(blocks, foot(numbers, settings), numbers.simulated)


def is_single(numbers: Numbers, settings: Figure2Settings) -> bool:
    """Whether one task is all there is to draw; figure 2 keeps its panels then."""
    return settings.own and len(numbers.tasks) == 1


def bars_of(numbers: Numbers, settings: Figure2Settings) -> list[str]:
    """The metrics that have bars in each task: AUROC has curves, and bars too where it leads or there is room."""
    roomy = is_single(numbers, settings) or settings.metric == "auroc"
    return [metric for metric in led_by(settings.metric) if metric != "auroc" or roomy]


def averaged(numbers: Numbers) -> list[str]:
    """The tasks of A: those where every model has a metric, such as accuracy where AUROC is undefined."""
    return [task for task in numbers.tasks if any(task in common for common in numbers.common.values())]


def has_radar(numbers: Numbers) -> bool:
    """Whether there are tasks enough for radar charts."""
    return len(averaged(numbers)) >= 3


def summary_block(numbers: Numbers, settings: Figure2Settings, looks: Mapping[str, Appearance]) -> Block:
    """A: for each metric the means over tasks, and a radar chart or dots below them."""
    if not averaged(numbers):
        return page.heading_block("A", "Summary: no task has a result of every model")
    charts = 45.0 if has_radar(numbers) else 9.0 + 2.0 * len(averaged(numbers)) * max(2.5, len(numbers.models))
    height = MEANS + charts + 1

    def draw_summary(figure: Figure, top: float) -> None:
        page.panel_letter(figure, MARGIN, top, "A", summary_heading(numbers))
        for number, metric in enumerate(led_by(settings.metric)):
            row, column = divmod(number, ABREAST)
            draw_metric(figure, top + row * height, column, charts, metric, numbers, settings, looks)

    return Block(height * math.ceil(len(METRICS) / ABREAST), draw_summary)


def draw_metric(
    figure: Figure,
    top: float,
    column: int,
    charts: float,
    metric: str,
    numbers: Numbers,
    settings: Figure2Settings,
    looks: Mapping[str, Appearance],
) -> None:
    """Bars of the means, and below them a radar chart or dots, `charts` mm high."""
    left = MARGIN + column * WIDTH / ABREAST
    if not numbers.common[metric]:
        said = f"{METRICS[metric].short}: undefined on every task"
        style.add_text(figure, left + 6, top + 9, said, color=GREY)
        return
    mean_bars(style.add_axes(figure, left + 6, top + 9, WIDTH / ABREAST - 8, 19), numbers, looks, metric)
    top += MEANS
    if has_radar(numbers):
        style.add_text(figure, left + 1, top + 2.5, f"{METRICS[metric].short} (%)", LABEL)
        if len(numbers.common[metric]) < 3:
            style.add_text(figure, left + 1, top + 6, "fewer than three tasks", color=GREY)
            return
        axes = style.add_axes(figure, left + WIDTH / ABREAST / 2 - 14, top + 8, 28, 28, projection="polar")
        radar_chart(axes, numbers, settings, looks, metric)
    else:
        named = 24.0
        width = (WIDTH - named) / ABREAST - 6
        axes = style.add_axes(figure, MARGIN + named + column * (width + 6), top + 1, width, charts - 9)
        dot_plot(axes, numbers, settings, looks, metric, named=column == 0)


def draw_row(
    figure: Figure,
    top: float,
    headed: float,
    width: float,
    cells: Sequence[tuple[tuple[str, str] | None, str]],
    numbers: Numbers,
    settings: Figure2Settings,
    looks: Mapping[str, Appearance],
) -> None:
    """Tasks side by side, `headed` mm below the letters of the panels that start here."""
    for column, (heading, task) in enumerate(cells):
        left = MARGIN + column * width
        if heading:
            page.panel_letter(figure, left, top, *heading)
        cell_width = min(width, WIDEST_CELL)
        place = Place(left, top + headed, cell_width, CELL_HEIGHT, min(30.0, 0.34 * cell_width))
        draw_task(figure, place, bars_of(numbers, settings), task, numbers, settings, looks)


def panels_of(tasks: Sequence[str], settings: Figure2Settings) -> list[tuple[str, str, list[str]]]:
    """(letter, heading, tasks) of each group that has a task; B to D as in the paper, others after them."""
    described = settings.tasks
    own = [g for g in dict.fromkeys(task.group for task in described.values()) if g not in GROUPS]
    headings = GROUPS | {group: group.capitalize() for group in own}
    panels: list[tuple[str, str, list[str]]] = []
    for number, (group, heading) in enumerate(headings.items()):
        members = [task for task in tasks if described[task].group == group]
        if members:
            panels.append((chr(ord("B") + (len(panels) if settings.own else number)), heading, members))
    return panels


def rows_of(
    panels: Sequence[tuple[str, str, list[str]]], columns: int
) -> list[list[tuple[tuple[str, str] | None, str]]]:
    """Cells row by row, each with the panel's letter and heading where one starts.

    A panel starts in the row of the one before when it fits there whole, otherwise in a new row.
    """
    rows: list[list[tuple[tuple[str, str] | None, str]]] = []
    for letter, heading, tasks in panels:
        if not rows or len(rows[-1]) + len(tasks) > columns:
            rows.append([])
        for place, task in enumerate(tasks):
            if len(rows[-1]) == columns:
                rows.append([])
            rows[-1].append(((letter, heading) if place == 0 else None, task))
    return rows


def summary_heading(numbers: Numbers) -> str:
    count = len(averaged(numbers))
    return f"Mean over {count} tasks" if count > 1 else "One task (a mean over tasks needs more)"


def mean_bars(axes: Axes, numbers: Numbers, looks: Mapping[str, Appearance], metric: str) -> None:
    """One bar per model with its value above, and the lines."""
    means, lines = numbers.means[metric], numbers.line_means[metric]
    best, high = float(means.max()), float(max([*means, *lines]))
    low, step = style.bar_scale(float(min([*means, *lines])), high)
    tasks = len(numbers.common[metric])
    fewer = f", {tasks} task{'s' * (tasks > 1)}" if tasks < len(averaged(numbers)) else ""
    axes.set_title(f"{'Mean ' if tasks > 1 else ''}{METRICS[metric].short} (%){fewer}", pad=2)
    for place, (model, value) in enumerate(means.items()):
        bar(axes, place, value, low, 0.78, looks[str(model)])
        axes.annotate(
            f"{value:.1f}", (place, value), (0, 1.2), textcoords="offset points", ha="center",
            weight="bold" if value == best else "normal", path_effects=[withStroke(linewidth=1.5, foreground="white")],
        )  # fmt: skip
    room = max(0.0, (6 - len(means)) / 2)  # few bars stay slim
    ends = -0.65 - room, len(means) - 0.35 + room
    for model, value in lines.items():
        level(axes, *ends, value, looks[str(model)])
    axes.set(xlim=ends, ylim=(low, low + (high - low) * 1.16), xticks=[])
    style.percent_ticks(axes, low, high, step)
    if low > 0:
        style.break_bars(axes)


def radar_floor(numbers: Numbers, metric: str) -> float:
    """Percent at the centre of a radar chart: a multiple of 20 clear of the lowest score."""
    rows = numbers.scores[(numbers.scores["metric"] == metric) & numbers.scores["task"].isin(numbers.common[metric])]
    return max(0.0, math.floor((float(rows["mean"].min()) - 4) / 20) * 20.0)


def radar_chart(
    axes: Axes, numbers: Numbers, settings: Figure2Settings, looks: Mapping[str, Appearance], metric: str
) -> None:
    """A spoke per task, a polygon per model; the centre is the lowest ring, which is labelled."""
    tasks = numbers.common[metric]
    values = records(numbers.scores[numbers.scores["metric"] == metric], "model", "task")
    low = radar_floor(numbers, metric)
    angles = np.arange(len(tasks)) * 2 * np.pi / len(tasks)
    axes.set_theta_zero_location("N")  # type: ignore[attr-defined]
    axes.set_theta_direction(-1)  # type: ignore[attr-defined]
    for model in reversed(numbers.models):
        look = looks[model]
        points = np.array([values[(model, task)]["mean"] for task in tasks])
        main = model == settings.reference
        axes.plot(
            np.r_[angles, angles[0]], np.r_[points, points[0]], color=look.color, linestyle=look.line,
            linewidth=1.1 if main else 0.7, marker=look.marker, markersize=2.4 if main else 1.8,
            markeredgewidth=0, zorder=4 if main else 3, clip_on=False,
        )  # fmt: skip
    rings = np.arange(low, 101, 10 if 100 - low <= 40 else 20)
    axes.set_ylim(low, 100)
    axes.set_yticks(rings, [])
    axes.set_xticks(angles, [])
    axes.grid(color="#C8C8C8", linewidth=0.4)
    axes.spines["polar"].set(color="#808080", linewidth=0.5)
    between = np.pi / len(tasks)
    for ring in rings[1:-1] if len(rings) <= 5 else rings[2:-1:2]:
        axes.text(between, ring, f"{ring:.0f}", color=GREY, ha="center", va="center", zorder=2)
    for angle, task in zip(angles, tasks, strict=True):
        across, up = math.sin(angle), math.cos(angle)
        lines = style.wrap(settings.tasks[task].title, 12)
        axes.text(
            angle,
            100 + (100 - low) * (0.07 + 0.03 * abs(up)),
            "\n".join(lines),
            linespacing=1.05,
            ha="center" if abs(across) < 0.1 else ("left" if across > 0 else "right"),
            va="center" if abs(up) < 0.45 else ("bottom" if up > 0 else "top"),
        )


def dot_plot(
    axes: Axes,
    numbers: Numbers,
    settings: Figure2Settings,
    looks: Mapping[str, Appearance],
    metric: str,
    named: bool,
) -> None:
    """Means over seeds, a row per task, in it a line per model; stands in for a radar of fewer than three tasks."""
    rows = records(numbers.scores[numbers.scores["metric"] == metric], "model", "task")
    step = 0.8 / max(1, len(numbers.models))
    tasks = averaged(numbers)
    for place, task in enumerate(tasks):
        for number, model in enumerate(numbers.models if task in numbers.common[metric] else ()):
            row, look = rows[(model, task)], looks[model]
            y = place + (number - (len(numbers.models) - 1) / 2) * step
            axes.plot(np.clip([row["ci_low"], row["ci_high"]], 0, 100), [y, y], color=look.color, linewidth=0.8)
            axes.plot([row["mean"]], [y], marker=look.marker, color=look.color, markersize=3, markeredgewidth=0)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    titles = ["\n".join(style.wrap(settings.tasks[task].title, 20)) for task in tasks]
    axes.set_yticks(range(len(tasks)), titles if named else [])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{METRICS[metric].short} (%)")
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, 0), min(high, 100))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    for line in np.arange(len(tasks) - 1) + 0.5:
        axes.axhline(line, color="#BBBBBB", linewidth=0.4)


def means_note(numbers: Numbers, settings: Figure2Settings) -> str:
    """What A shows."""
    tasks = averaged(numbers)
    if not tasks:
        return "A: not drawn, because no task has a result of every model."
    missing = [settings.tasks[t].title for t in numbers.tasks if t not in tasks]
    said = "A: unweighted mean of the tasks' means over seeds, without interval"
    if len(numbers.tasks) == 1:
        said = "A: the task's mean over seeds"
    if missing:
        said += f"; without {', '.join(missing)}, where a model has no result"
    for metric in led_by(settings.metric):
        if undefined := [undefined_on(task, numbers, settings) for task in tasks if task not in numbers.common[metric]]:
            said += f"; {METRICS[metric].short} without {', '.join(undefined)}"
    if has_radar(numbers):
        charts = [name for name in led_by(settings.metric) if len(numbers.common[name]) >= 3]
        floors = [f"{METRICS[name].short} {radar_floor(numbers, name):g} %" for name in charts]
        return f"{said}. Radar charts: the centre is {', '.join(floors)}."
    said += ". Dot plots stand for radar charts, which need three tasks"
    if notes.several_seeds([numbers]):
        said += f"; their lines are {100 * settings.confidence:g} % t intervals over seeds"
    return f"{said}."


def undefined_on(task: str, numbers: Numbers, settings: Figure2Settings) -> str:
    """A task where a metric of every model is undefined, and why."""
    names = [settings.classes.get(task, {}).get(label, label) for label in numbers.absent.get(task, [])]
    why = f"no test image is of class {' or '.join(names)}" if names else "some seed's test part lacks a class"
    return f"{settings.tasks[task].title} ({why})"


def foot(numbers: Numbers, settings: Figure2Settings) -> list[str]:
    """The sentences below the figure: what is drawn, what is not."""
    sentences = [] if is_single(numbers, settings) else [means_note(numbers, settings)]
    sentences.append(notes.bars([numbers], settings.confidence))
    sentences += notes.lines([settings.lines[model] for model in numbers.line_means.index])
    sentences.append(notes.p_values(numbers, settings))
    sentences += style.stand_in_note(settings.models | settings.lines, numbers.stand_ins)
    sentences += notes.warnings([(settings, numbers)])
    sentences.append(notes.roc([(settings, numbers)]))
    return sentences + settings.notes + style.note_unavailable(unavailable(settings, numbers))


def drawn_numbers(numbers: Numbers, settings: Figure2Settings) -> pd.DataFrame:
    """Everything drawn, one number per row: panel, chart, task, model, metric, quantity, x, value, positive.

    Scores, areas and rates are percent; `x` is the false positive rate of a ROC curve's point; P values
    and counts are as they are; rows of a comparison name the strongest other model. `positive` is the class
    that is positive in a curve, empty elsewhere and in curves over several classes.
    """
    single = is_single(numbers, settings)
    letters = {
        task: "" if single else letter for letter, _, tasks in panels_of(numbers.tasks, settings) for task in tasks
    }
    metrics, bars = led_by(settings.metric), bars_of(numbers, settings)
    rows: list[tuple[object, ...]] = []
    for chart, values in (("mean", numbers.means), ("line", numbers.line_means)):
        for model, means in values.iterrows() if not single else ():
            rows.extend(
                ("A", chart, "", model, metric, "mean_over_tasks", None, means[metric])
                for metric in metrics
                if numbers.common[metric]
            )
    quantities = [*numbers.over.score, "seeds", "images", "patients"]
    for task in numbers.tasks:
        scores = records(numbers.scores[numbers.scores["task"] == task], "model", "metric")
        for model in numbers.models:
            for metric in metrics:
                if (model, metric) in scores:
                    row = scores[(model, metric)]
                    chart = "bars" if metric in bars else "roc"
                    rows.extend((letters[task], chart, task, model, metric, q, None, row[q]) for q in quantities)
        lines = records(numbers.lines[numbers.lines["task"] == task], "model", "metric")
        for (model, metric), row in lines.items():
            if metric in bars:
                rows.extend((letters[task], "line", task, model, metric, q, None, row[q]) for q in quantities)
    comparisons = records(numbers.comparisons, "task", "metric")
    for task, metric in ((task, metric) for task in numbers.tasks for metric in bars):
        if (task, metric) in comparisons:
            row = comparisons[(task, metric)]
            rows.extend(
                (letters[task], "comparison", task, row["model"], metric, q, None, row[q])
                for q in numbers.over.difference
            )
    for task in numbers.tasks:
        for model in numbers.models:
            points = numbers.curves.query("task == @task and model == @model")
            rows.extend(
                (letters[task], "roc", task, model, "auroc", "tpr", x, y, positive)
                for x, y, positive in zip(points["fpr"], points["tpr"], points["positive"], strict=True)
            )
    columns = ["panel", "chart", "task", "model", "metric", "quantity", "x", "value", "positive"]
    table = pd.DataFrame([(*row, "")[: len(columns)] for row in rows], columns=columns)
    table[["x", "value"]] = table[["x", "value"]].astype(float).round(6)
    return table


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw Figure 2, or another comparison like it: every model on every task.")
    parser.add_argument("--statistics", type=Path, required=True, help="folder of the statistics stage")
    options = parser.parse_args()
    settings = parse_settings(Figure2Settings, options.settings)
    numbers = read_numbers(options.statistics, settings)
    save(options.output, draw(numbers, settings), settings.dpi, drawn_numbers(numbers, settings))
    say(
        f"{options.output.name}: {len(numbers.tasks)} task(s), {len(numbers.models)} model(s)"
        f"{', simulated data' if numbers.simulated else ''}; written to {options.output}.pdf, .png and .csv"
    )


if __name__ == "__main__":
    run(main)
