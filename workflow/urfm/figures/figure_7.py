"""Figure 7: t-SNE of embeddings before pre-training, after it, and after fine-tuning (stage `figure_7`).

Above, images of the tasks' data sets, coloured by data set; below, validation images of each task, coloured by class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from urfm.core.cli import parse_settings, run
from urfm.core.progress import say
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.page import MARGIN, blank
from urfm.figures.pictures import PictureSettings, read_record
from urfm.figures.style import COLORS, DOUBLE_COLUMN, GREY, LABEL, LINE, MARKERS, TITLE

UPPER, SIDE = 62.0, 52.0  # mm, width and height of the two panels above
COLUMNS = 5
LOWER = (DOUBLE_COLUMN - 2 * MARGIN) / COLUMNS  # of a panel below, with its space
HEAD = 9.4  # title and two lines


class Figure7Settings(PictureSettings):
    """Settings of the stage."""

    before: tuple[str, str]  # name and title of a model
    after: tuple[str, str]


@dataclass(frozen=True)
class Cloud:
    """A panel's points (image_id, group, x, y) and what the stage measured of their embeddings."""

    record: dict[str, Any]
    points: pd.DataFrame


def read_clouds(records: Sequence[Path], settings: Figure7Settings) -> dict[str, Cloud]:
    """Panels by name: before, after, and tasks."""
    names = {settings.before[0]: "before", settings.after[0]: "after"}
    clouds = {}
    for path in records:
        record = read_record(path)
        clouds[record["task"] or names[record["model"]]] = Cloud(record, pd.read_parquet(path.with_suffix(".parquet")))
    return clouds


def draw(clouds: dict[str, Cloud], settings: Figure7Settings) -> Figure:
    """The whole figure; its height follows from the number of tasks and classes."""
    below = [task for task in settings.tasks if task.task in clouds]
    rows = [below[first : first + COLUMNS] for first in range(0, len(below), COLUMNS)]
    legends = [max(legend_lines([name for _, name in task.classes]) for task in row) for row in rows]
    upper = HEAD + SIDE + 3
    heights = [HEAD + LOWER - 2 + LINE * lines + 2 for lines in legends]
    simulated = any(cloud.record["simulated"] for cloud in clouds.values())
    total = upper + (4.5 if rows else 0) + sum(heights) if settings.tasks else 4.0
    figure, top = blank(total, notes(clouds, settings), simulated, above=2.0)
    if not settings.tasks:
        style.add_text(figure, MARGIN, top, "Figure 7: no task has data", LABEL, weight="bold")
        return figure

    sets = {task.task: f"{task.source}, {task.title.lower()}" for task in settings.tasks}
    for place, name in enumerate(("before", "after")):
        model = settings.before if name == "before" else settings.after
        heading = f"{name.capitalize()} pre-training: {model[1]}"
        without = "not available" if len(sets) > 1 else "needs two data sets"
        draw_cloud(figure, MARGIN + place * (UPPER + 2), top, UPPER, SIDE, heading, clouds.get(name), sets, without)
    draw_legend(figure, MARGIN + 2 * (UPPER + 2), top + HEAD, list(sets.values()), width=41)
    top += upper
    if rows:
        style.add_text(figure, MARGIN, top, f"After fine-tuning of {settings.after[1]}: validation images", TITLE)
        top += 4.5
    for row, height in zip(rows, heights, strict=True):
        for place, task in enumerate(row):
            left, classes = MARGIN + place * LOWER, dict(task.classes)
            draw_cloud(figure, left, top, LOWER - 2, LOWER - 2, task.title, clouds[task.task], classes)
            draw_legend(figure, left, top + HEAD + LOWER - 1.5, list(classes.values()), LOWER - 2)
        top += height
    return figure


