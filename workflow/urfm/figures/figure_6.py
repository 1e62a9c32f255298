"""Figure 6: where networks look (stage `figure_6`).

A row per task: a test image with its lesion, the attention of the teacher, that of the reconstruction by the
pre-trained network or of its encoder, and Grad-CAM of the fine-tuned one. Below them what the maps of all test images
have in common, in numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from urfm.core.cli import parse_settings, run
from urfm.core.progress import say
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.page import MARGIN, blank
from urfm.figures.pictures import (
    PictureSettings,
    PictureTask,
    read_record,
    show_image,
    show_map,
    show_outline,
)
from urfm.figures.style import DOUBLE_COLUMN, GREY, LABEL
from urfm.statistics.significance import t_interval

MAPS = ("teacher", "reconstruction", "gradcam")
COLUMNS = 2  # tasks side by side
CELL = 20.4  # mm, width and height of an image
ROW = CELL + 11.0
HEADING = 7.0
LEVEL = 0.95


class Figure6Settings(PictureSettings):
    """Settings of the stage."""

    model: str


@dataclass(frozen=True)
class Row:
    """A task's maps: the stage's record, its arrays of one image, and its table of all images."""

    task: PictureTask
    record: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    measured: pd.DataFrame


def read_rows(records: list[Path], settings: Figure6Settings) -> list[Row]:
    """The tasks in the configured order."""
    tasks = {task.task: task for task in settings.tasks}
    rows = []
    for path in records:
        record = read_record(path)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        rows.append(Row(tasks[record["task"]], record, content, pd.read_parquet(path.with_suffix(".parquet"))))
    return sorted(rows, key=lambda row: list(tasks).index(row.task.task))


def summarise(rows: list[Row]) -> pd.DataFrame:
    """Mean and t interval over test images of every number: task, quantity, images, mean, ci_low, ci_high."""
    summary = []
    for row in rows:
        for quantity in row.measured.columns[3:]:
            values = row.measured[quantity].dropna().to_numpy(dtype=float)
            mean = float(values.mean()) if len(values) else float("nan")
            summary.append((row.task.task, quantity, len(values), mean, *t_interval(values, LEVEL)))
    return pd.DataFrame(summary, columns=["task", "quantity", "images", "mean", "ci_low", "ci_high"])


def draw(rows: list[Row], settings: Figure6Settings) -> Figure:
    """The whole figure; its height follows from the number of tasks."""
    lines = -(-len(rows) // COLUMNS)
    simulated = any(row.record["simulated"] for row in rows)
    figure, top = blank(HEADING + ROW * lines if rows else 4.0, notes(rows, settings), simulated, above=2.0)
    if not rows:
        style.add_text(figure, MARGIN, top, "Figure 6: no task can be shown", LABEL, weight="bold")
        return figure
    summary = summarise(rows)
    block = (DOUBLE_COLUMN - 2 * MARGIN) / COLUMNS
    for place in range(min(COLUMNS, len(rows))):
        for number, heading in enumerate(headings(rows[0], settings)):
            left = MARGIN + place * block + number * (CELL + 0.4) + CELL / 2
            style.add_text(figure, left, top + HEADING - 0.8, heading, ha="center", va="bottom", linespacing=1.05)
    for number, row in enumerate(rows):
        left, upper = MARGIN + number % COLUMNS * block, top + HEADING + number // COLUMNS * ROW
        own = summary[summary["task"] == row.task.task]
        draw_row(figure, left, upper, row, dict(zip(own["quantity"], own["mean"], strict=True)))
    return figure


def headings(row: Row, settings: Figure6Settings) -> list[str]:
    """One a column."""
    teacher = row.record["teacher"]
    first = "Attention of" if teacher["attends"] else "Activation of"
    names = {"biomedclip": "BiomedCLIP", "clip": "CLIP", "efficientnet_lite0": "EfficientNet-Lite0", "pixels": "pixels"}
    encoder = row.record["attention"] == "encoder"
    return [
        "Image",
        f"{first}\n{names[teacher['kind']]}",
        f"Attention of\n{settings.model}" if encoder else f"Attention, recon-\nstruction by {settings.model}",
        "Grad-CAM,\nfine-tuned",
    ]


def draw_row(figure: Figure, left: float, top: float, row: Row, means: dict[str, float]) -> None:
    """Title, image, three maps, and two lines of numbers below each."""
    shown, arrays = row.record["shown"], row.arrays
    style.add_text(figure, left, top, row.task.title, LABEL, weight="bold")
    after = left + style.text_width(row.task.title, LABEL, "bold") + 1.5
    said = row.task.name_of(shown["label"])
    if shown["label"] != shown["predicted"]:
        said += f", taken for {row.task.name_of(shown['predicted'])}"
    style.add_text(figure, after, top + 0.3, said, color=GREY)
    upper = top + 3.4
    for number, name in enumerate(("image", *MAPS)):
        place = left + number * (CELL + 0.4)
        axes = style.add_axes(figure, place, upper, CELL, CELL)
        if name == "image":
            show_image(axes, arrays["image"], shown["aspect"])
            show_outline(axes, arrays["lesion"], shown["label"], shown["aspect"])
        else:
            show_map(axes, arrays["image"], arrays[name], shown["aspect"])
        for line, text in enumerate(numbers(name, row, means)):
            style.add_text(figure, place + CELL / 2, upper + CELL + 0.5 + 2.6 * line, text, ha="center", color=GREY)


def numbers(name: str, row: Row, means: dict[str, float]) -> list[str]:
    """What stands below a picture."""
    if name == "image":
        return [f"n = {len(row.measured):,}", f"R² {means['r2']:.2f}".replace("-", "−")]
    lines = []
    flat = int(row.measured["rho_teacher_gradcam"].isna().sum()) if name == "gradcam" else 0
    if flat > len(row.measured) / 2:
        return [f"{flat} of {len(row.measured)} are flat"]
    if not math.isnan(means["area"]):
        lines.append(f"in lesion × {means[f'in_{name}']:.1f}")
    attends = "encoder" if row.record["attention"] == "encoder" else "recon."
    others = {"reconstruction": ("teacher", "teacher_reconstruction"), "gradcam": (attends, "reconstruction_gradcam")}
    if name in others:
        other, pair = others[name]
        lines.append(f"ρ {other} {means[f'rho_{pair}']:.2f}".replace("-", "−"))
    return lines


def notes(rows: list[Row], settings: Figure6Settings) -> list[str]:
    """The sentences below the figure."""
    sentences = []
    if rows:
        teacher = rows[0].record["teacher"]
        outlined = any(row.arrays["lesion"].size for row in rows)
        seen = "for the reconstruction in the decoder's, mean over complementary masks that show every patch once"
        if rows[0].record["attention"] == "encoder":
            seen = f"of {settings.model} in the pre-trained encoder, which sees the whole image"
        sentences = [
            "Each row: of a fixed random order of test images the first that is classified correctly"
            + (
                " and whose lesion the archive outlines (blue benign, red malignant, yellow other)."
                if outlined
                else "."
            ),
            f"Attention: of the [CLS] token in the last layer, mean over heads; {seen}. Grad-CAM: of the predicted "
            "class, on the first norm of the last block of the first seed's network. Each map runs from its least "
            "(dark) to its greatest value (bright).",
        ]
        if not teacher["attends"]:
            sentences.append(
                f"The teacher {teacher['name']} has no [CLS] token: instead the length of its output at each place."
            )
        sentences.append(
            "Numbers: means over n test images. In lesion: share of the map within the outline, divided by that of the "
            "image (× 1.0: no preference). ρ: Spearman's correlation with the other map. R²: of reconstructed "
            "representations in hidden patches. Flat: zero everywhere. Intervals are in the CSV file."
        )
    return sentences + settings.notes + style.note_unavailable(settings.unavailable)


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw Figure 6: attention and class activation maps.")
    parser.add_argument("--maps", type=Path, nargs="*", default=[], help="json files of the attention stage")
    options = parser.parse_args()
    settings = parse_settings(Figure6Settings, options.settings)
    rows = read_rows(options.maps, settings)
    save(options.output, draw(rows, settings), settings.dpi, summarise(rows))
    say(f"figure 6: {len(rows)} task(s); written to {options.output}.pdf, .png and .csv")


if __name__ == "__main__":
    run(main)
