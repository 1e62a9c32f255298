"""Figure 1: the study at a glance (stage `figure_1`).

A: images of the pre-training set by organ. B: the method, drawn from one image. C: macro F1 of every model on every
task, and the mean over the tasks that all of them have. D: example images of tasks. A panel whose input is not there
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.core.progress import say
from urfm.data.images.store import ImageStore
from urfm.data.splits.shares import hash_order
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.page import MARGIN, blank, panel_letter
from urfm.figures.pictures import PictureSettings, PictureTask, read_record, show_image
from urfm.figures.style import DOUBLE_COLUMN, GREY, TITLE
from urfm.metrics import METRICS
from urfm.statistics.stored import AVERAGE

WIDE, NARROW = 98.0, DOUBLE_COLUMN - 2 * MARGIN - 98.0 - 6  # mm, the right and the left column
STEP = 21.0  # mm, a picture of the method
BAR = "#0072B2"
METRIC = "f1_macro"
EXAMPLE = 19.0
TASK, ABREAST = 3.6, 3  # mm, a row of panel C; entries in a line of its legend


class Figure1Settings(PictureSettings):
    """Settings of the stage."""

    organs: list[tuple[str, str]]  # key and name, in the order of Table 1
    models: list[tuple[str, str]]  # name and title of those of panel C, in order
    compared: list[tuple[str, str]]  # the same of its tasks
    model: str  # title of the one that panel B shows


@dataclass(frozen=True)
class Example:
    """An image of panel D: pixels (h, w, 3) and the name of its class."""

    pixels: npt.NDArray[np.uint8]
    name: str


@dataclass(frozen=True)
class Content:
    """What the panels show; None or empty where it is not there. `simulated` is of any of it."""

    organs: pd.DataFrame  # organ (name), images
    method: dict[str, npt.NDArray[Any]]
    scores: pd.DataFrame  # task, model, f1 (percent), as of `f1_scores`
    examples: dict[str, list[Example]]  # by title and source of the task
    simulated: bool


def organ_counts(record: dict[str, Any] | None, organs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Images of each organ of a pre-training set, most first."""
    counts: dict[str, int] = {}
    for row in record["counts"] if record else []:
        counts[row["organ"]] = counts.get(row["organ"], 0) + row["images"]
    table = pd.DataFrame([(name, counts.get(key, 0)) for key, name in organs], columns=["organ", "images"])
    table = table[table["images"] > 0]
    return table.sort_values("images", ascending=False, kind="stable", ignore_index=True)


