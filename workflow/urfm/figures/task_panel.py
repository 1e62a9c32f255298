"""One task: its title and n, bars with intervals and P, and its ROC curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from urfm.figures import style
from urfm.figures.bars import grouped_bars, metric_groups
from urfm.figures.read import Comparison, Numbers, positive_name
from urfm.figures.roc import areas_fit, roc_curves
from urfm.figures.style import GREY, LABEL, Appearance


class Place(NamedTuple):
    """Where a task is drawn, and how wide its ROC curves are, in millimetres."""

    left: float
    top: float
    width: float
    height: float
    roc_width: float


def count_seeds(scores: pd.DataFrame) -> str:
    """ "10 seeds", or "3 to 10 seeds" where models differ."""
    low, high = scores["seeds"].min(), scores["seeds"].max()
    return f"{high if low == high else f'{low} to {high}'} seed{'s' if high > 1 else ''}"


def draw_task(
    figure: Figure,
    place: Place,
    metrics: Sequence[str],
    task: str,
    numbers: Numbers,
    settings: Comparison,
    looks: Mapping[str, Appearance],
) -> None:
    """Title, n, bars of the metrics with intervals and P, and ROC curves of one task."""
    left, top, width, height, roc_width = place
    scores = numbers.scores[numbers.scores["task"] == task]
    one = scores.iloc[0]
    style.add_text(figure, left + 1, top, settings.tasks[task].title, LABEL, weight="bold")
    if scores["simulated"].any():
        after = left + 3 + style.text_width(settings.tasks[task].title, LABEL, "bold")
        style.add_text(figure, after, top + 0.3, "simulated", color=style.WARNING)
    patients = "patients unknown" if math.isnan(one["patients"]) else f"{one['patients']:,.0f} patients"
    count = f"n = {one['images']:,} images, {patients}, {count_seeds(scores)}"
    style.add_text(figure, left + 1, top + 3.1, count, color=GREY)
    bars = style.add_axes(figure, left + 5.5, top + 6, width - roc_width - 15.5, height - 11)
    grouped_bars(bars, metric_groups(numbers, task, metrics), settings.reference, looks, numbers.over)
    roc_height = height - 15.7
    lines = numbers.curves[numbers.curves["task"] == task]
    areas = areas_fit(lines, roc_width, roc_height)
    curves = style.add_axes(
        figure, left + width - roc_width - 1.5, top + 8.2, roc_width - (0 if areas else 8.5), roc_height
    )
    roc_curves(curves, lines, numbers.models, looks, inside=areas)
    if name := positive_name(settings, numbers, task):
        wide = roc_width - (0 if areas else 8.5)
        said = next((text for text in (f"Positive: {name}", name) if style.text_width(text) <= wide), "")  # or the note
        style.add_text(figure, left + width - roc_width - 1.5, top + 5.7, said, color=GREY)
