"""Figure 4: what masked image modelling is worth (stage `figure_4`).

A: self-supervised methods on ImageNet, B: targets of masked image modelling on ultrasound. Macro F1 of each task with
intervals and P; each model's mean over the tasks is a dashed line. The CSV holds exactly what is drawn, in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from urfm.core.cli import parse_settings, run
from urfm.figures import drawn, notes, page, style
from urfm.figures.bars import Group, grouped_bars
from urfm.figures.page import MARGIN, WIDTH, Block
from urfm.figures.read import Comparison, FigureSettings, Numbers, absence, p_words, read_comparisons, records
from urfm.figures.style import LINE, Appearance
from urfm.metrics import METRICS

PANELS = {
    "figure_4a": ("A", "Self-supervised methods on ImageNet"),
    "figure_4b": ("B", "Reconstruction targets of masked image modelling on ultrasound"),
}
METRIC = "f1_macro"
WIDEST_GROUP = 34.0  # mm
SCALE, MEANS = 8.0, 10.0  # mm left of the bars for the axis, right of them for the means
BARS, LABELS = 36.0, 13.0  # mm, height of the bars and of what stands below them


def draw(numbers: Mapping[str, Numbers], settings: FigureSettings) -> Figure:
    """The panels below one another; one of which nothing can be drawn says so."""
    blocks: list[Block] = []
    for name, item in settings.comparisons.items():
        letter, heading = PANELS.get(name, (name, name))
        if name not in numbers:
            blocks.append(page.absent_block(letter, heading, absence(item)))
            continue
        one = numbers[name]
        looks = style.appearances(list(item.models))
        blocks += [
            page.heading_block(letter, f"{heading}: {METRICS[METRIC].words}"),
            page.legend_block({model: item.models[model] for model in one.models}, looks),
            Block(BARS + LABELS, partial(draw_panel, numbers=one, settings=item, looks=looks)),
        ]
    return page.compose(blocks, foot(numbers, settings), any(one.simulated for one in numbers.values()))


def draw_panel(
    figure: Figure, top: float, numbers: Numbers, settings: Comparison, looks: Mapping[str, Appearance]
) -> None:
    pitch = min(WIDEST_GROUP, (WIDTH - SCALE - MEANS) / len(numbers.tasks))
    axes = style.add_axes(figure, MARGIN + SCALE, top + 0.5, pitch * len(numbers.tasks), BARS)
    shown = numbers.scores[numbers.scores["metric"] == METRIC]
    rows = records(shown, "task", "model")
    differences = records(numbers.comparisons[numbers.comparisons["metric"] == METRIC], "task")
    groups = [
        Group(
            label=label(settings.tasks[task].title, shown[shown["task"] == task], pitch - 1),
            rows={model: rows[(task, model)] for model in numbers.models if (task, model) in rows},
            comparison=differences.get(task),
        )
        for task in numbers.tasks
    ]
    grouped_bars(axes, groups, settings.reference, looks, numbers.over, least=3)
    axes.set_ylabel(f"{METRICS[METRIC].short} (%)", labelpad=1)
    if len(numbers.common[METRIC]) > 1:
        mean_lines(axes, {str(model): float(mean) for model, mean in numbers.means[METRIC].items()}, looks)


def label(title: str, scores: pd.DataFrame, width: float) -> str:
    """A task's title, its test images, and whether they are simulated, in lines of at most `width` mm."""
    lines = [*style.wrap(title, width), f"n = {scores['images'].iloc[0]:,}"]
    return "\n".join([*lines, "simulated"] if scores["simulated"].any() else lines)


