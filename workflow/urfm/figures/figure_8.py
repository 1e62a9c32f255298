"""Figure 8: scaling of pre-training, and efficiency of fine-tuning (stage `figure_8`).

Macro F1 against A: the number of pre-training images, B: the size of the model, C: the share of the training part. D:
macro F1 on the validation part after each epoch of fine-tuning. Intervals everywhere. The CSV holds exactly what is
drawn: scores in percent, x as on the axis.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import offset_copy
from pydantic import Field
from scipy.stats import t

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.figures import drawn, notes, page, style
from urfm.figures.page import MARGIN, WIDTH, Block
from urfm.figures.read import Comparison, FigureSettings, Numbers, absence, p_words, read_comparisons
from urfm.figures.style import GREY, LABEL, LINE, Appearance
from urfm.figures.task_panel import count_seeds
from urfm.metrics import METRICS
from urfm.statistics.convergence import REACHED

PANELS = {
    "figure_8a": ("A", "Pre-training images"),
    "figure_8b": ("B", "Model size"),
    "figure_8c": ("C", "Labelled images for fine-tuning"),
}
CURVES = ("D", "Epochs of fine-tuning, validation part")
METRIC = "f1_macro"
SCORE = f"val_{METRIC}"
HISTORY = ["seed", "epoch", SCORE, "seconds"]
MOST_COLUMNS, WIDEST_CELL = 6, 58.0
LEFT, RIGHT = 8.0, 2.5  # mm beside the axes of a cell
HEIGHT = 23.0  # mm of these axes
BELOW = 11.5


class Size(NamedTuple):
    """Where a model stands on the x axis, and what is written there."""

    x: float
    name: str


class Figure8Settings(FigureSettings):
    """Settings of the stage."""

    runs: dict[str, str] = Field(default={}, description="model of panel A -> its pre-training run")
    organs: dict[str, list[str]] = Field(default={}, description="task of panel A -> [organ, its title]")


def data_sizes(selections: Sequence[Path], runs: Mapping[str, str]) -> tuple[dict[str, Size], dict[str, int]]:
    """Pre-training images of each model, and images of each organ in the largest selection."""
    found: dict[str, Any] = {record["run"]: record for record in map(read_json, selections)}
    sizes = {
        model: Size(found[name]["images"], f"{found[name]['share']} %") for model, name in runs.items() if name in found
    }
    organs: Counter[str] = Counter()
    for row in max(found.values(), key=lambda record: record["images"], default={"counts": []})["counts"]:
        organs[row["organ"]] += row["images"]
    return sizes, dict(organs)


def model_sizes(encoders: Sequence[Path]) -> dict[str, Size]:
    """Millions of parameters of each model, named ViT-B, ViT-L, ViT-H where these names tell them apart."""
    found = {record["model"]: record for record in map(read_json, encoders)}
    names = {}
    for model, record in found.items():
        size = re.match(r"vit_(base|large|huge|small|tiny)_", record["architecture"])
        names[model] = f"ViT-{size[1][0].upper()}" if size else ""
    distinct = len(set(names.values())) == len(names)
    return {
        model: Size(record["parameters"] / 1e6, names[model] if distinct else "") for model, record in found.items()
    }


def read_training(cells: Sequence[Path], confidence: float) -> tuple[dict[tuple[str, str, int], int], pd.DataFrame]:
    """Training images of each cell (model, task, share), and validation curves of the largest share.

    The curves are percent, a row per model, task and epoch: mean, ci_low and ci_high (t interval over seeds; NaN for
    one), seconds (median of an epoch). UrfmError when a history lacks a column.
    """
    images: dict[tuple[str, str, int], int] = {}
    tables = []
    for path in cells:
        record = read_json(path)
        images[(record["model"], record["task"], record["share"])] = record["images"]["train"]
        table = pd.read_csv(path.with_name("history.csv"))
        if absent := [name for name in HISTORY if name not in table.columns]:
            raise UrfmError(f"{path.with_name('history.csv')}: no column {absent[0]}; fine-tune this cell again")
        tables.append(table[HISTORY].assign(model=record["model"], task=record["task"], share=record["share"]))
    if not tables:
        return images, pd.DataFrame(columns=["model", "task", "share", "epoch", "mean", "ci_low", "ci_high", "seconds"])
    history = pd.concat(tables, ignore_index=True)
    history = history[history["share"] == history["share"].max()]
    groups = history.groupby(["model", "task", "share", "epoch"], sort=True)
    curves = groups[SCORE].agg(["mean", "std", "count"]).assign(seconds=groups["seconds"].median()).reset_index()
    half = t.ppf((1 + confidence) / 2, curves["count"] - 1) * curves["std"] / np.sqrt(curves["count"])
    curves["ci_low"], curves["ci_high"] = curves["mean"] - half, curves["mean"] + half
    curves[["mean", "ci_low", "ci_high"]] *= 100
    return images, curves


def draw(
    numbers: Mapping[str, Numbers],
    settings: Figure8Settings,
    sizes: Mapping[str, Mapping[str, Size]],
    organs: Mapping[str, int],
    training: tuple[Mapping[tuple[str, str, int], int], pd.DataFrame],
) -> Figure:
    """A to D below one another, a small chart per task; a panel of which nothing can be drawn says so."""
    images, curves = training
    blocks: list[Block] = []
    for name, item in settings.comparisons.items():
        letter, heading = PANELS.get(name, (name, name))
        if name not in numbers:
            blocks.append(page.absent_block(letter, heading, absence(item)))
            continue
        one, looks = numbers[name], style.appearances(list(item.models))
        if name in sizes:
            blocks.append(page.heading_block(letter, heading))
            cell = partial(
                draw_scaling, name=name, numbers=one, settings=item, sizes=sizes[name],
                lines=organ_lines(settings, organs) if name == "figure_8a" else {}, look=looks[method_of(item)],
            )  # fmt: skip
            blocks += rows_of(one.tasks, LABEL_LINES[name], cell)
        else:
            blocks += [
                page.legend_block({model: item.models[model] for model in one.models}, looks),
                page.heading_block(letter, heading),
            ]
            cell = partial(draw_labels, numbers=one, settings=item, images=images, looks=looks)
            blocks += rows_of(one.tasks, 1, cell)
            blocks.append(page.heading_block(*CURVES))
            cell = partial(draw_curves, curves=curves, numbers=one, settings=item, looks=looks)
            blocks += rows_of(one.tasks, 1, cell)
    if "figure_8c" in settings.comparisons and "figure_8c" not in numbers:
        blocks.append(page.absent_block(*CURVES, absence(settings.comparisons["figure_8c"])))
    return page.compose(blocks, foot(numbers, settings, sizes), any(one.simulated for one in numbers.values()))


def method_of(settings: Comparison) -> str:
    """The model of a scaling panel that other figures show too; its sizes are drawn in its look."""
    there = [settings.reference, *settings.models] if settings.reference in settings.models else list(settings.models)
    return next((model for model in settings.models if model in style.KNOWN), there[0])


LABEL_LINES = {"figure_8a": 4, "figure_8b": 3}  # grey lines below a task's title


def rows_of(tasks: Sequence[str], lines: int, draw_cell: Callable[..., None]) -> list[Block]:
    """Cells of equal width, row by row; `draw_cell(axes, task)` after the title's place is known."""
    rows = -(-len(tasks) // MOST_COLUMNS)
    columns = -(-len(tasks) // rows)
    width = min(WIDEST_CELL, WIDTH / columns)
    above = 4.0 + LINE * lines

    def draw_row(figure: Figure, top: float, members: Sequence[str]) -> None:
        for place, task in enumerate(members):
            left = MARGIN + place * width
            axes = style.add_axes(figure, left + LEFT, top + above, width - LEFT - RIGHT, HEIGHT)
            draw_cell(axes, task, head=partial(write_head, figure, left + 1, top, width - 1.5))
            if place == 0:
                axes.set_ylabel(f"{METRICS[METRIC].short} (%)", labelpad=1)

    return [
        Block(above + HEIGHT + BELOW, partial(draw_row, members=tasks[start : start + columns]))
        for start in range(0, len(tasks), columns)
    ]


def write_head(figure: Figure, left: float, top: float, width: float, title: str, lines: Sequence[str]) -> None:
    """A task's title with grey lines below it; what is too wide is set smaller."""
    size = min(LABEL, LABEL * width / style.text_width(title, LABEL, "bold"))
    style.add_text(figure, left, top, title, size, weight="bold")
    for number, line in enumerate(lines):
        style.add_text(figure, left, top + 3.1 + LINE * number, line, color=GREY)


def organ_lines(settings: Figure8Settings, organs: Mapping[str, int]) -> dict[str, str]:
    """How many pre-training images of its organ a task has."""
    return {task: f"{title}: {organs.get(organ, 0):,} images" for task, (organ, title) in settings.organs.items()}


def count_line(scores: pd.DataFrame, numbers: Numbers) -> str:
    """Where all tasks are simulated the top of the figure says so, and six panels a row have no room to repeat it."""
    simulated = ", simulated" if scores["simulated"].any() and not numbers.scores["simulated"].all() else ""
    return f"n = {scores['images'].iloc[0]:,}, {count_seeds(scores)}{simulated}"


def draw_scaling(
    axes: Axes,
    task: str,
    head: Callable[..., None],
    name: str,
    numbers: Numbers,
    settings: Comparison,
    sizes: Mapping[str, Size],
    lines: Mapping[str, str],
    look: Appearance,
) -> None:
    """Scores of the models of one method against their size."""
    over = numbers.over
    scores = numbers.scores[(numbers.scores["task"] == task) & (numbers.scores["metric"] == METRIC)]
    there = scores[scores["model"].isin(sizes)]
    there = there.assign(x=there["model"].map(lambda model: sizes[model].x)).sort_values("x")
    axes.plot(there["x"], there["mean"], color=look.color, marker=look.marker, markersize=3.2, markeredgewidth=0)
    aside = offset_copy(axes.transData, axes.get_figure(root=True), x=2.4, units="points")
    for row in there.to_dict("records"):
        axes.plot([row["x"]] * 2, np.clip([row["ci_low"], row["ci_high"]], 0, 100), color="black", zorder=4)
        axes.plot([row["x"]] * 2, [row[over.low], row[over.high]], color=GREY, linewidth=0.5, transform=aside)
    percent_axis(axes, there[over.score].to_numpy())
    ticks = [sizes[model] for model in there["model"]]
    unit = compact if name == "figure_8a" else millions
    log_ticks(
        axes,
        [size.x for size in ticks],
        [f"{unit(size.x)}\n{size.name.removeprefix('ViT-')}".strip() for size in ticks],
    )
    axes.set_xlabel("Pre-training images" if name == "figure_8a" else "Million parameters")
    written = [count_line(scores, numbers)] if task not in lines else [lines[task], count_line(scores, numbers)]
    for row in numbers.comparisons[
        (numbers.comparisons["task"] == task) & (numbers.comparisons["metric"] == METRIC)
    ].to_dict("records"):
        other = sizes.get(row["model"])
        p, over_seeds = p_words(row, over), style.format_p(row["t_p"]).removeprefix("P ").removeprefix("= ")
        against = (other.name or unit(other.x)) if other else settings.models[row["model"]]
        written += [p if np.isnan(row["t_p"]) else f"{p} (t: {over_seeds})", f"against {against}"]
    head(title=settings.tasks[task].title, lines=written)


def compact(count: float) -> str:
    """A count in few signs: 950, 12k, 100k, 1.0M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}" if count < 10 * size else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"


def millions(count: float) -> str:
    return f"{count:.0f}" if count >= 10 else f"{count:.2g}"


def log_ticks(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """A logarithmic axis with ticks at the places drawn."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(places, labels)
    low, high = min(places), max(places)
    room = (high / low) ** 0.12 if high > low else 2.0
    axes.set_xlim(low / room, high * room)


def percent_axis(axes: Axes, values: np.ndarray) -> None:
    """Limits around the values, at least five points apart and within 0 to 101 %."""
    inside = np.clip(values.astype(float), 0, 100)
    low, high = float(np.nanmin(inside)), float(np.nanmax(inside))
    room = max(0.08 * (high - low), (5 - (high - low)) / 2, 0.5)
    axes.set_ylim(max(-1, low - room), min(101, high + room))
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.4)
    axes.set_axisbelow(True)


def draw_labels(
    axes: Axes,
    task: str,
    head: Callable[..., None],
    numbers: Numbers,
    settings: Comparison,
    images: Mapping[tuple[str, str, int], int],
    looks: Mapping[str, Appearance],
) -> None:
    """Scores of every model against the share of the training part; models stand beside one another at each share."""
    scores = numbers.scores[(numbers.scores["task"] == task) & (numbers.scores["metric"] == METRIC)]
    for number, model in enumerate(numbers.models):
        rows, look = scores[scores["model"] == model].sort_values("share"), looks[model]
        shift = (number - (len(numbers.models) - 1) / 2) * 1.3
        place = offset_copy(axes.transData, axes.get_figure(root=True), x=shift, units="points")
        main = model == settings.reference
        axes.plot(
            rows["share"], rows["mean"], color=look.color, linestyle=look.line, marker=look.marker, markersize=2.6,
            markeredgewidth=0, linewidth=1.1 if main else 0.7, zorder=4 if main else 3, transform=place,
        )  # fmt: skip
        for row in rows.to_dict("records"):
            bounds = np.clip([row["ci_low"], row["ci_high"]], 0, 100)
            axes.plot([row["share"]] * 2, bounds, color=look.color, linewidth=0.6, transform=place)
    percent_axis(axes, scores[["mean", "ci_low", "ci_high"]].to_numpy())
    shares = sorted(set(scores["share"]))
    counts = {share: number for (_, name, share), number in images.items() if name == task}
    labels = [f"{share} %\n{compact(counts[share])}" if share in counts else f"{share} %" for share in shares]
    log_ticks(axes, shares, labels)
    axes.set_xlabel("Share, and training images")
    head(title=settings.tasks[task].title, lines=[count_line(scores, numbers)])


def draw_curves(
    axes: Axes,
    task: str,
    head: Callable[..., None],
    curves: pd.DataFrame,
    numbers: Numbers,
    settings: Comparison,
    looks: Mapping[str, Appearance],
) -> None:
    """Validation score after every epoch: mean over seeds and its interval, shaded; a dot where it has converged."""
    own = curves[curves["task"] == task]
    for model in numbers.models:
        rows, look = own[own["model"] == model], looks[model]
        if rows.empty:
            continue
        main = model == settings.reference
        low, high = rows["ci_low"].clip(0, 100), rows["ci_high"].clip(0, 100)
        axes.fill_between(rows["epoch"], low, high, color=look.color, alpha=0.15, linewidth=0)
        axes.plot(
            rows["epoch"], rows["mean"], color=look.color, linestyle=look.line, linewidth=1.1 if main else 0.7,
            zorder=4 if main else 3,
        )  # fmt: skip
        epoch, score = converged(rows)
        axes.plot(
            [epoch], [score], marker=look.marker, color=look.color, markersize=3.6, markeredgecolor="black",
            markeredgewidth=0.5, zorder=5,
        )  # fmt: skip
    if own.empty:
        axes.text(0.5, 0.5, "no history", transform=axes.transAxes, ha="center", va="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        seconds = ""
    else:
        percent_axis(axes, own[["mean", "ci_low", "ci_high"]].to_numpy())
        axes.set_xlim(0, own["epoch"].max() * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], integer=True))
        seconds = f"an epoch: {own['seconds'].median():.2g} s (median)"
    axes.set_xlabel("Epoch")
    head(title=settings.tasks[task].title, lines=[seconds])


