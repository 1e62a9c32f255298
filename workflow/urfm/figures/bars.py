"""Bars of scores: mean over seeds, both intervals, and P under a bracket."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from urfm.figures import style
from urfm.figures.read import Numbers, Uncertainty, p_words, records
from urfm.figures.style import GREY, Appearance
from urfm.metrics import METRICS


def bar(axes: Axes, place: float, value: float, low: float, width: float, look: Appearance) -> None:
    axes.bar(place, value - low, width, bottom=low, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0)


def level(axes: Axes, first: float, last: float, value: float, look: Appearance) -> None:
    """A line across bars, above them and below their intervals."""
    axes.plot([first, last], [value, value], color=look.color, linestyle=look.line, linewidth=0.8, zorder=2.5)


@dataclass(frozen=True)
class Group:
    """Bars side by side: what stands below them, a row of Numbers.scores a model, and the difference to print.

    `comparison` is a row of Numbers.comparisons between two of the models, or None; `lines` are the levels of other
    models, percent.
    """

    label: str
    rows: Mapping[str, Mapping[str, Any]]
    comparison: Mapping[str, Any] | None = None
    lines: Mapping[str, float] = field(default_factory=dict)


def grouped_bars(
    axes: Axes,
    groups: Sequence[Group],
    reference: str,
    looks: Mapping[str, Appearance],
    over: Uncertainty,
    least: int = 5,
) -> list[float]:
    """Groups of bars with a common percent axis; returns their centres. A group is at least `least` bars wide.

    A bar is the mean over seeds, its left line the interval over seeds, its right line the one over patients; with a
    split per seed the right line is the corrected interval. A model without a seed has no left line.
    """
    # With two or three seeds a t interval may leave the range of a score.
    drawn = np.clip([[row[name] for name in over.score] for group in groups for row in group.rows.values()], 0, 100)
    levels = [value for group in groups for value in group.lines.values()]
    high = float(np.nanmax([*drawn.ravel(), *levels]))
    low, step = style.bar_scale(float(np.nanmin([*drawn.ravel(), *levels])), high)
    slots, gap = max(least, *(len(group.rows) for group in groups)), 1.3  # few bars stay slim
    centres = [(slots - 1) / 2 + number * (slots + gap) for number in range(len(groups))]
    for centre, group in zip(centres, groups, strict=True):
        for place, (model, row) in enumerate(group.rows.items()):
            x = centre - (len(group.rows) - 1) / 2 + place
            bar(axes, x, row["mean"], low, 0.86, looks[model])
            over_seeds, over_patients = (
                np.clip([row[low_end], row[high_end]], 0, 100)
                for low_end, high_end in (("ci_low", "ci_high"), (over.low, over.high))
            )
            if over_seeds[0] < over_seeds[1]:
                axes.plot([x - 0.2] * 2, over_seeds, color="black", linewidth=0.9, zorder=4)
            axes.plot([x + 0.2] * 2, over_patients, color=GREY, linewidth=0.5, zorder=4)
        for model, value in group.lines.items():
            level(axes, centre - slots / 2, centre + slots / 2, value, looks[model])
    # The upper part of the panel is kept for bracket and P.
    _, height = style.size_mm(axes)
    top = low + (high - low) * height / (height - 8.0)
    millimetre = (top - low) / height
    axes.set(xlim=(-0.8, len(groups) * (slots + gap) - gap - 0.2), ylim=(low, top))
    for centre, group in zip(centres, groups, strict=True):
        if group.comparison is None:
            continue
        models = list(group.rows)
        first = centre - (len(models) - 1) / 2
        ends = sorted(first + models.index(model) for model in (reference, group.comparison["model"]))
        y = high + 1.0 * millimetre
        axes.plot(
            [ends[0], ends[0], ends[1], ends[1]],
            [y, y + 0.6 * millimetre, y + 0.6 * millimetre, y],
            color="black",
            linewidth=0.5,
        )
        has_t = not math.isnan(group.comparison["t_p"])
        p = p_words(group.comparison, over)
        axes.text(centre, y + (3.6 if has_t else 1.0) * millimetre, p, ha="center")
        if has_t:
            t_test = style.format_p(group.comparison["t_p"]).removeprefix("P ").removeprefix("= ")
            axes.text(centre, y + 1.0 * millimetre, f"t: {t_test}", ha="center", color=GREY)
    axes.set_xticks(centres, [group.label for group in groups])
    axes.tick_params(axis="x", length=0)
    style.percent_ticks(axes, low, high, step)
    if low > 0:
        style.break_bars(axes)
    return centres


def metric_groups(numbers: Numbers, task: str, metrics: Sequence[str]) -> list[Group]:
    """A group per metric, of all models of a task."""
    scores = records(numbers.scores[numbers.scores["task"] == task], "metric", "model")
    lines = records(numbers.lines[numbers.lines["task"] == task], "metric", "model")
    differences = records(numbers.comparisons[numbers.comparisons["task"] == task], "metric")
    return [
        Group(
            label=f"{METRICS[metric].short} (%)",
            rows={model: scores[(metric, model)] for model in numbers.models if (metric, model) in scores},
            comparison=differences.get(metric),
            lines={m: lines[(metric, m)]["mean"] for m in numbers.line_means.index if (metric, m) in lines},
        )
        for metric in metrics
    ]
