"""Training loss, R² and learning rate of pre-training runs over their epochs (stage `loss_curves`).

A mean squared error has the scale of its targets, so runs are compared within a panel: same teacher, same
normalisation of the targets, same patches in the loss. A dotted line is what it costs to guess the mean target of each
position; below each panel are R², the share of this that is gone, and the learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.style import DOUBLE_COLUMN, GREY, LABEL, LINE, SMALL, TITLE
from urfm.metrics import LEARNT

LEFT, RIGHT, GAP = 13.0, 2.0, 13.0  # mm beside and between panels
LOSS, R2, RATE = 38.0, 17.0, 15.0  # heights
HEADING = 9.0  # above the loss: a panel's title
BETWEEN = 4.0  # two of them
BELOW = 10.0  # below the rate: tick labels, axis label and a gap
HANDLE, SPACING = 11.0, 2.0  # width of a legend's line with its gaps; of these, the gap between columns
GUESS = "guessing each position's mean"
DOTTED: dict[str, Any] = {"linestyle": ":", "linewidth": 0.9}
SAME = 0.01  # guesses that differ by less are one line
LOWEST = -0.2  # R² that is shown: the first epochs may lie far below
COLUMNS = ["epoch", "loss", "position_mean_loss", "r2", "lr"]  # of history.csv


class Run(Settings):
    """A run to draw."""

    name: str
    title: str
    targets: str  # what is regressed: runs that agree share a panel
    stand_in: bool = False  # taught by a stand-in with random weights


class LossCurvesSettings(Settings):
    """Settings of the stage."""

    runs: list[Run]
    simulated: bool = Field(description="whether any of the runs saw simulated images")
    notes: list[str]
    dpi: int = Field(ge=72)


def read_history(path: Path) -> pd.DataFrame:
    """COLUMNS of the history.csv of a run, checked."""
    table = pd.read_csv(path)
    if absent := [name for name in COLUMNS if name not in table.columns]:
        raise UrfmError(f"{path}: column {absent[0]} is missing; delete the run's folder and train again")
    return table[COLUMNS]


def numbers(settings: LossCurvesSettings, histories: Sequence[Path]) -> pd.DataFrame:
    """All that is drawn: targets, run, title, stand_in and COLUMNS; one file of `histories` a run, in order."""
    tables = [
        read_history(path).assign(targets=entry.targets, run=entry.name, title=entry.title, stand_in=entry.stand_in)
        for entry, path in zip(settings.runs, histories, strict=True)
    ]
    columns = ["targets", "run", "title", "stand_in", *COLUMNS]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def draw(table: pd.DataFrame, settings: LossCurvesSettings) -> Figure:
    """The figure, a panel per kind of target; a row of panels is as high as its longest legend needs."""
    kinds = list(dict.fromkeys(table["targets"]))
    plain = dict(zip(table["run"], table["title"], strict=True))
    stand_ins = [entry.name for entry in settings.runs if entry.stand_in]
    titles = style.stand_in_titles(plain, stand_ins)
    looks = style.appearances(list(titles))
    columns = 2 if len(kinds) == 4 else min(3, max(len(kinds), 1))
    width = (DOUBLE_COLUMN - LEFT - RIGHT - (columns - 1) * GAP) / columns
    last = table.drop_duplicates("run", keep="last").set_index("run")
    labels = {run: f"{title}, {r2_text(float(last['r2'][run]))}" for run, title in titles.items()}
    shown = {kind: [labels[run] for run in last.index[last["targets"] == kind]] for kind in kinds}
    kinds.sort(key=lambda kind: len(shown[kind]))  # short legends beside short ones
    rows = [kinds[start : start + columns] for start in range(0, len(kinds), columns)]
    heights = [
        HEADING + LOSS + R2 + RATE + 2 * BETWEEN + BELOW + LINE * max(legend_rows(shown[kind], width) for kind in row)
        for row in rows
    ]
    notes = [
        line
        for sentence in (
            "Mean over the steps of an epoch, of training batches. The loss is a mean squared error over patches and "
            "channels; panels differ in what it is an error of, so their values must not be compared.",
            f"Dotted line: the loss of {GUESS}, from a sample of the images. R²: 1 − loss / this loss, not shown below "
            f"−{-LOWEST:g}; in the legend that of the last epoch. At 0, the grey line, nothing of an image is known.",
            *nothing_learnt([titles[str(run)] for run in last.index[last["r2"] < LEARNT]]),
            *style.stand_in_note(plain, stand_ins),
            *settings.notes,
        )
        for line in style.wrap(sentence, DOUBLE_COLUMN - 8)
    ]
    top = style.SIMULATED_BAND if settings.simulated else 1.0
    figure = style.new_figure(DOUBLE_COLUMN, top + 6 + sum(heights) + len(notes) * LINE + 4)
    if settings.simulated:
        style.mark_simulated(figure)
    style.add_text(figure, 2, top + 1, "Pre-training: loss, R² and learning rate", TITLE, weight="bold")
    for number, kind in enumerate(kinds):
        left = LEFT + number % columns * (width + GAP)
        upper = top + 6 + sum(heights[: number // columns])
        part = table[table["targets"] == kind]
        style.add_text(
            figure, left, upper + 2, "\n".join(style.wrap(kind, 0.85 * width, LABEL)[:2]), LABEL, weight="bold"
        )
        loss = style.add_axes(figure, left, upper + HEADING, width, LOSS)
        r2 = style.add_axes(figure, left, upper + HEADING + LOSS + BETWEEN, width, R2)
        rate = style.add_axes(figure, left, upper + HEADING + LOSS + R2 + 2 * BETWEEN, width, RATE)
        for run_name, rows_of_run in part.groupby("run", sort=False):
            look = looks[str(run_name)]
            few: dict[str, Any] = {"marker": look.marker, "markersize": 3} if len(rows_of_run) == 1 else {}
            for axes, column in ((loss, "loss"), (r2, "r2"), (rate, "lr")):
                axes.plot(
                    rows_of_run["epoch"], rows_of_run[column], color=look.color, linestyle=look.line,
                    label=labels[str(run_name)], **few,
                )  # fmt: skip
        floors = last.loc[last["targets"] == kind, "position_mean_loss"]
        draw_guesses(loss, [(float(floor), looks[str(run)].color) for run, floor in floors.items()])
        _finish(loss, r2, rate, legend_columns(shown[kind], width))
    lowest = top + 6 + sum(heights)
    style.add_text(figure, 2, lowest + 1, "\n".join(notes), SMALL, linespacing=1.2)
    return figure


def r2_text(value: float) -> str:
    """R² 0.42; a zero has no sign."""
    return f"R² {round(value, 2) + 0.0:.2f}".replace("-", "−")


def draw_guesses(loss: Axes, floors: Sequence[tuple[float, str]]) -> None:
    """Lines at what the runs' guesses cost, each in the run's colour; those that agree are one, grey."""
    groups: list[list[tuple[float, str]]] = []
    for floor, color in sorted(floors):
        if groups and floor <= groups[-1][0][0] * (1 + SAME):
            groups[-1].append((floor, color))
        else:
            groups.append([(floor, color)])
    for group in groups:
        color = group[0][1] if len(group) == 1 else GREY
        loss.axhline(float(np.mean([floor for floor, _ in group])), color=color, zorder=1, **DOTTED)
    loss.legend([Line2D([], [], color=GREY, **DOTTED)], [GUESS], loc="best", handlelength=1.8)


def nothing_learnt(titles: Sequence[str]) -> list[str]:
    """The sentence on runs that end no better than the guess; none if there are none."""
    have = "has" if len(titles) == 1 else "have"
    return [f"{', '.join(titles)} {have} learnt nothing beyond the mean target of each position."] if titles else []


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Columns of a legend that fit into `width` millimetres, at least one; each is as wide as its longest label."""

    def fits(columns: int) -> bool:
        parts = np.array_split(np.array([style.text_width(label) for label in labels]), columns)
        return sum(float(part.max()) + HANDLE for part in parts) - SPACING <= width

    return max((columns for columns in range(1, len(labels) + 1) if fits(columns)), default=1)