def converged(curve: pd.DataFrame) -> tuple[int, float]:
    """The first epoch whose mean is REACHED of the best mean, and this mean."""
    row = curve[curve["mean"] >= REACHED * curve["mean"].max()].iloc[0]
    return int(row["epoch"]), float(row["mean"])


def foot(
    numbers: Mapping[str, Numbers], settings: Figure8Settings, sizes: Mapping[str, Mapping[str, Size]]
) -> list[str]:
    level = f"{100 * settings.confidence:g} %"
    several = notes.several_seeds(numbers.values())
    interval = f"{level} t interval over seeds"
    placed = {name: one for name, one in numbers.items() if name in sizes}
    over = "mean over seeds" if several else "one seed"
    sentences = [f"A to C: {METRICS[METRIC].words} on the test part, {over}; n: test images."]
    if placed:
        sentences.append(
            f"{' and '.join(PANELS[name][0] for name in placed)}: "
            + (f"black line: {interval} (the paper's error bar); " if several else "")
            + notes.grey_lines([*placed.values()], level).replace("Grey", "grey", 1)
            + p_sentence(placed, settings, several)
        )
    for name in placed:
        unknown = [model for model in numbers[name].models if model not in sizes[name]]
        if unknown:
            without = ", ".join(settings.comparisons[name].models[model] for model in unknown)
            sentences.append(f"{PANELS[name][0]}: without {without}, whose place on the axis is not known.")
    if "figure_8c" in numbers:
        sentences.append(
            "C: shares of the training part are nested, drawn by patient within classes"
            + (f"; lines: {interval}" if several else "")
            + ("" if numbers["figure_8c"].comparisons.empty else "; P values are in the CSV file")
            + ". D: after each epoch, on the validation part"
            + (f"; shaded: {interval}" if several else "")
            + f"; marker: the first epoch whose mean reaches {100 * REACHED:g} % of the curve's best."
        )
    return sentences + notes.missing(settings, numbers)


