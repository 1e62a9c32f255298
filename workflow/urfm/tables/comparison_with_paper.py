"""Every number that the paper's text states, beside ours (stage `comparison_with_paper`).

A row says whether the paper's number lies in our interval over patients, and what may explain a difference: facts that
the workflow knows of this run, not guesses about the paper's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from urfm.config.paper import Statement
from urfm.core.cli import Settings, parse_settings, run
from urfm.core.progress import say
from urfm.metrics import METRICS
from urfm.statistics.stored import AVERAGE, Stored, interval_words, read_statistics, strongest
from urfm.tables.render import NONE, SIMULATED, Table, arguments, write_table

COLUMNS = [
    "Quantity", "Paper", "Paper's interval", "Ours", "Interval over seeds", "Interval over patients",
    "Paper within ours", "Why it may differ", "In the paper",
]  # fmt: skip
NUMBERS = ("value", "ci_low", "ci_high", "low", "high")
TABLES = ("scores", "differences", "average_scores", "average_differences")


class ComparisonSettings(Settings):
    """Settings of the stage."""

    paper: list[Statement]
    titles: dict[str, str] = Field(description="what is printed for a task or model")
    tasks: dict[str, int] = Field(description="tasks of each comparison as configured")
    seeds: int = Field(description="seeds of a cell")
    missing: dict[str, str] = Field(default={}, description="reason why a task or model is not available")
    reasons: dict[str, list[str]] = Field(default={}, description="what differs from the paper's, by model; '' for all")


def row(statement: Statement, stored: Stored | None, settings: ComparisonSettings) -> list[str]:
    """The printed cells of a statement."""
    paper = [
        title(statement, settings),
        f"{statement.value:.2f}",
        NONE if statement.interval is None else "{:.2f} to {:.2f}".format(*statement.interval),
    ]
    found = ours(statement, stored) if stored else None
    if found is None:
        return [*paper, *[NONE] * 4, f"not available: {why_missing(statement, stored, settings)}", statement.says]
    within = NONE if np.isnan(found["low"]) else "yes" if found["low"] <= statement.value <= found["high"] else "no"
    assert stored
    return [
        *paper,
        f"{found['value']:.2f}",
        span(found["ci_low"], found["ci_high"]),
        interval_words(found["low"] / 100, found["high"] / 100, found["few"]) or NONE,
        within,
        "; ".join(explanations(statement, stored, found, settings)),
        statement.says,
    ]


def title(statement: Statement, settings: ComparisonSettings) -> str:
    """Such as "Breast tumor, URFM, ACC (%)"."""
    task = "Mean over tasks" if statement.task == AVERAGE else settings.titles[statement.task]
    model = settings.titles[statement.model]
    what = {"score": model, "lead": f"{model} minus the best other", "best_other": f"best other than {model}"}
    unit = "points" if statement.quantity == "lead" else "%"
    return f"{task}, {what[statement.quantity]}, {METRICS[statement.metric].short} ({unit})"


def span(low: float, high: float) -> str:
    return NONE if np.isnan(low) else f"{low:.2f} to {high:.2f}"


def ours(statement: Statement, stored: Stored) -> dict[str, Any] | None:
    """Our number in percent: value, ci_low, ci_high (seeds), low, high (patients, or re-splits), tasks, simulated.

    Of the whole training part; None where the statistics hold none.
    """
    average = statement.task == AVERAGE
    prefix = "average_" if average else ""
    scores, differences = (
        table[(table["task"] == statement.task) & (table["metric"] == statement.metric) & (table["share"] == 100)]
        for table in (stored.tables[f"{prefix}scores"], stored.tables[f"{prefix}differences"])
    )
    best = strongest(scores, statement.model)
    if not (scores["model"] == statement.model).any() or (statement.quantity != "score" and best.empty):
        return None
    model = statement.model if statement.quantity == "score" else str(best["model"].iloc[0])
    table = differences if statement.quantity == "lead" else scores
    rows = table[table["model"] == model]
    if rows.empty:
        return None
    found = rows.iloc[0]
    if statement.quantity == "lead":
        values = [found["difference"], np.nan, np.nan]
    else:
        values = [found["mean"], found["ci_low"], found["ci_high"]]
    over_patients = ["boot_low", "boot_high"] if not np.isnan(found["boot_low"]) else ["nb_low", "nb_high"]
    values += [found[name] for name in over_patients]
    percent = dict(zip(NUMBERS, (100 * float(value) for value in values), strict=True))
    tasks = stored.tables["scores"]["task"].nunique() if average else 1
    own = scores[scores["model"] == statement.model]
    return {
        **percent,
        "tasks": tasks,
        "seeds": int(own["seeds"].iloc[0]),
        "simulated": bool(found["simulated"]),
        "few": bool(found["few_patients"]),
    }


def why_missing(statement: Statement, stored: Stored | None, settings: ComparisonSettings) -> str:
    for name in (statement.task, statement.model):
        if name in settings.missing:
            return f"{settings.titles[name]}: {settings.missing[name]}"
    if statement.task == AVERAGE and stored is not None:
        return "fewer than two tasks have a result of every model"
    return "this configuration does not compare it"


def explanations(
    statement: Statement, stored: Stored, found: dict[str, Any], settings: ComparisonSettings
) -> list[str]:
    """What of this run differs from the paper's."""
    reasons = ["simulated data"] if found["simulated"] else ["the paper's test images are not published"]
    if statement.model in stored.stand_ins:
        reasons.append(f"{settings.titles[statement.model]} is a stand-in")
    if statement.task == AVERAGE and found["tasks"] < settings.tasks[statement.comparison]:
        reasons.append(f"{found['tasks']} of {settings.tasks[statement.comparison]} tasks")
    if statement.quantity != "score" and (others := [model for model in stored.stand_ins if model != statement.model]):
        reasons.append(f"stand-ins for {', '.join(settings.titles.get(model, model) for model in others)}")
    if found["seeds"] != settings.seeds:
        reasons.append(f"{found['seeds']} seed{'s' if found['seeds'] > 1 else ''} instead of {settings.seeds}")
    return [*reasons, *settings.reasons.get(statement.model, []), *settings.reasons.get("", [])]


