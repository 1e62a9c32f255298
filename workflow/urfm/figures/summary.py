"""What the figures that summarise a comparison's statistics share: settings, and a page in millimetres."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from urfm.core.cli import Ordered, Settings
from urfm.figures import style
from urfm.figures.page import MARGIN
from urfm.figures.style import Unavailable
from urfm.statistics.stored import Stored


class SummarySettings(Settings):
    """Settings of the stages `critical_difference` and `calibration`."""

    models: Ordered[str] = Field(min_length=1, description="[name, title] of each model, in order")
    tasks: Ordered[str] = Field(min_length=1, description="[name, title] of each task, in order")
    unavailable: list[Unavailable] = Field(default=[], description="tasks and models not available, with the reason")
    notes: list[str] = Field(default=[], description="sentences for the foot of the figure")
    dpi: int = Field(ge=72, description="resolution of the PNG")


def foot(sentences: Sequence[str], stored: Stored, settings: SummarySettings, width: float) -> list[str]:
    """Lines for the foot: `sentences`, stand-ins, the settings' notes, and what is not available."""
    marked = style.stand_in_note(settings.models, stored.stand_ins)
    every = [*sentences, *marked, *settings.notes, *style.note_unavailable(settings.unavailable)]
    return [line for sentence in every for line in style.wrap(sentence, width - 2 * MARGIN)]


def page(figure: Figure) -> Axes:
    """Axes over the whole figure whose units are millimetres from its upper left corner, to draw lines in."""
    width, height = (25.4 * inches for inches in figure.get_size_inches())
    axes = style.add_axes(figure, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes
