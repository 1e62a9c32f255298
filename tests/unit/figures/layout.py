"""Where the texts of a figure stand: what overlaps, and what leaves the page."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[tuple[str, np.ndarray]]:
    """Every visible text and its box in pixels: left, bottom, right, top."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    unseen = {  # an axis keeps labels of ticks outside its view, and does not draw them
        id(label)
        for axes in figure.axes
        for axis in axes._axis_map.values()
        for tick in axis.majorTicks
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) - 1e-6 <= tick.get_loc() <= max(axis.get_view_interval()) + 1e-6
    }
    found = [
        (text.get_text(), text.get_window_extent(renderer).extents)
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in unseen
    ]
    return found


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    def apart(a: np.ndarray, b: np.ndarray) -> bool:
        slack = 0.6  # pixels at 100 dpi: boxes include the space above small letters
        return bool(a[2] - slack <= b[0] or b[2] - slack <= a[0] or a[3] - slack <= b[1] or b[3] - slack <= a[1])

    return [(a, b) for (a, x), (b, y) in itertools.combinations(texts(figure), 2) if not apart(x, y)]


def clipped(figure: Figure) -> list[str]:
    width, height = figure.canvas.get_width_height()
    return [
        name
        for name, (left, low, right, high) in texts(figure)
        if left < 0 or low < 0 or right > width or high > height
    ]
