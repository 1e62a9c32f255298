"""Figure 2: every model on every task (stage `figure_2`).

A: mean accuracy, macro F1 and AUROC over the tasks, and one radar chart a metric. B superficial, C
abdominal, D other organs: for each task accuracy and F1 with intervals and P, and the ROC curves. All
numbers come from the `statistics` stage; the CSV holds exactly what is drawn, in percent.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pydantic import Field, field_validator

from urfm.cli import Settings, parse_settings, run
from urfm.errors import UrfmError
from urfm.figures import style
from urfm.figures.style import DOUBLE_COLUMN, GREY, LABEL, LINE, SMALL, TITLE, Appearance, Unavailable
from urfm.files import read_json, verify_sha256, write_csv
from urfm.progress import say

METRICS = {"accuracy": "ACC", "f1_macro": "F1", "auroc": "AUC"}
BARS = ("accuracy", "f1_macro")
GROUPS = {"superficial": "Superficial organs", "abdominal": "Abdominal organs", "other": "Other organs"}
INTERVAL = ["mean", "ci_low", "ci_high", "ensemble", "boot_low", "boot_high"]
MARGIN = 2.5  # mm
HEADING = 5.0  # mm, a panel's letter and heading
LEGEND_ROW = 4.2
WIDEST_CELL = 112.0
CELL_HEIGHT = 34.5  # mm, a task's title, n, bars and curves


class Task(Settings):
    """A task as the figure names it."""

    title: str
    group: str


class Figure2Settings(Settings):
    """Settings of the stage."""

    models: dict[str, str] = Field(min_length=1, description="[name, title] of each model, in the order of the bars")
    reference: str = Field(description="model that P values compare with the strongest other one")
    tasks: dict[str, Task] = Field(min_length=1, description="[name, title, group] of each task, in order")
    unavailable: list[Unavailable] = Field(default=[], description="tasks and models not available, with the reason")
    notes: list[str] = Field(default=[], description="sentences for the foot of the figure")
    confidence: float = Field(gt=0, lt=1)
    dpi: int = Field(ge=72, description="resolution of the PNG")

    @field_validator("models", mode="before")
    @classmethod
    def _ordered_models(cls, models: Any) -> Any:
        # Canonical JSON sorts the keys of objects, so what has an order comes as a list.
        return dict(models) if isinstance(models, list) else models

    @field_validator("tasks", mode="before")
    @classmethod
    def _ordered_tasks(cls, tasks: Any) -> Any:
        if not isinstance(tasks, list):
            return tasks
        return {name: {"title": title, "group": group} for name, title, group in tasks}


@dataclass(frozen=True)
class Numbers:
    """What is drawn, in percent.

    scores: model, task, metric, the columns of INTERVAL, seeds, images, patients (NaN: not known), simulated.
    comparisons: task, metric, model (the strongest other one), difference, boot_difference, boot_low,
    boot_high and the P values t_p, t_p_holm, boot_p, boot_p_holm (not percent). curves: model, task, fpr, tpr, auroc.
    means: index model, a column a metric, over `common` tasks. stand_ins: models that stand in for a checkpoint.
    """

    scores: pd.DataFrame
    comparisons: pd.DataFrame
    curves: pd.DataFrame
    means: pd.DataFrame
    common: list[str]
    models: list[str]
    tasks: list[str]
    simulated: bool
    stand_ins: list[str]
    t_test: str
    resamples: int


def read_numbers(folder: Path, settings: Figure2Settings) -> Numbers:
    """Read the statistics the figure draws; UrfmError when they are changed or hold none of its tasks."""
    record = read_json(folder / "statistics.json")
    for name, digest in record["sha256"].items():
        verify_sha256(folder / name, digest)
    scores, differences, curves = (
        table[table["model"].isin(settings.models) & table["task"].isin(settings.tasks)].copy()
        for table in (pd.read_parquet(folder / f"{name}.parquet") for name in ("scores", "differences", "curves"))
    )
    if scores.empty:
        raise UrfmError(
            f"{folder}: holds no score of this figure's tasks ({', '.join(settings.tasks)}) and models "
            f"({', '.join(settings.models)}); the first lines of every run say what is available"
        )
    percent = ["mean", "sd", "ci_low", "ci_high", "ensemble", "boot_low", "boot_high"]
    scores[percent] *= 100
    scores["patients"] = scores["patients"].astype("float64")
    differences[["difference", "boot_difference", "boot_low", "boot_high"]] *= 100
    curves[["fpr", "tpr", "auroc"]] *= 100
    models = [model for model in settings.models if model in set(scores["model"])]
    tasks = [task for task in settings.tasks if task in set(scores["task"])]
    wide = scores.pivot_table(index=["task", "metric"], columns="model", values="mean", dropna=False)
    complete = wide.notna().all(axis=1).groupby("task").all()
    common = [task for task in tasks if complete.get(task, False)]
    rows = scores[scores["task"].isin(common)]
    means = rows.pivot_table(index="model", columns="metric", values="mean").reindex(index=models, columns=[*METRICS])
    return Numbers(
        scores=scores,
        comparisons=strongest(scores, differences, settings.reference),
        curves=curves,
        means=means,
        common=common,
        models=models,
        tasks=tasks,
        simulated=bool(scores["simulated"].any()),
        stand_ins=record.get("stand_ins", []),
        t_test=record["settings"]["t_test"],
        resamples=record["settings"]["bootstrap_resamples"],
    )


def strongest(scores: pd.DataFrame, differences: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The difference to the strongest other model (highest mean over seeds), a row a task and metric."""
    others = scores[(scores["model"] != reference) & scores["mean"].notna()]
    best = others.loc[others.groupby(["task", "metric"])["mean"].idxmax(), ["task", "metric", "model"]]
    return best.merge(differences, on=["task", "metric", "model"], how="inner")


