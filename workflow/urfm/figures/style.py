"""The one place for how figures look: sizes, fonts, colours and marks.

Sizes are millimetres and points as a journal prints them (Cell Press: 85 mm or 174 mm wide, type of 6
to 8 points). The font is DejaVu Sans, which comes with matplotlib, so a figure is the same everywhere.
A model is told by colour, hatch, marker and line, so that no figure depends on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from pydantic import BaseModel, ConfigDict

SINGLE_COLUMN = 85.0  # mm
DOUBLE_COLUMN = 174.0
TITLE, LABEL, SMALL = 8.0, 7.0, 6.0  # points
LINE = 2.6  # mm, distance of lines of SMALL type
SIMULATED_BAND = 7.0  # mm at the top of a figure that `mark_simulated` needs
GREY = "#595959"
WARNING = "#B00000"

# A user's matplotlibrc must not change a figure.
matplotlib.rcdefaults()
matplotlib.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": SMALL,
        "axes.titlesize": LABEL,
        "axes.labelsize": SMALL,
        "axes.labelpad": 1.5,
        "axes.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "xtick.major.width": 0.5,
        "ytick.major.width": 0.5,
        "xtick.major.size": 1.8,
        "ytick.major.size": 1.8,
        "xtick.major.pad": 1.5,
        "ytick.major.pad": 1.5,
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "lines.linewidth": 0.9,
        "hatch.linewidth": 0.4,
        "text.parse_math": False,  # a $ in somebody's title is a dollar
        "pdf.fonttype": 42,  # TrueType: text stays text in a journal's layout program
        "svg.fonttype": "none",
    }
)


@dataclass(frozen=True)
class Appearance:
    """How one model is drawn."""

    color: str
    hatch: str
    marker: str
    line: Literal["-"] | tuple[float, tuple[float, ...]]


HATCHES = ("", "////", "\\\\\\\\", "....", "xxxx", "----", "++++", "||||")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
LINES: tuple[Literal["-"] | tuple[float, tuple[float, ...]], ...] = (
    "-",
    (0, (4, 1)),
    (0, (1, 0.8)),
    (0, (4, 1, 1, 1)),
    (0, (2, 1)),
    (0, (6, 1, 1, 1, 1, 1)),
    (0, (8, 1.5)),
    (0, (3, 2, 1, 2)),
)

# Okabe and Ito's colours (told apart with any colour vision), then Paul Tol's muted ones.
COLORS = (
    "#D55E00", "#0072B2", "#009E73", "#56B4E9", "#E69F00", "#999999", "#CC79A7", "#332288",
    "#117733", "#882255", "#999933", "#44AA99", "#AA4499", "#88CCEE", "#DDCC77", "#000000",
)  # fmt: skip

# A model of the paper looks the same in every figure, whichever others are in it.
KNOWN = {
    "urfm": 0,
    "usfm": 1,
    "deblur_mim": 2,
    "mim_us": 3,
    "mim_imagenet": 4,
    "sl_imagenet": 5,
    "urfm_clip": 6,
    "simclr_imagenet": 7,
    "moco_v3_imagenet": 8,
    "dino_imagenet": 9,
}


def appearances(models: Sequence[str]) -> dict[str, Appearance]:
    """Colour, hatch, marker and line of each model: fixed for known names, the free ones in order for others.

    Free are first the colours of no known name, then those of known names that are not among `models`.
    """
    taken = {KNOWN[model] for model in models if model in KNOWN}
    reserved = set(KNOWN.values())
    free = sorted(set(range(len(COLORS))) - taken, key=lambda number: (number in reserved, number))
    unknown = [model for model in models if model not in KNOWN]
    numbers = {model: free[place % len(free)] for place, model in enumerate(unknown)} | KNOWN
    return {
        model: Appearance(
            color=COLORS[numbers[model]],
            hatch=HATCHES[numbers[model] % len(HATCHES)],
            marker=MARKERS[numbers[model] % len(MARKERS)],
            line=LINES[numbers[model] % len(LINES)],
        )
        for model in models
    }


DASHES: tuple[tuple[float, tuple[float, ...]], ...] = ((0, (1, 1.2)), (0, (4, 1.5)), (0, (6, 1.5, 1, 1.5)))


def line_appearances(models: Sequence[str]) -> dict[str, Appearance]:
    """Grey lines across the bars, told apart by their dashes; without bar and marker."""
    return {
        model: Appearance(color=GREY, hatch="", marker="", line=DASHES[number % len(DASHES)])
        for number, model in enumerate(models)
    }


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` x `height` millimetres that draws without a display."""
    figure = Figure(figsize=(width / 25.4, height / 25.4))
    FigureCanvasAgg(figure)
    return figure


def add_axes(
    figure: Figure, left: float, top: float, width: float, height: float, projection: Literal["polar"] | None = None
) -> Axes:
    """Axes at a place in millimetres from the figure's upper left corner."""
    page_width, page_height = (25.4 * inches for inches in figure.get_size_inches())
    place = (left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height)
    return figure.add_axes(place, projection=projection)


def add_text(figure: Figure, left: float, top: float, text: str, size: float = SMALL, **how: object) -> None:
    """Text with its upper left corner at a place in millimetres (`ha="center"` and the like move it)."""
    width, height = (25.4 * inches for inches in figure.get_size_inches())
    how = {"ha": "left", "va": "top", "fontsize": size} | how
    figure.text(left / width, 1 - top / height, text, **how)  # type: ignore[arg-type]