def draw_cloud(
    figure: Figure,
    left: float,
    top: float,
    width: float,
    height: float,
    heading: str,
    cloud: Cloud | None,
    groups: dict[str, str],
    without: str = "not available",
) -> None:
    """Heading, two lines of numbers, and the points; or why there are none."""
    style.add_text(figure, left, top, heading, LABEL, weight="bold")
    axes = style.add_axes(figure, left, top + HEAD, width, height)
    axes.set(xticks=[], yticks=[])
    axes.spines[["left", "bottom", "top", "right"]].set(visible=True, color="#BBBBBB")
    if cloud is None:
        axes.text(0.5, 0.5, without, ha="center", va="center", color=GREY, transform=axes.transAxes)
        return
    for line, text in enumerate(measures(cloud)):
        style.add_text(figure, left, top + 3.4 + LINE * line, text, color=GREY)
    size = 7.0 if len(cloud.points) < 600 else 4.0
    for number, group in enumerate(groups):
        own = cloud.points[cloud.points["group"] == group]
        axes.scatter(own["x"], own["y"], size, **look(number), linewidths=0.2, edgecolors="white")
    axes.margins(0.04)


def look(number: int) -> dict[str, Any]:
    """Colour and marker of the group of this number."""
    return {"color": COLORS[number % len(COLORS)], "marker": MARKERS[number % len(MARKERS)]}


def measures(cloud: Cloud) -> list[str]:
    """The two lines above a panel."""
    record = cloud.record

    def percent(name: str) -> str:
        return "n/a" if record[name] is None else f"{100 * record[name]:.0f} %"

    silhouette = "n/a" if record["silhouette"] is None else f"{record['silhouette']:.2f}".replace("-", "−")
    return [
        f"n = {record['images']:,}, silhouette {silhouette}",
        f"10-NN {percent('purity')}, chance {percent('chance')}",
    ]


def legend_lines(names: Sequence[str], width: float = LOWER - 2) -> int:
    """Lines that a legend in a column needs."""
    return sum(len(style.wrap(name, width - 3)) for name in names)


def draw_legend(figure: Figure, left: float, top: float, names: Sequence[str], width: float) -> None:
    """Marker and name of each group, one below the other."""
    for number, name in enumerate(names):
        axes = style.add_axes(figure, left, top, 2.4, 2.4)
        axes.axis("off")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.scatter([0.5], [0.5], 10, **look(number), linewidths=0)
        lines = style.wrap(name, width - 3)
        style.add_text(figure, left + 3, top + 0.1, "\n".join(lines), linespacing=1.05)
        top += LINE * len(lines)


def notes(clouds: dict[str, Cloud], settings: Figure7Settings) -> list[str]:
    """The sentences below the figure."""
    sentences = [
        "A point is an image, placed by t-SNE of its embedding, what the linear layer sees; axes have no unit, and "
        "distances and sizes of clusters mean little. The numbers are of the embeddings, each image among other "
        "patients' images only. 10-NN: share of the ten nearest that are of the image's group; chance: the group's "
        "share among them all. Silhouette: −1 to 1, above 0 where groups are apart.",
    ]
    absent = [
        title for name, (_, title) in (("before", settings.before), ("after", settings.after)) if name not in clouds
    ]
    if settings.tasks and absent:
        sentences.append(f"Not drawn: {', '.join(absent)}.")
    return sentences + settings.notes + style.note_unavailable(settings.unavailable)


def numbers_drawn(clouds: dict[str, Cloud]) -> pd.DataFrame:
    """Every point: panel, model, image_id, group, x, y; and the panel's silhouette, purity and chance."""
    tables = []
    for name, cloud in clouds.items():
        kept = {key: cloud.record[key] for key in ("silhouette", "purity", "chance")}
        table = cloud.points[["image_id", "group", "x", "y"]]
        tables.append(table.assign(panel=name, model=cloud.record["model"], **kept))
    columns = ["panel", "model", "image_id", "group", "x", "y", "silhouette", "purity", "chance"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw Figure 7: t-SNE of embeddings at three stages.")
    parser.add_argument("--embeddings", type=Path, nargs="*", default=[], help="json files of the embeddings stage")
    options = parser.parse_args()
    settings = parse_settings(Figure7Settings, options.settings)
    clouds = read_clouds(options.embeddings, settings)
    save(options.output, draw(clouds, settings), settings.dpi, numbers_drawn(clouds))
    say(f"figure 7: {len(clouds)} panel(s); written to {options.output}.pdf, .png and .csv")


if __name__ == "__main__":
    run(main)