def draw(numbers: Numbers, settings: Figure2Settings) -> Figure:
    """The whole figure; its height follows from the number of tasks, models and notes."""
    titles = style.stand_in_titles({model: settings.models[model] for model in numbers.models}, numbers.stand_ins)
    looks = style.appearances(list(settings.models))
    radar = len(numbers.common) >= 3
    panels = panels_of(numbers.tasks, settings.tasks)
    columns = min(3, len(numbers.tasks))
    rows = rows_of(panels, columns)
    foot = [
        line
        for sentence in notes(numbers, settings, radar)
        for line in style.wrap(sentence, DOUBLE_COLUMN - 2 * MARGIN)
    ]
    legend = legend_rows(titles)

    # From top to bottom, in millimetres.
    legend_top = style.SIMULATED_BAND if numbers.simulated else 1.5
    summary_top = legend_top + LEGEND_ROW * len(legend) + 1
    charts_top = summary_top + (29 if numbers.common else HEADING)
    charts_height = 45.0 if radar else 9.0 + 2.0 * len(numbers.common) * max(2.5, len(titles))
    top = charts_top + (charts_height + 1 if numbers.common else 0)
    row_tops = []
    for row in rows:
        top += HEADING if any(heading for heading, _ in row) else 0
        row_tops.append(top)
        top += CELL_HEIGHT
    figure = style.new_figure(DOUBLE_COLUMN, top + 1 + LINE * len(foot) + 1.5)

    if numbers.simulated:
        style.mark_simulated(figure)
    draw_legend(figure, legend_top, legend, titles, looks)
    panel_letter(figure, MARGIN, summary_top, "A", summary_heading(numbers))
    block = (DOUBLE_COLUMN - 2 * MARGIN) / 3
    for place, metric in enumerate(METRICS if numbers.common else ()):
        left = MARGIN + place * block
        mean_bars(style.add_axes(figure, left + 6, summary_top + 9, block - 8, 19), numbers, looks, metric)
        if radar:
            style.add_text(figure, left + 1, charts_top + 2.5, f"{METRICS[metric]} (%)", LABEL)
            axes = style.add_axes(figure, left + block / 2 - 14, charts_top + 8, 28, 28, projection="polar")
            radar_chart(axes, numbers, settings, looks, metric)
        else:
            named = 24.0
            width = (DOUBLE_COLUMN - 2 * MARGIN - named) / 3 - 6
            dots = style.add_axes(
                figure, MARGIN + named + place * (width + 6), charts_top + 1, width, charts_height - 9
            )
            dot_plot(dots, numbers, settings, looks, metric, named=place == 0)
    cell_width = (DOUBLE_COLUMN - 2 * MARGIN) / columns
    for cells, row_top in zip(rows, row_tops, strict=True):
        for place, (heading, task) in enumerate(cells):
            left = MARGIN + place * cell_width
            if heading:
                panel_letter(figure, left, row_top - HEADING, *heading)
            draw_task(figure, left, row_top, min(cell_width, WIDEST_CELL), task, numbers, settings, looks)
    top += 1
    for number, line in enumerate(foot):
        style.add_text(figure, MARGIN, top + LINE * number, line, color="#333333")
    return figure