_MEASURE = RendererAgg(8, 8, 72)  # type: ignore[no-untyped-call]  # at 72 dpi a pixel is a point


def text_width(text: str, size: float = SMALL, weight: str = "normal") -> float:
    """Width of one line of text in millimetres."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    points, _, _ = _MEASURE.get_text_width_height_descent(text, font, False)  # type: ignore[no-untyped-call]
    return float(points) * 25.4 / 72


def wrap(text: str, width: float, size: float = SMALL) -> list[str]:
    """Break text at spaces into lines of at most `width` millimetres (a longer word stands alone)."""
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def stand_in_titles(titles: Mapping[str, str], stand_ins: Sequence[str]) -> dict[str, str]:
    """Titles of models for a legend, those that stand in for a checkpoint with the word."""
    return {model: f"{title} (stand-in)" if model in stand_ins else title for model, title in titles.items()}


def stand_in_note(titles: Mapping[str, str], stand_ins: Sequence[str]) -> list[str]:
    """The sentence that a figure with stand-ins needs; none without."""
    names = [title for model, title in titles.items() if model in stand_ins]
    if not names:
        return []
    return [
        "Stand-in (random weights in the upstream file's format, or taught by a teacher of such), not the published "
        f"model: {', '.join(names)}."
    ]


def mark_simulated(figure: Figure) -> None:
    """Say across the top, in SIMULATED_BAND millimetres kept free for it, that the data are simulated."""
    add_text(
        figure,
        25.4 * figure.get_size_inches()[0] / 2,
        1.6,
        "SIMULATED DATA: demonstration only",
        TITLE,
        ha="center",
        weight="bold",
        color="white",
        bbox={"boxstyle": "round,pad=0.25", "facecolor": WARNING, "edgecolor": "none"},
    )


class Unavailable(BaseModel):
    """A task or model that the configuration asks for and that cannot be drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["task", "model"]
    name: str
    title: str
    reason: str


def note_unavailable(unavailable: Sequence[Unavailable]) -> list[str]:
    """Sentences that name what is missing, one per kind and reason: "Tasks not available: A, B (private)."."""
    together: dict[tuple[str, str], list[str]] = {}
    for entry in unavailable:
        together.setdefault((entry.kind, entry.reason.strip().rstrip(".")), []).append(entry.title)
    return [
        f"{kind.capitalize()}{'s' if len(titles) > 1 else ''} not available: {', '.join(titles)} ({reason})."
        for (kind, reason), titles in sorted(together.items(), key=lambda item: item[0][0], reverse=True)
    ]


def format_p(p: float) -> str:
    """A P value as journals print it: "P < .001", "P = .012", "P = .34", "P > .99"."""
    if math.isnan(p):
        return "P n/a"
    if p < 0.001:
        return "P < .001"
    if p > 0.99:
        return "P > .99"
    # Three digits where rounding to two could land on a threshold.
    return f"P = {f'{p:.3f}' if p < 0.0995 else f'{p:.2f}'}".replace("0.", ".")


def bar_scale(low: float, high: float) -> tuple[float, float]:
    """Start and tick distance, in percent, of an axis for bars whose values lie between `low` and `high`.

    It starts at 0 where that costs little, else at a tick clear of the lowest value, and spans at least
    five points, so that tiny differences stay small.
    """
    low = min(low, high - 5)
    start = low - 0.2 * (high - low)
    if start <= 15:
        start = 0.0
    step = next(step for step in (1.0, 2.0, 5.0, 10.0, 20.0, 25.0) if (high - start) / step <= 5)
    return max(0.0, math.floor(start / step) * step), step


def percent_ticks(axes: Axes, start: float, high: float, step: float) -> None:
    """Ticks from `start` to just above `high`, never above 100; the axis line ends with the last."""
    last = min(100.0, math.ceil(high / step) * step, axes.get_ylim()[1])
    ticks = [start + step * number for number in range(int((last - start) / step + 1e-9) + 1)]
    axes.set_yticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axes.spines["left"].set_bounds(start, ticks[-1])


def size_mm(axes: Axes) -> tuple[float, float]:
    """Width and height of axes in millimetres."""
    box, (width, height) = axes.get_position(), axes.get_figure(root=True).get_size_inches()  # type: ignore[union-attr]
    return 25.4 * width * box.width, 25.4 * height * box.height


def break_bars(axes: Axes) -> None:
    """Mark bars and axis that do not start at 0: a white zigzag through the bars' feet, two strokes on the axis."""
    width, height = size_mm(axes)
    count = round(width / 0.9)
    x = [place / count for place in range(count + 1)]
    y = [(1.0 + 0.6 * (place % 2)) / height for place in range(count + 1)]
    for thickness, color in ((2.0, "white"), (0.35, "#B0B0B0")):
        axes.plot(x, y, transform=axes.transAxes, color=color, linewidth=thickness, zorder=3)
    for bottom in (0.8, 1.6):
        x, y = [-0.9 / width, 0.9 / width], [bottom / height, (bottom + 0.7) / height]
        axes.plot(x, y, transform=axes.transAxes, color="black", linewidth=0.6, clip_on=False, zorder=5)