def f1_scores(
    scores: pd.DataFrame | None, models: Sequence[tuple[str, str]], tasks: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """Macro F1 in percent with the whole training part: task, model, f1, in the order of `tasks` and `models`.

    Below them, as task `average`, the mean over the tasks that every model has, where there are two tasks or more.
    """
    columns = ["task", "model", "f1"]
    if scores is None:
        return pd.DataFrame(columns=columns)
    rows = scores[(scores["metric"] == METRIC) & (scores["share"] == 100)]
    wide = 100 * rows.pivot_table(index="task", columns="model", values="mean")
    wide = wide.reindex(
        index=[task for task, _ in tasks if task in wide.index],
        columns=[model for model, _ in models if model in wide.columns],
    )
    if len(common := wide.dropna()) > 1:
        wide.loc[AVERAGE] = common.mean()
    cells = [(task, model, value) for task, row in wide.iterrows() for model, value in row.dropna().items()]
    return pd.DataFrame(cells, columns=columns)


def choose_examples(task: PictureTask, store: ImageStore, split: pd.DataFrame) -> list[Example]:
    """One test image of each of the first two classes, the first in an order fixed by hash."""
    examples = []
    for label, name in task.classes[:2]:
        rows = split[(split["label"] == label) & (split["subset"] == "test")]
        if len(rows):
            order = hash_order(rows["image_id"], 0, "example").sort_values().index
            examples.append(Example(store.read(str(rows["image_id"].loc[order[0]])), name))
    return examples


def draw(content: Content, settings: Figure1Settings) -> Figure:
    """The whole figure."""
    left_height = 8 + 3.3 * max(8, len(content.organs)) + 4
    method_height = 8 + STEP + 12
    rows, models = content.scores["task"].nunique(), content.scores["model"].nunique()
    lower = max(left_height, method_height + 8 + legend_height(models) + TASK * max(5, rows) + 8)
    examples_height = 8 + 4 + EXAMPLE + 4 if content.examples else 8.0
    figure, top = blank(lower + examples_height, notes(content, settings), content.simulated, above=2.0)
    right = MARGIN + NARROW + 6
    draw_organs(figure, MARGIN, top, content.organs)
    draw_method(figure, right, top, content.method, settings)
    draw_scores(figure, right, top + method_height, content.scores, settings)
    draw_examples(figure, MARGIN, top + lower, content.examples)
    return figure


def draw_organs(figure: Figure, left: float, top: float, organs: pd.DataFrame) -> None:
    """Horizontal bars with counts and shares."""
    total = int(organs["images"].sum())
    panel_letter(
        figure, left, top, "A", f"Pre-training set: {total:,} images" if total else "Pre-training set: not available"
    )
    if not total:
        return
    axes = style.add_axes(figure, left + 21, top + 7, NARROW - 21 - 18, 3.3 * len(organs))
    places = np.arange(len(organs))
    axes.barh(places, organs["images"], 0.75, color=BAR)
    for place, count in enumerate(organs["images"]):
        text = f"{count:,} ({100 * count / total:.1f} %)"
        axes.annotate(text, (count, place), (1.5, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, organs["organ"].tolist())
    axes.set(ylim=(len(organs) - 0.5, -0.5), xticks=[])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)


def draw_method(
    figure: Figure, left: float, top: float, method: dict[str, npt.NDArray[Any]], settings: Figure1Settings
) -> None:
    """Image, masked image, reconstruction and target side by side, with what leads from one to the next."""
    panel_letter(figure, left, top, "B", f"Representation reconstruction by {settings.model}")
    if not method:
        style.add_text(figure, left + 4.5, top + 6, "not available: no run to look at", color=GREY)
        return
    image, mask = method["image"], method["mask"]
    rows, columns = mask.shape
    hidden = np.kron(mask, np.ones((image.shape[0] // rows, image.shape[1] // columns)))[..., None] > 0
    light = np.full_like(method["prediction"], 0.9)
    pictures = [
        ("Image", image),
        ("Visible patches", np.where(hidden, 200, image).astype(np.uint8)),
        ("Reconstruction\nof hidden patches", np.where(mask[..., None] > 0, method["prediction"], light)),
        ("Target: the teacher's\nrepresentation", method["target"]),
    ]
    step = (WIDE - 4 * STEP) / 3
    for number, (title, picture) in enumerate(pictures):
        place = left + number * (STEP + step)
        axes = style.add_axes(figure, place, top + 7, STEP, STEP)
        show_image(axes, picture, 1.0, interpolation="nearest")
        style.add_text(figure, place + STEP / 2, top + 7.6 + STEP, title, ha="center", linespacing=1.05)
        if number < 3:
            sign = ("→", "→", "≈")[number]
            style.add_text(figure, place + STEP + step / 2, top + 7 + STEP / 2, sign, TITLE, ha="center", va="center")


def draw_scores(figure: Figure, left: float, top: float, scores: pd.DataFrame, settings: Figure1Settings) -> None:
    """A row per task and one of the means, with a mark per model, and the highest score at its right end."""
    name = METRICS[METRIC].title
    tasks = [task for task in dict.fromkeys(scores["task"]) if task != AVERAGE]
    over = f"{len(tasks)} task{'s' * (len(tasks) > 1)}"
    panel_letter(figure, left, top, "C", f"{name} after fine-tuning, {over}" if tasks else f"{name}: not available")
    if not tasks:
        return
    titles = {model: title for model, title in settings.models if model in set(scores["model"])}
    looks = style.appearances(list(titles))
    marks = [
        Line2D([], [], color=looks[model].color, marker=looks[model].marker, markersize=3, linestyle="", label=title)
        for model, title in titles.items()
    ]
    rows = list(dict.fromkeys(scores["task"]))
    axes = style.add_axes(figure, left + 26, top + 7 + legend_height(len(titles)), WIDE - 26 - 8, TASK * len(rows))
    for place, task in enumerate(rows):
        own = scores[scores["task"] == task].set_index("model")["f1"]
        axes.axhline(place, color="#DDDDDD", linewidth=0.4, zorder=1)
        for model, value in own.items():
            look = looks[str(model)]
            axes.plot([value], [place], marker=look.marker, color=look.color, markersize=3, markeredgewidth=0, zorder=3)
        axes.annotate(
            f"{own.max():.1f}", (1, place), (1.5, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center_baseline", color=looks[str(own.idxmax())].color, weight="bold",
        )  # fmt: skip
    if AVERAGE in rows:
        axes.axhline(len(rows) - 1.5, color="#808080", linewidth=0.5)
    low = max(0.0, 10 * np.floor((scores["f1"].min() - 2) / 10))
    axes.set(xlim=(low, 100), ylim=(len(rows) - 0.5, -0.5), xlabel=f"{METRICS[METRIC].short} (%)")
    axes.set_yticks(range(len(rows)), [dict(settings.compared).get(task, "Mean") for task in rows])
    axes.tick_params(axis="y", length=0)
    width, height = style.size_mm(axes)
    axes.legend(
        handles=marks, loc="lower left", bbox_to_anchor=(-26 / width, 1 + 0.8 / height), ncols=ABREAST,
        handlelength=1, handletextpad=0.2, columnspacing=1, labelspacing=0.2, borderpad=0, borderaxespad=0,
    )  # fmt: skip


def legend_height(models: int) -> float:
    """Millimetres that the legend of panel C takes."""
    return 3.0 * -(-models // ABREAST) + 1


def draw_examples(figure: Figure, left: float, top: float, examples: dict[str, list[Example]]) -> None:
    """Two images of each task, its title above and the class below each."""
    panel_letter(figure, left, top, "D", "Example images" if examples else "Example images: not available")
    width = (DOUBLE_COLUMN - 2 * MARGIN) / max(4, len(examples))
    for place, (title, images) in enumerate(examples.items()):
        start = left + place * width
        style.add_text(figure, start, top + 6, title, weight="bold")
        for number, example in enumerate(images):
            spot = start + number * (width - 2) / 2
            size = min(EXAMPLE, (width - 3) / 2)
            axes = style.add_axes(figure, spot, top + 9.5, size, size)
            height, across = example.pixels.shape[:2]
            show_image(axes, example.pixels, across / height)
            name = style.wrap(example.name, size)[0]
            style.add_text(figure, spot + size / 2, top + 10 + size, name, ha="center", color=GREY)


def notes(content: Content, settings: Figure1Settings) -> list[str]:
    """The sentences below the figure."""
    sentences = []
    if content.method:
        sentences.append(
            "B: a test image of a task; colours are the first three principal components of the target's tokens, onto "
            "which the reconstruction is projected. Grey: visible, so not reconstructed."
        )
    if len(content.scores):
        missing = [title for task, title in settings.compared if task not in set(content.scores["task"])]
        sentences.append(
            "C: means over seeds, the highest in figures; figure 2 has the intervals."
            + (
                " Mean: unweighted, over the tasks that every model has."
                if AVERAGE in set(content.scores["task"])
                else ""
            )
            + (f" Without {', '.join(missing)}: no result." if missing else "")
        )
    if content.examples:
        sentences.append("D: a test image of each of the first two classes of a task.")
    return sentences + settings.notes + style.note_unavailable(settings.unavailable)


def numbers_drawn(content: Content) -> pd.DataFrame:
    """Panel, name, quantity and value of all bars and marks."""
    rows = [("A", name, "images", count) for name, count in content.organs.itertuples(index=False)]
    rows += [
        ("C", model, "mean_f1_percent" if task == AVERAGE else f"f1_percent_{task}", value)
        for task, model, value in content.scores.itertuples(index=False)
    ]
    return pd.DataFrame(rows, columns=["panel", "name", "quantity", "value"])


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw Figure 1: the study at a glance.")
    parser.add_argument("--selection", type=Path, help="json of a pre-training set")
    parser.add_argument("--sample", type=Path, help="json of the attention stage")
    parser.add_argument("--statistics", type=Path, help="folder of the statistics stage")
    parser.add_argument("--images", type=Path, nargs="*", default=[], help="image stores of tasks")
    parser.add_argument("--splits", type=Path, nargs="*", default=[], help="json of a split of each, in this order")
    options = parser.parse_args()
    settings = parse_settings(Figure1Settings, options.settings)
    if len(options.images) != len(options.splits):
        raise UrfmError(f"--images: {len(options.images)} stores for {len(options.splits)} splits; give as many")

    records: list[dict[str, Any]] = []
    selection = read_json(options.selection) if options.selection else None
    method: dict[str, npt.NDArray[Any]] = {}
    if options.sample:
        records.append(read_record(options.sample))
        with np.load(options.sample.with_suffix(".npz"), allow_pickle=False) as arrays:
            method = {name: arrays[name] for name in ("image", "mask", "target", "prediction")}
    scores = None
    if options.statistics:
        records.append(read_json(options.statistics / "statistics.json"))
        verify_sha256(options.statistics / "scores.parquet", records[-1]["sha256"]["scores.parquet"])
        scores = pd.read_parquet(options.statistics / "scores.parquet")
    examples: dict[str, list[Example]] = {}
    for task, folder, path in zip(settings.tasks, options.images, options.splits, strict=True):
        records.append(read_json(path))
        verify_sha256(path.with_suffix(".parquet"), records[-1]["sha256"])
        split = pd.read_parquet(path.with_suffix(".parquet"))
        examples[f"{task.title} ({task.source})"] = choose_examples(task, ImageStore(folder, verify=True), split)
    content = Content(
        organs=organ_counts(selection, settings.organs),
        method=method,
        scores=f1_scores(scores, settings.models, settings.compared),
        examples=examples,
        simulated=any(record["simulated"] for record in [*records, *([selection] if selection else [])]),
    )
    save(options.output, draw(content, settings), settings.dpi, numbers_drawn(content))
    say(
        f"figure 1: {len(content.organs)} organs, {len(content.scores)} scores; "
        f"written to {options.output}.pdf, .png and .csv"
    )


if __name__ == "__main__":
    run(main)