def panels_of(tasks: Sequence[str], described: Mapping[str, Task]) -> list[tuple[str, str, list[str]]]:
    """(letter, heading, tasks) of each group that has a task; B to D as in the paper, others after them."""
    own = [g for g in dict.fromkeys(task.group for task in described.values()) if g not in GROUPS]
    headings = GROUPS | {group: group.capitalize() for group in own}
    panels = []
    for number, (group, heading) in enumerate(headings.items()):
        members = [task for task in tasks if described[task].group == group]
        if members:
            panels.append((chr(ord("B") + number), heading, members))
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


def panel_letter(figure: Figure, left: float, top: float, letter: str, heading: str) -> None:
    style.add_text(figure, left, top, letter, TITLE + 1, weight="bold")
    style.add_text(figure, left + 4.5, top + 0.35, heading, TITLE)


def summary_heading(numbers: Numbers) -> str:
    if not numbers.common:
        return "Summary: no task has a result of every model"
    count = len(numbers.common)
    return f"Mean over {count} tasks" if count > 1 else "One task (a mean over tasks needs more)"


def legend_rows(titles: Mapping[str, str]) -> list[list[str]]:
    """Models of each row of the legend, as many as fit across the page."""
    rows: list[list[str]] = [[]]
    used = 0.0
    for model, title in titles.items():
        width = 11 + style.text_width(title, LABEL)
        if rows[-1] and used + width > DOUBLE_COLUMN - 2 * MARGIN:
            rows.append([])
            used = 0.0
        rows[-1].append(model)
        used += width
    return rows


def draw_legend(
    figure: Figure,
    top: float,
    rows: Sequence[Sequence[str]],
    titles: Mapping[str, str],
    looks: Mapping[str, Appearance],
) -> None:
    """Bar, line and marker of each model with its title, centred."""
    for number, row in enumerate(rows):
        widths = [11 + style.text_width(titles[model], LABEL) for model in row]
        left = (DOUBLE_COLUMN - sum(widths)) / 2
        for model, width in zip(row, widths, strict=True):
            look = looks[model]
            axes = style.add_axes(figure, left, top + LEGEND_ROW * number, 8, 3)
            axes.set(xlim=(0, 8), ylim=(0, 3))
            axes.axis("off")
            axes.bar(1.2, 2.4, width=2, bottom=0.3, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0)
            axes.plot([3, 7.6], [1.5, 1.5], color=look.color, linestyle=look.line)
            axes.plot([5.3], [1.5], color=look.color, marker=look.marker, markersize=3.2, markeredgewidth=0)
            style.add_text(figure, left + 8.4, top + LEGEND_ROW * number + 0.15, titles[model], LABEL)
            left += width


