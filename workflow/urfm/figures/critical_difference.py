"""Critical-difference diagram: average ranks of the models over the tasks, a panel per metric (stage of its name).

Demsar 2006: models joined by a thick line do not differ by Nemenyi's test. Ranks come from the `statistics` stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.page import MARGIN, add_foot
from urfm.figures.style import GREY, LABEL, LINE, SINGLE_COLUMN, SMALL, Appearance
from urfm.figures.summary import SummarySettings, foot, page
from urfm.metrics import METRICS
from urfm.statistics.stored import Stored, read_statistics

HEAD = 10.5  # mm from the top of a panel to its axis
ROW, BAR = 3.4, 1.5  # mm, distance of model names and of thick lines


def read_ranks(record: Path, settings: SummarySettings) -> tuple[Stored, pd.DataFrame]:
    """The ranks of the largest share; UrfmError when there are none (fewer than two models or tasks)."""
    stored = read_statistics(record, ["ranks"])
    ranks = stored.tables["ranks"]
    ranks = ranks[ranks["model"].isin(settings.models)]
    if ranks.empty:
        raise UrfmError(
            f"{record}: holds no ranks: they need two tasks that two models have in common; the first lines of every "
            "run say what is available"
        )
    return stored, ranks[ranks["share"] == ranks["share"].max()]


def groups(ranks: Sequence[float], difference: float) -> list[tuple[int, int]]:
    """First and last place, in sorted `ranks`, of the largest runs that lie within the critical difference."""
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(place for place, other in enumerate(ranks) if other - rank < difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def draw(stored: Stored, ranks: pd.DataFrame, settings: SummarySettings) -> Figure:
    """A panel per metric, below one another, in a single column."""
    panels = [(metric, rows.sort_values("average_rank")) for metric, rows in _by_metric(ranks)]
    heights = [
        HEAD + 2 + BAR * len(groups(rows["average_rank"].tolist(), rows["critical_difference"].iloc[0]))
        + ROW * ((len(rows) + 1) // 2) + 3.5
        for _, rows in panels
    ]  # fmt: skip
    level = f"{100 * (1 - stored.confidence):g} %"
    lines = foot(
        [
            "Average rank of each model over the tasks that all models have, by mean over seeds; 1 is the best. "
            f"Models joined by a thick line are not told apart at {level} (Nemenyi's test; CD: critical difference). "
            "Tasks are the observations. Pairwise Wilcoxon tests with Holm's correction: rank_pairs.csv."
        ],
        stored,
        settings,
        SINGLE_COLUMN,
    )
    top = style.SIMULATED_BAND if stored.simulated else 1.0
    figure = style.new_figure(SINGLE_COLUMN, top + sum(heights) + LINE * len(lines) + 2)
    if stored.simulated:
        style.mark_simulated(figure)
    axes = page(figure)
    looks = style.appearances(list(settings.models))
    for (metric, rows), height in zip(panels, heights, strict=True):
        draw_panel(axes, top, metric, rows, settings.models, looks)
        top += height
    add_foot(figure, top, lines)
    return figure


def _by_metric(ranks: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(metric, ranks[ranks["metric"] == metric]) for metric in METRICS if metric in set(ranks["metric"])]


def draw_panel(
    axes: Axes,
    top: float,
    metric: str,
    rows: pd.DataFrame,
    titles: Mapping[str, str],
    looks: Mapping[str, Appearance],
) -> None:
    """One axis of ranks with the models' names at both sides, best at the left."""
    first = rows.iloc[0]
    count, difference = len(rows), float(first["critical_difference"])
    averages = dict(zip(rows["model"], rows["average_rank"], strict=True))
    labels = {name: f"{titles[name]} {rank:.2f}" for name, rank in averages.items()}
    side = max(style.text_width(label) for label in labels.values()) + MARGIN + 2
    left, right = side, SINGLE_COLUMN - side
    place = {name: left + (rank - 1) / (count - 1) * (right - left) for name, rank in averages.items()}
    axis = top + HEAD

    friedman = "" if pd.isna(first["friedman_p"]) else f", Friedman {style.format_p(first['friedman_p'])}"
    axes.text(MARGIN, top, METRICS[metric].short, fontsize=LABEL, weight="bold", va="top")
    axes.text(MARGIN + 9, top, f"n = {first['tasks']} tasks{friedman}", fontsize=SMALL, va="top")
    length = difference / (count - 1) * (right - left)
    if length <= right - left:
        axes.plot([left, left + length], [axis - 4.6] * 2, color="black", linewidth=0.8)
        for end in (left, left + length):
            axes.plot([end, end], [axis - 5.1, axis - 4.1], color="black", linewidth=0.8)
        axes.text(left + length + 1, axis - 4.6, f"CD = {difference:.2f}", fontsize=SMALL, va="center")
    else:
        axes.text(SINGLE_COLUMN / 2, axis - 4.6, f"CD = {difference:.2f}, more than all ranks span",
                  fontsize=SMALL, va="center", ha="center")  # fmt: skip
    axes.plot([left, right], [axis, axis], color="black", linewidth=0.6)
    for rank in range(1, count + 1):
        x = left + (rank - 1) / (count - 1) * (right - left)
        axes.plot([x, x], [axis - 0.8, axis], color="black", linewidth=0.6)
        axes.text(x, axis - 1.1, str(rank), fontsize=SMALL, ha="center", va="bottom")

    names = list(rows["model"])
    joined = groups(rows["average_rank"].tolist(), difference)
    for number, (start, end) in enumerate(joined):
        y = axis + 1.6 + BAR * number
        axes.plot([place[names[start]] - 0.7, place[names[end]] + 0.7], [y, y], color="black", linewidth=2.2,
                  solid_capstyle="round")  # fmt: skip
    below = axis + 2 + BAR * len(joined) + 1.5
    half = (count + 1) // 2
    for number, name in enumerate(names):
        at_left = number < half
        y = below + ROW * (number if at_left else count - 1 - number)
        end = left - 1.2 if at_left else right + 1.2
        axes.plot([place[name], place[name], end], [axis, y, y], color=GREY, linewidth=0.5, zorder=1)
        axes.plot([place[name]], [axis], color=looks[name].color, marker=looks[name].marker, markersize=3.4,
                  markeredgewidth=0, zorder=3)  # fmt: skip
        axes.text(end + (-0.8 if at_left else 0.8), y, labels[name], fontsize=SMALL, va="center",
                  ha="right" if at_left else "left")  # fmt: skip


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw the critical-difference diagram of a comparison.")
    parser.add_argument("--statistics", type=Path, required=True, help="statistics.json of the comparison")
    options = parser.parse_args()
    settings = parse_settings(SummarySettings, options.settings)
    stored, ranks = read_ranks(options.statistics, settings)
    save(options.output, draw(stored, ranks, settings), settings.dpi, ranks)
    tasks = ranks["tasks"].max()
    say(f"critical difference of {stored.name}: {tasks} tasks; written to {options.output}.pdf, .png and .csv")


if __name__ == "__main__":
    run(main)
