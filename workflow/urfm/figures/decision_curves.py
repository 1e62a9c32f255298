"""Decision curves of a comparison's models, a panel per two-class task, and what a chosen threshold does (stage
`decision_curves`).

Net benefit, sensitivity and specificity come from the `statistics` stage, means over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.figures.output import arguments, save
from urfm.figures.style import GREY, Appearance
from urfm.figures.summary import Panels, SummarySettings, panels_over_table
from urfm.statistics.stored import TOO_FEW, Stored, read_statistics

BELOW = 0.25  # how far the axis goes below 0, as a share of the prevalence
RULES = {
    "youden": "the highest sum of sensitivity and specificity",
    "specificity": "the highest sensitivity at a specificity of at least that of statistics.specificity",
}


def read_curves(record: Path, settings: SummarySettings) -> tuple[Stored, pd.DataFrame, pd.DataFrame]:
    """Decision curves and operating points of the largest share."""
    stored = read_statistics(record, ["net_benefit", "operating_points"])
    curves, points = (
        table[table["model"].isin(settings.models) & table["task"].isin(settings.tasks)]
        for table in (stored.tables["net_benefit"], stored.tables["operating_points"])
    )
    if curves.empty:
        raise UrfmError(
            f"{record}: holds none of this figure's models on a task of two classes, which decision curves are for; "
            "name such a task under comparisons.<name>.tasks"
        )
    share = curves["share"].max()
    return stored, curves[curves["share"] == share], points[points["share"] == share]


def draw(stored: Stored, curves: pd.DataFrame, points: pd.DataFrame, settings: SummarySettings) -> Figure:
    """A: a panel per task; B: the table of sensitivity and specificity."""

    def panel(axes: Axes, task: str, models: Mapping[str, str], looks: Mapping[str, Appearance]) -> str:
        own = curves[curves["task"] == task]
        draw_curves(axes, own, models, looks)
        first = own.iloc[0]
        return f"{str(first['positive']).replace('_', ' ')}: {first['positives']:,} of {first['images']:,}"

    return panels_over_table(
        curves,
        Panels(4, 41.0, 9, 7, 32.0, 25.0, "Threshold probability (%)", "Net benefit", panel, markers=False),
        "Sensitivity / specificity (%) at the validation part's threshold",
        point_words(points),
        [
            "A: net benefit, true positives less false positives weighted by the odds of the threshold, per image; "
            "mean over seeds. Who has a predicted probability of the threshold or more is treated. Dashed line: "
            "everybody is treated; grey line: nobody. A model is of use where it lies above both, if its probabilities "
            "and the share of positives hold where it is used. Titles: positive images of all. "
            f"{intervals_words(curves, settings)}",
            "B: mean over seeds; each seed's threshold was chosen on the validation part "
            f"({RULES[points['rule'].iloc[0]]}) and applied to the test part unchanged. Intervals over patients: table "
            "operating_points. Tasks of more classes are left out.",
        ],
        stored,
        settings,
    )


def intervals_words(curves: pd.DataFrame, settings: SummarySettings) -> str:
    """Where the intervals are, and which tasks have none."""
    few = set(curves.loc[curves["few_patients"].astype(bool), "task"])
    titles = [title for task, title in settings.tasks.items() if task in few]
    without = f" {', '.join(titles)}: {TOO_FEW} for any." if titles else ""
    return f"Intervals over patients are in the CSV file.{without}"


def draw_curves(axes: Axes, curves: pd.DataFrame, models: Mapping[str, str], looks: Mapping[str, Appearance]) -> None:
    """The curves of one task, and treating everybody and nobody."""
    first = curves.iloc[0]
    prevalence = first["positives"] / first["images"]
    axes.plot([0, 100], [0, 0], color=GREY, linewidth=0.6)
    everybody = curves[curves["model"] == first["model"]].sort_values("threshold")
    axes.plot(100 * everybody["threshold"], everybody["treat_all"], color=GREY, linewidth=0.8, linestyle=(0, (3, 2)))
    for model in reversed(list(models)):
        own = curves[curves["model"] == model].sort_values("threshold")
        axes.plot(100 * own["threshold"], own["net_benefit"], color=looks[model].color, linestyle=looks[model].line)
    axes.set(xlim=(0, 100), ylim=(-BELOW * prevalence, 1.05 * prevalence), xticks=[0, 50, 100])
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5]))


def point_words(points: pd.DataFrame) -> dict[tuple[str, str], tuple[str, bool]]:
    """(model, task) to "84 / 91"."""
    return {
        (row["model"], row["task"]): (
            "–" if pd.isna(row["sensitivity"]) else f"{100 * row['sensitivity']:.0f} / {100 * row['specificity']:.0f}",
            False,
        )
        for row in points.to_dict("records")
    }


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw the decision curves of a comparison.")
    parser.add_argument("--statistics", type=Path, required=True, help="statistics.json of the comparison")
    options = parser.parse_args()
    settings = parse_settings(SummarySettings, options.settings)
    stored, curves, points = read_curves(options.statistics, settings)
    drawn = points[["model", "task", "share", "part", "rule", "sensitivity", "specificity"]]
    numbers = curves.merge(drawn, on=["model", "task", "share"])
    save(options.output, draw(stored, curves, points, settings), settings.dpi, numbers)
    tasks = curves["task"].nunique()
    say(f"decision curves of {stored.name}: {tasks} tasks; written to {options.output}.pdf, .png, .csv")


if __name__ == "__main__":
    run(main)