def records(table: pd.DataFrame, first: str, second: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of a table by the values of two columns."""
    rows = table.to_dict("records")
    return {(row[first], row[second]): {str(name): value for name, value in row.items()} for row in rows}


def mean_bars(axes: Axes, numbers: Numbers, looks: Mapping[str, Appearance], metric: str) -> None:
    """One bar a model with its value above."""
    means = numbers.means[metric]
    high = float(means.max())
    low, step = style.bar_scale(float(means.min()), high)
    axes.set_title(f"{'Mean ' if len(numbers.common) > 1 else ''}{METRICS[metric]} (%)", pad=2)
    for place, (model, value) in enumerate(means.items()):
        bar(axes, place, value, low, 0.78, looks[str(model)])
        weight = "bold" if value == high else "normal"
        axes.annotate(f"{value:.1f}", (place, value), (0, 1.2), textcoords="offset points", ha="center", weight=weight)
    room = max(0.0, (6 - len(means)) / 2)  # few bars stay slim
    axes.set(xlim=(-0.65 - room, len(means) - 0.35 + room), ylim=(low, low + (high - low) * 1.16), xticks=[])
    style.percent_ticks(axes, low, high, step)
    if low > 0:
        style.break_bars(axes)


def bar(axes: Axes, place: float, value: float, low: float, width: float, look: Appearance) -> None:
    axes.bar(place, value - low, width, bottom=low, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0)


def radar_floor(numbers: Numbers, metric: str) -> float:
    """Percent at the centre of a radar chart: a multiple of 20 clear of the lowest score."""
    rows = numbers.scores[(numbers.scores["metric"] == metric) & numbers.scores["task"].isin(numbers.common)]
    return max(0.0, math.floor((float(rows["mean"].min()) - 4) / 20) * 20.0)


def radar_chart(
    axes: Axes, numbers: Numbers, settings: Figure2Settings, looks: Mapping[str, Appearance], metric: str
) -> None:
    """A spoke a task, a polygon a model; the centre is the lowest ring, which is labelled."""
    tasks = numbers.common
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
    """Means over seeds, a row a task, a line within it a model; stands in for a radar of fewer than three tasks."""
    rows = records(numbers.scores[numbers.scores["metric"] == metric], "model", "task")
    step = 0.8 / max(1, len(numbers.models))
    for place, task in enumerate(numbers.common):
        for number, model in enumerate(numbers.models):
            row, look = rows[(model, task)], looks[model]
            y = place + (number - (len(numbers.models) - 1) / 2) * step
            axes.plot(np.clip([row["ci_low"], row["ci_high"]], 0, 100), [y, y], color=look.color, linewidth=0.8)
            axes.plot([row["mean"]], [y], marker=look.marker, color=look.color, markersize=3, markeredgewidth=0)
    axes.set_ylim(len(numbers.common) - 0.5, -0.5)
    titles = ["\n".join(style.wrap(settings.tasks[task].title, 20)) for task in numbers.common]
    axes.set_yticks(range(len(numbers.common)), titles if named else [])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{METRICS[metric]} (%)")
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, 0), min(high, 100))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    for line in np.arange(len(numbers.common) - 1) + 0.5:
        axes.axhline(line, color="#BBBBBB", linewidth=0.4)


def draw_task(
    figure: Figure,
    left: float,
    top: float,
    width: float,
    task: str,
    numbers: Numbers,
    settings: Figure2Settings,
    looks: Mapping[str, Appearance],
) -> None:
    """Title, n, bars with intervals and P, and ROC curves of one task in a block `width` mm wide."""
    scores = numbers.scores[numbers.scores["task"] == task]
    one = scores.iloc[0]
    low_seeds, high_seeds = scores["seeds"].min(), scores["seeds"].max()
    seeds = f"{high_seeds}" if low_seeds == high_seeds else f"{low_seeds} to {high_seeds}"
    style.add_text(figure, left + 1, top, settings.tasks[task].title, LABEL, weight="bold")
    if scores["simulated"].any():
        after = left + 3 + style.text_width(settings.tasks[task].title, LABEL, "bold")
        style.add_text(figure, after, top + 0.3, "simulated", color=style.WARNING)
    patients = "patients unknown" if math.isnan(one["patients"]) else f"{one['patients']:,.0f} patients"
    count = f"n = {one['images']:,} images, {patients}, {seeds} seed{'s' if high_seeds > 1 else ''}"
    style.add_text(figure, left + 1, top + 3.1, count, color=GREY)
    roc_width = min(30.0, 0.34 * width)
    bars = style.add_axes(figure, left + 5.5, top + 6, width - roc_width - 15.5, CELL_HEIGHT - 11)
    task_bars(bars, scores, numbers, task, looks, settings)
    roc_height = CELL_HEIGHT - 15
    areas = areas_fit(numbers.curves[numbers.curves["task"] == task], roc_width, roc_height)
    curves = style.add_axes(
        figure, left + width - roc_width - 1.5, top + 7.5, roc_width - (0 if areas else 8.5), roc_height
    )
    roc_curves(curves, numbers, task, looks, inside=areas)


def task_bars(
    axes: Axes,
    scores: pd.DataFrame,
    numbers: Numbers,
    task: str,
    looks: Mapping[str, Appearance],
    settings: Figure2Settings,
) -> None:
    """ACC and F1 of every model: bar = mean over seeds, left line = over seeds, right diamond = over patients."""
    shown = scores[scores["metric"].isin(BARS)]
    # With two or three seeds a t interval may leave the range of a score.
    drawn = shown[INTERVAL].clip(0, 100)
    rows = records(shown.assign(**{name: drawn[name] for name in INTERVAL}), "metric", "model")
    high = float(np.nanmax(drawn))
    low, step = style.bar_scale(float(np.nanmin(drawn)), high)
    models = [model for model in numbers.models if model in set(scores["model"])]
    slots, gap = max(5, len(models)), 1.3  # few bars stay slim
    centres = [(slots - 1) / 2 + number * (slots + gap) for number in range(len(BARS))]
    places: dict[tuple[str, str], float] = {}
    for number, metric in enumerate(BARS):
        for place, model in enumerate(models):
            x = centres[number] - (len(models) - 1) / 2 + place
            places[(metric, model)] = x
            row, look = rows[(metric, model)], looks[model]
            bar(axes, x, row["mean"], low, 0.86, look)
            axes.plot([x - 0.2] * 2, [row["ci_low"], row["ci_high"]], color="black", linewidth=0.9, zorder=4)
            axes.plot([x + 0.2] * 2, [row["boot_low"], row["boot_high"]], color=GREY, linewidth=0.5, zorder=4)
            axes.plot(
                [x + 0.2], [row["ensemble"]], marker="D", markersize=1.9, color="white", markeredgecolor="black",
                markeredgewidth=0.4, zorder=5,
            )  # fmt: skip
    # The upper part of the panel is kept for bracket and P.
    _, height = style.size_mm(axes)
    top = low + (high - low) * height / (height - 8.0)
    millimetre = (top - low) / height
    axes.set(xlim=(-0.8, 2 * slots + gap - 0.2), ylim=(low, top))
    comparisons = records(numbers.comparisons, "task", "metric")
    for middle, metric in zip(centres, BARS, strict=True):
        if (task, metric) not in comparisons:
            continue
        row = comparisons[(task, metric)]
        ends = sorted([places[(metric, settings.reference)], places[(metric, row["model"])]])
        y = high + 1.0 * millimetre
        axes.plot(
            [ends[0], ends[0], ends[1], ends[1]],
            [y, y + 0.6 * millimetre, y + 0.6 * millimetre, y],
            color="black",
            linewidth=0.5,
        )
        has_t = not math.isnan(row["t_p"])
        axes.text(middle, y + (3.6 if has_t else 1.0) * millimetre, style.format_p(row["boot_p"]), ha="center")
        if has_t:
            t_test = style.format_p(row["t_p"]).removeprefix("P ").removeprefix("= ")
            axes.text(middle, y + 1.0 * millimetre, f"t: {t_test}", ha="center", color=GREY)
    axes.set_xticks(centres, [f"{METRICS[metric]} (%)" for metric in BARS])
    axes.tick_params(axis="x", length=0)
    style.percent_ticks(axes, low, high, step)
    if low > 0:
        style.break_bars(axes)


def legend_columns(count: int) -> int:
    return 2 if count > 3 else 1


def areas_fit(curves: pd.DataFrame, width: float, height: float) -> bool:
    """Whether no curve crosses the legend in the lower right corner of a ROC panel of this size in millimetres."""
    count = curves["model"].nunique()
    columns = legend_columns(count)
    widest = max(style.text_width(f"{area:.1f}") for area in curves["auroc"].unique())
    # Millimetres: handle and its space 3.4, between columns 1.3, the title 11 and centred above.
    entries = (widest + 3.4) * columns + 1.3 * (columns - 1)
    lines = math.ceil(count / columns) * LINE + 0.8
    for wide, tall in ((entries, lines), (max(entries / 2 + 6, 11.5), lines + LINE)):
        left = 100 * (1 - wide / width) - 0.5  # one step of the curves: a line enters before its next point
        inside = (curves["fpr"] >= left) & (curves["tpr"] < 100 * tall / height)
        if left <= 0 or bool(inside.any()):  # every curve rises at the left edge
            return False
    return True


def roc_curves(axes: Axes, numbers: Numbers, task: str, looks: Mapping[str, Appearance], inside: bool) -> None:
    """ROC curves with the areas in the legend, in the order of the models."""
    axes.plot([0, 100], [0, 100], color="#B8B8B8", linewidth=0.5, linestyle=(0, (1, 1.5)), zorder=1)
    handles: list[tuple[int, Line2D, float]] = []
    for model, rows in numbers.curves[numbers.curves["task"] == task].groupby("model"):
        look, area = looks[str(model)], float(rows["auroc"].iloc[0])
        axes.plot(np.r_[0, rows["fpr"]], np.r_[0, rows["tpr"]], color=look.color, linestyle=look.line, zorder=3)
        handles.append((numbers.models.index(str(model)), Line2D([], [], color=look.color, linestyle=look.line), area))
    axes.set(xlim=(-1, 101), ylim=(-1, 101), xticks=[0, 50, 100], yticks=[0, 50, 100])
    axes.set_xlabel("1 − specificity (%)")
    axes.set_ylabel("Sensitivity (%)", labelpad=0)
    handles.sort(key=lambda entry: entry[0])
    axes.legend(
        [line for _, line, _ in handles],
        [f"{area:.1f}" if not math.isnan(area) else "n/a" for _, _, area in handles],
        title="AUC (%)" if inside else "AUC %",
        title_fontsize=SMALL,
        loc="lower right" if inside else "upper left",
        bbox_to_anchor=(1, 0) if inside else (1.02, 1.1),
        ncols=legend_columns(len(handles)) if inside else 1,
        handlelength=1.3,
        handletextpad=0.3,
        columnspacing=0.6,
        labelspacing=0.1,
        borderpad=0,
        borderaxespad=0.2,
    )


def notes(numbers: Numbers, settings: Figure2Settings, radar: bool) -> list[str]:
    """The sentences below the figure: what is drawn, what is not."""
    level = f"{100 * settings.confidence:g} %"
    several = bool((numbers.scores["seeds"] > 1).any())
    reference = settings.models.get(settings.reference, settings.reference)
    sentences = []
    if not numbers.common:
        sentences.append("A: not drawn, because no task has a result of every model.")
    else:
        missing = [settings.tasks[t].title for t in numbers.tasks if t not in numbers.common]
        summary = "A: unweighted mean of the tasks' means over seeds, without interval"
        centres = ", ".join(f"{name} {radar_floor(numbers, metric):g} %" for metric, name in METRICS.items())
        sentences.append(
            ("A: the task's mean over seeds" if len(numbers.tasks) == 1 else summary)
            + (f"; without {', '.join(missing)}, where a score of some model is missing" if missing else "")
            + (
                f". Radar charts: the centre is {centres}."
                if radar
                else ". Dot plots stand where the paper has radar charts, which need three tasks"
                + (f"; their lines are {level} t intervals over seeds." if several else ".")
            )
        )
    bars = "Bars: mean over seeds. " if several else "Bars: one seed, so there is no interval over seeds. "
    if several:
        bars += f"Black line: {level} t interval over seeds (the paper's error bar). "
    bars += (
        f"Diamond and grey line: seed-averaged predictions and their {level} interval over patients "
        f"(bootstrap, {numbers.resamples:,} resamples of patients within classes). "
        + ("Intervals are cut at 0 % and 100 %. " if float(np.nanmax(numbers.scores[INTERVAL])) > 100 else "")
        + "A zigzag means that bars and axis do not start at 0."
    )
    sentences.append(bars)
    if numbers.comparisons.empty:
        sentences.append(f"No P values: they need {reference} and another model.")
    else:
        test = {"welch": "Welch", "paired": "paired"}[numbers.t_test]
        sentences.append(
            f"P: {reference} against the strongest other model (bracket), two-sided, bootstrap over patients"
            + (
                f"; t: the paper's two-sided {test} t-test, its P, which measures variation over seeds only."
                if several
                else "."
            )
            + " Not corrected for several tests; Holm-corrected values are in the CSV file."
        )
    sentences += style.stand_in_note({model: settings.models[model] for model in numbers.models}, numbers.stand_ins)
    sentences.append("ROC curves of seed-averaged predictions; one-vs-rest, averaged, for more than two classes.")
    known = {(entry.kind, entry.name) for entry in settings.unavailable}
    unnamed = [
        Unavailable(kind="model", name=model, title=title, reason="no result in the statistics")
        for model, title in settings.models.items()
        if model not in numbers.models and ("model", model) not in known
    ] + [
        Unavailable(kind="task", name=task, title=described.title, reason="no result in the statistics")
        for task, described in settings.tasks.items()
        if task not in numbers.tasks and ("task", task) not in known
    ]
    return sentences + settings.notes + style.note_unavailable([*settings.unavailable, *unnamed])


def drawn_numbers(numbers: Numbers, settings: Figure2Settings) -> pd.DataFrame:
    """Everything drawn, one number a row: panel, chart, task, model, metric, quantity, x, value.

    Scores, areas and rates are percent; `x` is the false positive rate of a ROC curve's point; P values
    and counts are as they are; rows of a comparison name the strongest other model.
    """
    letters = {task: letter for letter, _, tasks in panels_of(numbers.tasks, settings.tasks) for task in tasks}
    rows: list[tuple[object, ...]] = []
    for model, means in numbers.means.iterrows() if numbers.common else ():
        rows.extend(("A", "mean", "", model, metric, "mean_over_tasks", None, means[metric]) for metric in METRICS)
    quantities = [*INTERVAL, "seeds", "images", "patients"]
    for task in numbers.tasks:
        scores = records(numbers.scores[numbers.scores["task"] == task], "model", "metric")
        for model in numbers.models:
            for metric in METRICS:
                if (model, metric) in scores:
                    row = scores[(model, metric)]
                    chart = "roc" if metric == "auroc" else "bars"
                    rows.extend((letters[task], chart, task, model, metric, q, None, row[q]) for q in quantities)
    quantities = ["difference", "boot_difference", "boot_low", "boot_high", "boot_p", "boot_p_holm", "t_p", "t_p_holm"]
    comparisons = records(numbers.comparisons, "task", "metric")
    for task, metric in ((task, metric) for task in numbers.tasks for metric in BARS):
        if (task, metric) in comparisons:
            row = comparisons[(task, metric)]
            rows.extend((letters[task], "comparison", task, row["model"], metric, q, None, row[q]) for q in quantities)
    for task in numbers.tasks:
        for model in numbers.models:
            points = numbers.curves.query("task == @task and model == @model")
            rows.extend(
                (letters[task], "roc", task, model, "auroc", "tpr", x, y)
                for x, y in zip(points["fpr"], points["tpr"], strict=True)
            )
    table = pd.DataFrame(rows, columns=["panel", "chart", "task", "model", "metric", "quantity", "x", "value"])
    table[["x", "value"]] = table[["x", "value"]].astype(float).round(6)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw Figure 2: every model on every task.")
    parser.add_argument("--settings", required=True, help="JSON of Figure2Settings")
    parser.add_argument("--statistics", type=Path, required=True, help="folder of the statistics stage")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix; .pdf, .png and .csv are made")
    options = parser.parse_args()
    settings = parse_settings(Figure2Settings, options.settings)
    numbers = read_numbers(options.statistics, settings)
    style.save(draw(numbers, settings), options.output, settings.dpi)
    write_csv(options.output.with_name(f"{options.output.name}.csv"), drawn_numbers(numbers, settings))
    say(
        f"figure 2: {len(numbers.tasks)} task(s), {len(numbers.models)} model(s)"
        f"{', simulated data' if numbers.simulated else ''}; written to {options.output}.pdf, .png and .csv"
    )


if __name__ == "__main__":
    run(main)
