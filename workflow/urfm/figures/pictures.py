"""What figures 1, 6 and 7 share: the tasks they show, and how images, maps and outlines are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from pydantic import Field

from urfm.core.cli import Settings
from urfm.core.files import read_json, verify_sha256
from urfm.figures.style import Unavailable

OUTLINES = {"benign": "#56B4E9", "malignant": "#FF4B33"}  # the paper's blue and red; others yellow
OTHER_OUTLINE = "#F0E442"


class PictureTask(Settings):
    """A task as the figures name it."""

    task: str
    title: str
    source: str  # its data set
    classes: list[tuple[str, str]]  # label and name, in the order of the network's outputs

    def name_of(self, label: str) -> str:
        """What to print for a label."""
        return dict(self.classes)[label]


class PictureSettings(Settings):
    """Settings that all three figures have."""

    tasks: list[PictureTask]
    unavailable: list[Unavailable] = Field(description="tasks and models that cannot be shown, with the reason")
    notes: list[str] = Field(description="sentences for the foot of the figure")
    dpi: int = Field(ge=72, description="resolution of the PNG")


def read_record(path: Path) -> dict[str, Any]:
    """A stage's json; the files that it describes beside it are verified."""
    record: dict[str, Any] = read_json(path)
    digests = record["sha256"] if isinstance(record["sha256"], dict) else {"parquet": record["sha256"]}
    for suffix, digest in digests.items():
        verify_sha256(path.with_suffix(f".{suffix}"), digest)
    return record


def show_image(axes: Axes, image: npt.NDArray[Any], aspect: float, **how: Any) -> None:
    """An image (h, w) or (h, w, 3) that was made square, in its own shape: `aspect` is width over height."""
    axes.set_axis_off()
    axes.imshow(image, extent=(0, aspect, 1, 0), **{"interpolation": "bilinear"} | how)
    axes.set(xlim=(0, aspect), ylim=(1, 0))
    axes.set_aspect("equal")


def show_map(axes: Axes, image: npt.NDArray[np.uint8], values: npt.NDArray[Any], aspect: float) -> None:
    """A map over the grey image, from its least to its greatest value."""
    show_image(axes, image, aspect)
    span = float(np.ptp(values))
    show_image(axes, (values - values.min()) / (span or 1), aspect, cmap="inferno", alpha=0.6, vmin=0, vmax=1)


def show_outline(axes: Axes, lesion: npt.NDArray[np.bool_], label: str, aspect: float) -> None:
    """The border of a lesion, its colour by label; nothing where there is none."""
    if lesion.size:
        height, width = lesion.shape
        x, y = (np.arange(width) + 0.5) / width * aspect, (np.arange(height) + 0.5) / height
        axes.contour(x, y, lesion, levels=[0.5], colors=OUTLINES.get(label, OTHER_OUTLINE), linewidths=0.9)