def legend_rows(labels: Sequence[str], width: float) -> int:
    return -(-len(labels) // legend_columns(labels, width))


def _finish(loss: Axes, r2: Axes, rate: Axes, columns: int) -> None:
    loss.set_ylabel("Training loss (MSE)")
    r2.set_ylabel("R²")
    r2.axhline(0, color=GREY, linewidth=0.5, zorder=1)
    low, high = r2.get_ylim()
    r2.set_ylim(max(low, LOWEST), max(high, -LOWEST))
    rate.set_ylabel("Learning rate")
    rate.set_xlabel("Epoch")
    rate.set_ylim(bottom=0)
    for axes in (loss, r2, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(loss.get_xlim())
    for axes in (loss, r2):
        axes.tick_params(labelbottom=False)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    rate.yaxis.get_offset_text().set_fontsize(SMALL)
    handles, labels = loss.get_legend_handles_labels()
    # Below the axis label, which takes 8 mm.
    height = style.size_mm(rate)[1]
    rate.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0, -7 / height), borderaxespad=0, handlelength=3.2,
        labelspacing=0.15, ncols=columns, columnspacing=1.0,
    )  # fmt: skip


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw training loss, R² and learning rate of pre-training runs.")
    parser.add_argument("--histories", type=Path, nargs="*", default=[], help="history.csv of each run, in order")
    options = parser.parse_args()
    settings = parse_settings(LossCurvesSettings, options.settings)
    if len(options.histories) != len(settings.runs):
        raise UrfmError(f"--histories: {len(options.histories)} files for {len(settings.runs)} runs; give one per run")
    table = numbers(settings, options.histories)
    save(options.output, draw(table, settings), settings.dpi, table)
    say(f"loss curves of {len(settings.runs)} run(s) in {options.output}.pdf, .png and .csv")


if __name__ == "__main__":
    run(main)