def comparison(settings: ComparisonSettings, statistics: dict[str, Stored]) -> Table:
    """The table from the statistics that are there (comparison name to its tables)."""
    rows = [row(statement, statistics.get(statement.comparison), settings) for statement in settings.paper]
    answers = [cells[COLUMNS.index("Paper within ours")] for cells in rows]
    compared = len(answers) - answers.count(NONE)
    notes = [
        f"Of {len(rows)} numbers, {compared} can be compared; {answers.count('yes')} lie within our interval over "
        "patients.",
        "Ours: mean over the seeds (a lead: its difference). Interval over patients: of the same, by bootstrap; with a "
        "split per seed, by the corrected t. The paper's intervals are over seeds.",
    ]
    if any(stored.simulated for stored in statistics.values()):
        notes.insert(0, SIMULATED)
    return Table(
        name="Comparison with the paper",
        title="Numbers stated in the paper's text, and ours",
        columns=COLUMNS,
        rows=rows,
        notes=notes,
        numbers=["Paper", "Ours"],
    )


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Compare the numbers of the paper's text with ours.")
    parser.add_argument("--statistics", type=Path, nargs="*", default=[], help="statistics.json of each comparison")
    options = parser.parse_args()
    settings = parse_settings(ComparisonSettings, options.settings)
    statistics = {stored.name: stored for stored in (read_statistics(path, TABLES) for path in options.statistics)}
    table = comparison(settings, statistics)
    write_table(options.output, table)
    say(f"comparison with the paper: {table.notes[-2]} Written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