def p_sentence(placed: Mapping[str, Numbers], settings: Figure8Settings, several: bool) -> str:
    """Which models the P values of panels A and B compare, and how; or why there are none."""
    tested = [name for name, one in placed.items() if not one.comparisons.empty]
    if not tested:
        return notes.without_p(settings.comparisons[next(iter(placed))])
    first = placed[tested[0]]
    return (
        f"P: {compared(tested, settings)} against the strongest other, two-sided, {notes.test_over(first)}"
        + ("; t: the paper's t-test over seeds." if several else ".")
        + notes.corrected(first)
    )


def compared(names: Sequence[str], settings: Figure8Settings) -> str:
    """The references of panels, with the letters where they differ: "URFM (A), URFM, ViT-Huge (B)"."""
    references = {PANELS[name][0]: notes.reference_title(settings.comparisons[name]) for name in names}
    if len(set(references.values())) == 1:
        return next(iter(references.values()))
    return " and ".join(f"in {letter} {title}" for letter, title in references.items())


def drawn_numbers(
    numbers: Mapping[str, Numbers],
    sizes: Mapping[str, Mapping[str, Size]],
    training: tuple[Mapping[tuple[str, str, int], int], pd.DataFrame],
) -> pd.DataFrame:
    """Everything drawn, one number per row; x: images, millions of parameters, training images, or the epoch."""
    images, curves = training
    tables = []
    for name, one in numbers.items():
        letter = PANELS.get(name, (name, name))[0]
        scores = drawn.score_rows(letter, "scaling" if name in sizes else "labels", one, [METRIC])
        if name in sizes:
            places = {model: size.x for model, size in sizes[name].items()}
            scores = scores[scores["model"].isin(places)]
            scores = scores.assign(x=scores["model"].map(places))
        else:
            keys = zip(scores["model"], scores["task"], scores["share"], strict=True)
            scores = scores.assign(x=[float(images.get(key, np.nan)) for key in keys])
        tables += [scores, drawn.difference_rows(letter, one, [METRIC])]
        if name == "figure_8c":
            own = curves[curves["task"].isin(one.tasks) & curves["model"].isin(one.models)]
            epochs = own.rename(columns={"epoch": "x"})
            key = ["model", "task", "share", "x"]
            tables.append(
                epochs.melt(key, ["mean", "ci_low", "ci_high", "seconds"], "quantity", "value").assign(
                    panel=CURVES[0], chart="validation", metric=METRIC
                )
            )
            ends = [
                {"model": model, "task": task, "share": rows["share"].iloc[0], "value": converged(rows)[0]}
                for (model, task), rows in own.groupby(["model", "task"])
            ]
            if ends:
                tables.append(
                    pd.DataFrame(ends).assign(
                        panel=CURVES[0], chart="validation", metric=METRIC, quantity="converged_epoch"
                    )
                )
    return drawn.combine(tables)


def main() -> None:
    parser = drawn.parser("Draw Figure 8: scaling of pre-training, efficiency of fine-tuning.")
    parser.add_argument("--selections", type=Path, nargs="*", default=[], help="pretrain_sets/*.json of panel A")
    parser.add_argument("--encoders", type=Path, nargs="*", default=[], help="encoders/<model>.json of panel B")
    parser.add_argument(
        "--cells", type=Path, nargs="*", default=[], help="cell.json, history.csv beside it, of C and D"
    )
    options = parser.parse_args()
    settings = parse_settings(Figure8Settings, options.settings)
    numbers = read_comparisons(options.statistics, settings)
    data, organs = data_sizes(options.selections, settings.runs)
    sizes = {"figure_8a": data, "figure_8b": model_sizes(options.encoders)}
    training = read_training(options.cells, settings.confidence)
    figure = draw(numbers, settings, sizes, organs, training)
    drawn.save(options.output, figure, drawn_numbers(numbers, sizes, training), numbers, settings)


if __name__ == "__main__":
    run(main)
