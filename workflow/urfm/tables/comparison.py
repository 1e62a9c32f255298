"""A comparison as a table: scores, intervals and P values of every model on every task (stage `comparison`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from urfm.core.cli import Ordered, Settings, parse_settings, run
from urfm.core.progress import say
from urfm.metrics import METRICS, MetricName, led_by
from urfm.statistics.equivalence import POWER
from urfm.statistics.stored import AVERAGE, TOO_FEW, Stored, interval_words, read_statistics
from urfm.tables.render import NONE, SIMULATED, Table, arguments, count, write_table

KEYS = ["task", "share", "metric", "model"]
COLUMNS = [
    "Task", "Training part", "Metric", "Model", "Score (%)", "Interval (%)", "P", "Detectable", "Equivalence",
    "Seeds", "Images", "Patients",
]  # fmt: skip


class ComparisonSettings(Settings):
    """Settings of the stage."""

    title: str
    models: Ordered[str] = Field(min_length=1, description="[name, title] of each model, in the order of the rows")
    lines: Ordered[str] = Field(default={}, description="[name, title] of models below them, which have no P values")
    tasks: Ordered[str] = Field(min_length=1, description="[name, title] of each task, in the order of the rows")
    reference: str = Field(description="model that P values compare with others")
    against: list[str] = Field(default=[], description="models that have P values; empty: all others")
    metric: MetricName | None = Field(default=None, description="which stands first; none: the paper's order")
    notes: list[str] = Field(default=[], description="sentences that stand below the table")


def comparison_table(stored: Stored, settings: ComparisonSettings) -> Table:
    """A row for each task, share of the training part, metric and model, and below them the means over tasks.

    Parameters
    ----------
    stored
        With the tables scores, differences, average_scores, average_differences and lines.
    settings
        Which of their tasks and models are printed, and in which order.

    Returns
    -------
    Table
        Mean and standard deviation over seeds, the interval over patients (over re-splits, where every seed has a
        split of its own) and P after Holm's correction; scores in percent.
    """
    scores = pd.concat([stored.tables[name] for name in ("scores", "average_scores", "lines")])
    differences = pd.concat([stored.tables["differences"], stored.tables["average_differences"]])
    resplit = bool(stored.tables["scores"]["resplit"].all())
    found = dict(zip(keys(scores), scores.to_dict("records"), strict=True))
    tested = [model for model in settings.against or settings.models if model != settings.reference]
    against = {
        key: row
        for key, row in zip(keys(differences), differences.to_dict("records"), strict=True)
        if key[-1] in tested
    }
    shares = sorted(set(scores["share"]), reverse=True)
    average = {AVERAGE: f"Mean over {stored.tables['scores']['task'].nunique()} tasks"}
    rows = []
    for (task, title), share, metric, (model, name) in itertools.product(
        (settings.tasks | average).items(), shares, led_by(settings.metric), (settings.models | settings.lines).items()
    ):
        if row := found.get((task, share, metric, model)):
            patients = None if pd.isna(row["patients"]) else int(row["patients"])
            rows.append([
                title, f"{share} %", METRICS[metric].short, name + (" (stand-in)" if model in stored.stand_ins else ""),
                mean_text(row, model in stored.deterministic), interval_text(row, resplit),
                *difference_texts(against.get((task, share, metric, model)), resplit),
                count(row["seeds"]), count(row["images"]), count(patients),
            ])  # fmt: skip
    columns = COLUMNS
    if shares == [100]:  # which goes without saying
        rows, columns = [[row[0], *row[2:]] for row in rows], [COLUMNS[0], *COLUMNS[2:]]
    return Table(
        name="Comparison",
        title=f"{settings.title}: every model on every task",
        columns=columns,
        rows=rows,
        notes=[*([SIMULATED] if stored.simulated else []), *explanations(stored, settings, resplit), *settings.notes],
        numbers=[column for column in COLUMNS[-5:] if column != "Equivalence"],
    )


def keys(table: pd.DataFrame) -> list[tuple[Any, ...]]:
    return list(table[KEYS].itertuples(index=False, name=None))


def mean_text(row: Mapping[Any, Any], deterministic: bool = False) -> str:
    """86.35 ± 0.82, in percent; without the latter for one seed, or where no seed changes anything."""
    mean, sd = 100 * row["mean"], 100 * row["sd"]
    if math.isnan(mean):
        return NONE
    return f"{mean:.2f}" + ("" if math.isnan(sd) or deterministic else f" ± {sd:.2f}")


def interval_text(row: Mapping[Any, Any], resplit: bool) -> str:
    """84.02 to 88.41, in percent."""
    over = "nb" if resplit else "boot"
    return interval_words(row[f"{over}_low"], row[f"{over}_high"], row["few_patients"]) or NONE


def difference_texts(row: Mapping[Any, Any] | None, resplit: bool) -> tuple[str, str, str]:
    """P, the detectable difference in points, and P of equivalence; dashes for the reference itself."""
    if row is None:
        return NONE, NONE, NONE
    few = bool(row["few_patients"])
    return (
        p_text(row["nb_p_holm" if resplit else "perm_p_holm"], few),
        missing_text(few) if math.isnan(row["detectable"]) else f"{100 * row['detectable']:.1f}",
        p_text(row["equivalence_p_holm"], few),
    )


def p_text(p: float, few: bool) -> str:
    """0.012, or < 0.001."""
    if math.isnan(p):
        return missing_text(few)
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def missing_text(few: bool) -> str:
    return TOO_FEW if few else NONE


def explanations(stored: Stored, settings: ComparisonSettings, resplit: bool) -> Sequence[str]:
    """What the columns are."""
    level = f"{100 * stored.confidence:g} %"
    if resplit:
        how = test = "over re-splits, Nadeau-Bengio corrected"
    else:
        how = f"over patients by bootstrap, {stored.resamples:,} resamples"
        test = f"models exchanged patient by patient, {stored.draws:,} draws"
    said = [f"Scores: mean ± standard deviation over seeds of the test images. Intervals: {level}, {how}."]
    if settings.reference in settings.models and len(settings.models) > 1:
        reference = settings.models[settings.reference]
        said.append(
            f"P: difference to {reference}, two-sided, {test}; corrected by Holm's method for all tasks and "
            "models of a metric, means over tasks by themselves."
        )
        said.append(
            f"Detectable: the smallest true difference to {reference}, in points, that a test on these "
            f"{'re-splits' if resplit else 'patients'} would find with a power of {100 * POWER:g} % (two-sided, "
            f"{100 * (1 - stored.confidence):.3g} %, one comparison by itself); smaller ones may be there. "
            f"Equivalence: P of two one-sided tests, small where the models differ by less than "
            f"{100 * stored.margin:g} points (`statistics.margin`), corrected as the other."
        )
    shown = settings.models | settings.lines
    if same := [title for model, title in shown.items() if model in stored.deterministic]:
        said.append(f"The same for every seed, hence without standard deviation: {', '.join(same)}.")
    if settings.lines:
        said.append(f"Not compared: {', '.join(settings.lines.values())}.")
    if stand_ins := [title for model, title in shown.items() if model in stored.stand_ins]:
        said.append(f"Stand-in (random weights), not the published model: {', '.join(stand_ins)}.")
    return said


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Write the scores and P values of a comparison as a table.")
    parser.add_argument("--statistics", type=Path, required=True, help="statistics.json of the comparison")
    options = parser.parse_args()
    settings = parse_settings(ComparisonSettings, options.settings)
    tables = ("scores", "differences", "average_scores", "average_differences", "lines")
    table = comparison_table(read_statistics(options.statistics, tables), settings)
    write_table(options.output, table)
    say(f"{options.output.name}: {len(table.rows)} rows; written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
