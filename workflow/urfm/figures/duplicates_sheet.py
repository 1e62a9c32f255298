"""Contact sheet of the leakage audit: the worst pairs side by side, so that a person can judge them.

Of each finding, kind and pair of data sets the first is shown before the second of any, so that a hundred like ones do
not hide the others. Pictures come from the raw files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UnusableImage
from urfm.core.files import read_json, read_text_csv, verify_sha256
from urfm.core.progress import progress, say
from urfm.data.images.decode import decode
from urfm.data.images.pixels import reduce
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.style import DOUBLE_COLUMN, GREY, LABEL, LINE, SMALL, TITLE

COLUMNS = 3  # pairs a row
CELL = DOUBLE_COLUMN / COLUMNS  # mm
WIDTH, HEIGHT = CELL / 2 - 2.0, 25.0  # of a picture
NAME_LINES, USE_LINES = 3, 2
CELL_HEIGHT = 9.0 + HEIGHT + (NAME_LINES + USE_LINES + 1) * LINE
HEADING = 16.0


class SheetSettings(Settings):
    """Settings of the stage."""

    pairs: int = Field(ge=1, description="pairs to show")
    dpi: int = Field(ge=72, description="resolution of the PNG")


def choose(pairs: pd.DataFrame, number: int) -> pd.DataFrame:
    """The pairs to show: the worst of every group, then the second of every group, and so on; in the table's order."""
    turn = pairs.groupby(["finding", "kind", "dataset_a", "dataset_b"]).cumcount()
    return pairs.loc[turn.sort_values(kind="stable").index[:number].sort_values()].reset_index(drop=True)


def draw(pairs: pd.DataFrame, total: int, simulated: bool, root: Path) -> Figure:
    """The sheet of some of `total` pairs, columns as in pairs.csv, whose paths start at `root`."""
    rows = max(1, -(-len(pairs) // COLUMNS))
    top = HEADING + (style.SIMULATED_BAND if simulated else 0)
    figure = style.new_figure(DOUBLE_COLUMN, top + rows * CELL_HEIGHT)
    if simulated:
        style.mark_simulated(figure)
    shown = f"{len(pairs):,} of {total:,} pairs" if total else "No image occurs twice."
    style.add_text(figure, 2, top - HEADING + 3, "Leakage audit: images that occur twice", TITLE, weight="bold")
    style.add_text(
        figure, 2, top - HEADING + 8, f"{shown}{'; all are in pairs.parquet' if total else ''}", SMALL, color=GREY
    )
    for number, (_, pair) in enumerate(progress(pairs.iterrows(), "contact sheet", len(pairs))):
        left, upper = number % COLUMNS * CELL, top + number // COLUMNS * CELL_HEIGHT
        kind = {"file": "same file", "pixels": "same pixels"}.get(pair["kind"], f"near: {pair['distance']} of 192 bits")
        style.add_text(figure, left + 1.5, upper, pair["finding"], LABEL, weight="bold")
        style.add_text(figure, left + 1.5, upper + 3.2, kind, SMALL)
        for side, offset in (("a", 1.5), ("b", CELL / 2 + 0.5)):
            axes = style.add_axes(figure, left + offset, upper + 6.2, WIDTH, HEIGHT)
            show(axes, root / pair[f"path_{side}"], pair[f"frame_{side}"])
            below = [
                *lines(pair[f"image_id_{side}"], NAME_LINES),
                *lines(pair[f"use_{side}"], USE_LINES),
                *lines(pair[f"label_{side}"], 1),
            ]
            style.add_text(figure, left + offset, upper + 7.0 + HEIGHT, "\n".join(below), SMALL, linespacing=1.15)
    return figure


def show(axes: Axes, path: Path, frame: str) -> None:
    """Draw an image, or why it cannot be drawn."""
    axes.set_axis_off()
    try:
        pixels = reduce(decode(path, frame), 400)
    except UnusableImage as error:
        axes.text(0.5, 0.5, f"not readable\n({error.reason})", ha="center", va="center", transform=axes.transAxes)
        return
    axes.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=255)


def lines(text: str, number: int) -> list[str]:
    """At most `number` lines as wide as a picture, broken at spaces and after slashes; what is too long ends in …"""
    broken = [line.replace("/ ", "/") for line in style.wrap(text.replace("/", "/ "), WIDTH)]
    if len(broken) > number:
        broken = [*broken[: number - 1], broken[number - 1] + "…"]
    return [shorten(line) for line in broken]


def shorten(line: str) -> str:
    """The line, its middle cut out if it is wider than a picture."""
    keep = len(line)
    short = line
    while style.text_width(short) > WIDTH and keep > 4:
        keep -= 1
        short = f"{line[: keep // 2]}…{line[len(line) - (keep - keep // 2) :]}"
    return short


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw the worst pairs of the leakage audit side by side.")
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--audit", type=Path, required=True, help="folder that the audit wrote")
    options = parser.parse_args()
    settings = parse_settings(SheetSettings, options.settings)
    record: dict[str, Any] = read_json(options.audit / "audit.json")
    table = options.audit / "pairs.csv"
    verify_sha256(table, record["sha256"]["pairs.csv"])
    chosen = choose(read_text_csv(table), settings.pairs)
    figure = draw(chosen, sum(record["kinds"].values()), bool(record["simulated"]), options.root)
    save(options.output, figure, settings.dpi)
    say(f"{len(chosen):,} pairs drawn in {options.output}.png and .pdf")


if __name__ == "__main__":
    run(main)
