"""Sensitivity and specificity of every model on the two-class tasks, as a table (stage `operating_points`).

At the threshold that each seed chose on its validation part; never on the part that is scored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from urfm.core.cli import Ordered, Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.progress import say
from urfm.statistics.stored import Stored, interval_words, read_statistics
from urfm.tables.render import NONE, SIMULATED, Table, arguments, count, write_table

COLUMNS = [
    "Task", "Positive", "Model", "Sensitivity (%)", "Interval (%)", "Specificity (%)", "Interval of specificity (%)",
    "Threshold (%)", "Seeds", "Positive images", "Images", "Patients",
]  # fmt: skip
RULES = {
    "youden": "highest sum of sensitivity and specificity (Youden)",
    "specificity": "highest sensitivity at a specificity of at least {specificity:g} %",
}


class OperatingSettings(Settings):
    """Settings of the stage."""

    models: Ordered[str] = Field(min_length=1, description="[name, title] of each model, in the order of the rows")
    tasks: Ordered[str] = Field(min_length=1, description="[name, title] of each task, in the order of the rows")
    specificity: float = Field(gt=0, lt=1, description="statistics.specificity")
    notes: list[str] = Field(default=[], description="sentences that stand below the table")


def operating_table(stored: Stored, settings: OperatingSettings) -> Table:
    """A row for each task of two classes and model, at the largest share of the training part, in percent."""
    points = stored.tables["operating_points"]
    points = points[points["model"].isin(settings.models) & points["task"].isin(settings.tasks)]
    if points.empty:
        raise UrfmError(
            f"statistics of {stored.name}: no model on a task of two classes, which sensitivity and specificity are "
            "of; name such a task under comparisons.<name>.tasks"
        )
    points = points[points["share"] == points["share"].max()]
    found = {(row["task"], row["model"]): row for row in points.to_dict("records")}
    rows = [
        [title, str(row["positive"]).replace("_", " "), *of_model(row, name, model in stored.stand_ins)]
        for task, title in settings.tasks.items()
        for model, name in settings.models.items()
        if (row := found.get((task, model)))
    ]
    rule = RULES[points["rule"].iloc[0]].format(specificity=100 * settings.specificity)
    notes = [
        "Means over seeds, on the test part. Each seed's threshold, the least probability that is called positive, was "
        f"chosen on its validation part ({rule}) and applied unchanged; the column has their range, and thresholds.csv "
        "of the statistics each of them.",
        f"Intervals: {100 * stored.confidence:g} %, over patients by bootstrap, {stored.resamples:,} resamples, with "
        "the thresholds as they are.",
        "Tasks of more than two classes are left out.",
    ]
    return Table(
        name="Operating points",
        title="Sensitivity and specificity at a threshold of the validation part",
        columns=COLUMNS,
        rows=rows,
        notes=[*([SIMULATED] if stored.simulated else []), *notes, *settings.notes],
        numbers=COLUMNS[-4:],
    )


def of_model(row: Mapping[Any, Any], name: str, stand_in: bool) -> list[str]:
    """The cells from the model on."""
    low, high = row["threshold_low"], row["threshold_high"]
    few = bool(row["few_patients"])
    return [
        name + (" (stand-in)" if stand_in else ""),
        *(
            text
            for rate in ("sensitivity", "specificity")
            for text in (
                NONE if pd.isna(row[rate]) else f"{100 * row[rate]:.1f}",
                interval_words(row[f"{rate}_low"], row[f"{rate}_high"], few) or NONE,
            )
        ),
        threshold_text(low) if low == high else f"{threshold_text(low)} to {threshold_text(high)}",
        count(row["seeds"]),
        count(row["positives"]),
        count(row["images"]),
        count(None if pd.isna(row["patients"]) else int(row["patients"])),
    ]


def threshold_text(threshold: float) -> str:
    """In percent; "none positive" where no score is high enough, a dash where there is no threshold."""
    if math.isnan(threshold):
        return NONE
    return "none positive" if threshold > 1 else f"{100 * threshold:.1f}"


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Write sensitivity and specificity of the two-class tasks as a table.")
    parser.add_argument("--statistics", type=Path, required=True, help="statistics.json of the comparison")
    options = parser.parse_args()
    settings = parse_settings(OperatingSettings, options.settings)
    table = operating_table(read_statistics(options.statistics, ["operating_points"]), settings)
    write_table(options.output, table)
    say(f"{options.output.name}: {len(table.rows)} rows; written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