def mean_lines(axes: Axes, means: Mapping[str, float], looks: Mapping[str, Appearance]) -> None:
    """Each model's mean as a dashed line across the tasks, its value at the right end."""
    low, high = axes.get_ylim()
    _, height = style.size_mm(axes)
    places = spread(list(means.values()), LINE * (high - low) / height)
    right = axes.get_xlim()[1]
    end = 1.6 * right / style.size_mm(axes)[0]  # mm
    axes.text(right + end, max(places) + 0.9 * LINE * (high - low) / height, "Mean", va="bottom", fontweight="bold")
    for (model, mean), place in zip(means.items(), places, strict=True):
        look = looks[model]
        axes.axhline(mean, color=look.color, linestyle=(0, (5, 2)), linewidth=0.7, zorder=3.5)
        axes.plot([right, right + 0.9 * end], [mean, place], color=look.color, linewidth=0.5, clip_on=False)
        axes.plot(
            [right + end],
            [place],
            marker=look.marker,
            color=look.color,
            markersize=2.8,
            markeredgewidth=0,
            clip_on=False,
        )
        axes.text(right + 1.7 * end, place, f"{mean:.1f}", va="center_baseline")


def spread(values: Sequence[float], distance: float) -> list[float]:
    """The values moved apart as little as needed for neighbours to be `distance` apart, in their order."""
    order = sorted(range(len(values)), key=lambda number: values[number])
    blocks: list[list[float]] = []  # the middle and the count of values that touch
    for number in order:
        blocks.append([values[number], 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < distance * (blocks[-1][1] + blocks[-2][1]) / 2:
            middle, count = blocks.pop()
            below, others = blocks.pop()
            blocks.append([(middle * count + below * others) / (count + others), count + others])
    placed = [
        middle + distance * (place - (count - 1) / 2) for middle, count in blocks for place in range(round(count))
    ]
    return [placed[order.index(number)] for number in range(len(values))]


def foot(numbers: Mapping[str, Numbers], settings: FigureSettings) -> list[str]:
    sentences = [f"n: test images. {notes.bars(list(numbers.values()), settings.confidence)}"]
    for name, one in numbers.items():
        letter, item = PANELS.get(name, (name, name))[0], settings.comparisons[name]
        sentences.append(f"{letter}. {mean_sentence(one, item)}{notes.p_values(one, item)}")
    return sentences + notes.missing(settings, numbers)


def mean_sentence(numbers: Numbers, settings: Comparison) -> str:
    """What the dashed lines are, and the test of the mean where the statistics hold one."""
    common = numbers.common[METRIC]
    if len(common) < 2:
        return "No mean: fewer than two tasks have a result of every model. "
    left_out = [settings.tasks[task].title for task in numbers.tasks if task not in common]
    sentence = f"Dashed lines: unweighted mean of {len(common)} tasks"
    sentence += f", without {', '.join(left_out)}, where a model has no result" if left_out else ""
    for row in numbers.average[numbers.average["metric"] == METRIC].to_dict("records"):
        p, t = p_words(row, numbers.over), style.format_p(row["t_p"])
        sentence += f"; {settings.models[settings.reference]} against {settings.models[row['model']]}: {p} (t: {t})"
    return sentence + ". "


def drawn_numbers(numbers: Mapping[str, Numbers]) -> pd.DataFrame:
    """Everything drawn, one number per row; scores are percent, P values and counts as they are."""
    tables = []
    for name, one in numbers.items():
        letter = PANELS.get(name, (name, name))[0]
        tables += [
            drawn.mean_rows(letter, one, [METRIC]) if len(one.common[METRIC]) > 1 else pd.DataFrame(),
            drawn.score_rows(letter, "bars", one, [METRIC]),
            drawn.difference_rows(letter, one, [METRIC]),
        ]
    return drawn.combine(tables)


def main() -> None:
    options = drawn.parser("Draw Figure 4: self-supervised methods and reconstruction targets.").parse_args()
    settings = parse_settings(FigureSettings, options.settings)
    numbers = read_comparisons(options.statistics, settings)
    drawn.save(options.output, draw(numbers, settings), drawn_numbers(numbers), numbers, settings)


if __name__ == "__main__":
    run(main)
