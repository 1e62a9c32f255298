"""What stands on the page of a figure over models and tasks: letters, legend, panels one below another, notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from urfm.figures import style
from urfm.figures.style import DOUBLE_COLUMN, GREY, LABEL, LINE, TITLE, Appearance

MARGIN = 2.5  # mm
WIDTH = DOUBLE_COLUMN - 2 * MARGIN
HEADING = 5.0  # mm, a panel's letter and heading
LEGEND_ROW = 4.2


@dataclass(frozen=True)
class Block:
    """A part of the page as wide as it is: its height in millimetres, and what draws it from a top edge on."""

    height: float
    draw: Callable[[Figure, float], None]


def compose(blocks: Sequence[Block], foot: Sequence[str], simulated: bool) -> Figure:
    """A figure of two columns: the mark of simulated data, the blocks from top to bottom, and sentences below."""
    figure, top = blank(sum(block.height for block in blocks), foot, simulated)
    for block in blocks:
        block.draw(figure, top)
        top += block.height
    return figure


def blank(height: float, foot: Sequence[str], simulated: bool, above: float = 1.5) -> tuple[Figure, float]:
    """A page with `height` millimetres of room above the sentences at its foot, and where the room begins."""
    lines = [line for sentence in foot for line in style.wrap(sentence, WIDTH)]
    top = style.SIMULATED_BAND if simulated else above
    figure = style.new_figure(DOUBLE_COLUMN, top + height + 1 + LINE * len(lines) + 1.5)
    if simulated:
        style.mark_simulated(figure)
    add_foot(figure, top + height + 1, lines)
    return figure, top


def add_foot(figure: Figure, top: float, lines: Sequence[str]) -> None:
    """Lines of small type below a figure."""
    for number, line in enumerate(lines):
        style.add_text(figure, MARGIN, top + LINE * number, line, color="#333333")


def heading_block(letter: str, heading: str) -> Block:
    """A panel's letter and heading."""
    return Block(HEADING, lambda figure, top: panel_letter(figure, MARGIN, top, letter, heading))


def absent_block(letter: str, heading: str, reason: str) -> Block:
    """A panel of which nothing can be drawn."""

    def draw(figure: Figure, top: float) -> None:
        panel_letter(figure, MARGIN, top, letter, heading)
        style.add_text(figure, MARGIN + 4.5, top + HEADING, reason, color=GREY)

    return Block(HEADING + 4.5, draw)


def legend_block(titles: Mapping[str, str], looks: Mapping[str, Appearance]) -> Block:
    """The models of the panels that follow."""
    rows = legend_rows(titles)
    return Block(LEGEND_ROW * len(rows) + 1, lambda figure, top: draw_legend(figure, top, rows, titles, looks))


def panel_letter(figure: Figure, left: float, top: float, letter: str, heading: str) -> None:
    style.add_text(figure, left, top, letter, TITLE + 1, weight="bold")
    style.add_text(figure, left + 4.5, top + 0.35, heading, TITLE)


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
    """Bar, line and marker of each model with its title, centred; of a line across the bars the line alone."""
    for number, row in enumerate(rows):
        widths = [11 + style.text_width(titles[model], LABEL) for model in row]
        left = (DOUBLE_COLUMN - sum(widths)) / 2
        for model, width in zip(row, widths, strict=True):
            look = looks[model]
            axes = style.add_axes(figure, left, top + LEGEND_ROW * number, 8, 3)
            axes.set(xlim=(0, 8), ylim=(0, 3))
            axes.axis("off")
            if look.marker:  # no line across the bars
                axes.bar(
                    1.2, 2.4, width=2, bottom=0.3, color=look.color, hatch=look.hatch, edgecolor="white", linewidth=0
                )
            axes.plot([3 if look.marker else 0.4, 7.6], [1.5, 1.5], color=look.color, linestyle=look.line)
            axes.plot([5.3], [1.5], color=look.color, marker=look.marker, markersize=3.2, markeredgewidth=0)
            style.add_text(figure, left + 8.4, top + LEGEND_ROW * number + 0.15, titles[model], LABEL)
            left += width
