"""ROC curves of one task with the models' areas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from urfm.figures import style
from urfm.figures.style import LINE, SMALL, Appearance
from urfm.metrics import METRICS


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


def roc_curves(
    axes: Axes, curves: pd.DataFrame, models: Sequence[str], looks: Mapping[str, Appearance], inside: bool
) -> None:
    """ROC curves of one task with the areas in the legend, in the order of the models."""
    axes.plot([0, 100], [0, 100], color="#B8B8B8", linewidth=0.5, linestyle=(0, (1, 1.5)), zorder=1)
    handles: list[tuple[int, Line2D, float]] = []
    for model, rows in curves.groupby("model"):
        look, area = looks[str(model)], float(rows["auroc"].iloc[0])
        axes.plot(np.r_[0, rows["fpr"]], np.r_[0, rows["tpr"]], color=look.color, linestyle=look.line, zorder=3)
        handles.append((models.index(str(model)), Line2D([], [], color=look.color, linestyle=look.line), area))
    axes.set(xlim=(-1, 101), ylim=(-1, 101), xticks=[0, 50, 100], yticks=[0, 50, 100])
    axes.set_xlabel("1 − specificity (%)")
    axes.set_ylabel("Sensitivity (%)", labelpad=0)
    auc = METRICS["auroc"].short
    handles.sort(key=lambda entry: entry[0])
    axes.legend(
        [line for _, line, _ in handles],
        [f"{area:.1f}" if not math.isnan(area) else "n/a" for _, _, area in handles],
        title=f"{auc} (%)" if inside else f"{auc} %",
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
