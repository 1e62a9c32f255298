"""Figure 3: external validation (stage `figure_3`).

A: fine-tuned on the external set; B: the internal task's model applied unchanged, where there are statistics of it.
Accuracy, macro F1 and AUROC with intervals and P, and ROC curves. The CSV holds exactly what is drawn, in percent.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from urfm.core.cli import parse_settings, run
from urfm.figures import drawn, notes, page, style
from urfm.figures.page import MARGIN, WIDTH, Block
from urfm.figures.read import Comparison, FigureSettings, Numbers, absence, read_comparisons
from urfm.figures.style import Appearance
from urfm.figures.task_panel import Place, draw_task
from urfm.metrics import METRICS

PANELS = {
    "figure_3": ("A", "Fine-tuned on the external data set"),
    "figure_3b": ("B", "Fine-tuned on the internal data set, applied unchanged"),
}
HEIGHT = 44.0  # mm, a task
ROC_WIDTH = 42.0


def draw(numbers: Mapping[str, Numbers], settings: FigureSettings) -> Figure:
    """A row per task, below its panel's heading."""
    models = {model: title for item in settings.comparisons.values() for model, title in item.models.items()}
    looks = style.appearances(list(models))
    drawn_models = {model for one in numbers.values() for model in one.models}
    titles = {model: title for model, title in models.items() if model in drawn_models}
    blocks = [page.legend_block(titles, looks)]
    for name, item in settings.comparisons.items():
        letter, heading = PANELS.get(name, (name, name))
        if name not in numbers:
            blocks.append(page.absent_block(letter, heading, absence(item)))
            continue
        blocks.append(page.heading_block(letter, heading))
        blocks += [
            Block(HEIGHT, partial(draw_row, task=task, numbers=numbers[name], settings=item, looks=looks))
            for task in numbers[name].tasks
        ]
    return page.compose(blocks, foot(numbers, settings), any(one.simulated for one in numbers.values()))


def draw_row(
    figure: Figure,
    top: float,
    task: str,
    numbers: Numbers,
    settings: Comparison,
    looks: Mapping[str, Appearance],
) -> None:
    place = Place(MARGIN, top, WIDTH, HEIGHT, ROC_WIDTH)
    draw_task(figure, place, list(METRICS), task, numbers, settings, looks)


def foot(numbers: Mapping[str, Numbers], settings: FigureSettings) -> list[str]:
    compared = {name: notes.p_values(one, settings.comparisons[name]) for name, one in numbers.items()}
    if len(set(compared.values())) > 1:
        compared = {name: f"{PANELS.get(name, (name, name))[0]}. {said}" for name, said in compared.items()}
    every = list(numbers.values())
    sentences = [
        notes.bars(every, settings.confidence),
        *dict.fromkeys(compared.values()),
        notes.roc([(settings.comparisons[name], one) for name, one in numbers.items()]),
    ]
    return sentences + notes.missing(settings, numbers)


def drawn_numbers(numbers: Mapping[str, Numbers]) -> pd.DataFrame:
    """Everything drawn, one number per row; scores and rates are percent, P values and counts as they are."""
    tables = []
    for name, one in numbers.items():
        letter = PANELS.get(name, (name, name))[0]
        tables += [
            drawn.score_rows(letter, "bars", one, list(METRICS)),
            drawn.difference_rows(letter, one, list(METRICS)),
            drawn.curve_rows(letter, one),
        ]
    return drawn.combine(tables)


def main() -> None:
    options = drawn.parser("Draw Figure 3: external validation.").parse_args()
    settings = parse_settings(FigureSettings, options.settings)
    numbers = read_comparisons(options.statistics, settings)
    drawn.save(options.output, draw(numbers, settings), drawn_numbers(numbers), numbers, settings)


if __name__ == "__main__":
    run(main)
