"""Training loss and learning rate of pre-training runs over their epochs (stage `loss_curves`).

A mean squared error has the scale of its targets, so runs are compared within a panel: same teacher, same
normalisation of the targets, same patches in the loss. Below each panel are the learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.style import DOUBLE_COLUMN, LABEL, LINE, SMALL, TITLE

LEFT, RIGHT, GAP = 13.0, 2.0, 13.0  # mm beside and between panels
LOSS, RATE = 38.0, 15.0  # heights
HEADING = 9.0  # above the loss: a panel's title
BETWEEN = 4.0  # loss and rate
BELOW = 10.0  # below the rate: tick labels, axis label and a gap
HANDLE, SPACING = 11.0, 2.0  # width of a legend's line with its gaps; of these, the gap between columns


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
    """history.csv of a run: epoch, loss and lr, checked."""
    table = pd.read_csv(path)
    if absent := {"epoch", "loss", "lr"} - set(table.columns):
        raise UrfmError(f"{path}: column {min(absent)} is missing; delete the run's folder and train again")
    return table[["epoch", "loss", "lr"]]


def numbers(settings: LossCurvesSettings, histories: Sequence[Path]) -> pd.DataFrame:
    """All that is drawn: targets, run, title, stand_in, epoch, loss, lr; one file of `histories` a run, in order."""
    tables = [
        read_history(path).assign(targets=entry.targets, run=entry.name, title=entry.title, stand_in=entry.stand_in)
        for entry, path in zip(settings.runs, histories, strict=True)
    ]
    columns = ["targets", "run", "title", "stand_in", "epoch", "loss", "lr"]
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
    shown = {kind: [titles[run] for run in table.loc[table["targets"] == kind, "run"].unique()] for kind in kinds}
    kinds.sort(key=lambda kind: len(shown[kind]))  # short legends beside short ones
    rows = [kinds[start : start + columns] for start in range(0, len(kinds), columns)]
    heights = [
        HEADING + LOSS + BETWEEN + RATE + BELOW + LINE * max(legend_rows(shown[kind], width) for kind in row)
        for row in rows
    ]
    notes = [
        line
        for sentence in (
            "Mean over the steps of an epoch, of training batches. The loss is a mean squared error over patches and "
            "channels; panels differ in what it is an error of, so their values must not be compared.",
            *style.stand_in_note(plain, stand_ins),
            *settings.notes,
        )
        for line in style.wrap(sentence, DOUBLE_COLUMN - 8)
    ]
    top = style.SIMULATED_BAND if settings.simulated else 1.0
    figure = style.new_figure(DOUBLE_COLUMN, top + 6 + sum(heights) + len(notes) * LINE + 4)
    if settings.simulated:
        style.mark_simulated(figure)
    style.add_text(figure, 2, top + 1, "Pre-training: loss and learning rate", TITLE, weight="bold")
    for number, kind in enumerate(kinds):
        left = LEFT + number % columns * (width + GAP)
        upper = top + 6 + sum(heights[: number // columns])
        part = table[table["targets"] == kind]
        style.add_text(
            figure, left, upper + 2, "\n".join(style.wrap(kind, 0.85 * width, LABEL)[:2]), LABEL, weight="bold"
        )
        loss = style.add_axes(figure, left, upper + HEADING, width, LOSS)
        rate = style.add_axes(figure, left, upper + HEADING + LOSS + BETWEEN, width, RATE)
        for run_name, rows_of_run in part.groupby("run", sort=False):
            look = looks[str(run_name)]
            label = titles[str(run_name)]
            few: dict[str, Any] = {"marker": look.marker, "markersize": 3} if len(rows_of_run) == 1 else {}
            loss.plot(
                rows_of_run["epoch"], rows_of_run["loss"], color=look.color, linestyle=look.line, label=label, **few
            )
            rate.plot(rows_of_run["epoch"], rows_of_run["lr"], color=look.color, linestyle=look.line, **few)
        _finish(loss, rate, legend_columns(shown[kind], width))
    lowest = top + 6 + sum(heights)
    style.add_text(figure, 2, lowest + 1, "\n".join(notes), SMALL, linespacing=1.2)
    return figure


def legend_columns(labels: Sequence[str], width: float) -> int:
    """Columns of a legend that fit into `width` millimetres, at least one; each is as wide as its longest label."""

    def fits(columns: int) -> bool:
        parts = np.array_split(np.array([style.text_width(label) for label in labels]), columns)
        return sum(float(part.max()) + HANDLE for part in parts) - SPACING <= width

    return max((columns for columns in range(1, len(labels) + 1) if fits(columns)), default=1)


def legend_rows(labels: Sequence[str], width: float) -> int:
    return -(-len(labels) // legend_columns(labels, width))


def _finish(loss: Axes, rate: Axes, columns: int) -> None:
    loss.set_ylabel("Training loss (MSE)")
    loss.tick_params(labelbottom=False)
    rate.set_ylabel("Learning rate")
    rate.set_xlabel("Epoch")
    rate.set_ylim(bottom=0)
    for axes in (loss, rate):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
    rate.yaxis.get_offset_text().set_fontsize(SMALL)
    low, high = loss.get_xlim()
    rate.set_xlim(low, high)
    handles, labels = loss.get_legend_handles_labels()
    # Below the axis label, which takes 8 mm.
    height = style.size_mm(rate)[1]
    rate.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0, -7 / height), borderaxespad=0, handlelength=3.2,
        labelspacing=0.15, ncols=columns, columnspacing=1.0,
    )  # fmt: skip


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw training loss and learning rate of pre-training runs.")
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
