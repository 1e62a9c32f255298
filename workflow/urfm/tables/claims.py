"""The paper's claims that one model is better, read critically (stage `claims`).

A claim is a list of comparisons. Each is tested (a) as the paper does, by a t-test over seeds, and (b) over patients,
by the bootstrap, with and without Holm's correction within the claim's comparisons of one metric. Both tests use our
runs; the question is how many of the comparisons that (a) calls significant (b) calls so too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import Field

from urfm.cli import Settings, parse_settings, run
from urfm.evaluation.significance import holm
from urfm.evaluation.stored import METRIC_TITLES, Stored, read_statistics, strongest
from urfm.files import write_csv
from urfm.progress import say
from urfm.tables.render import NONE, SIMULATED, Table, write_table

COLUMNS = [
    "Claim", "Figure", "Level", "Comparisons", "Better", "(a) seeds", "(a) Holm", "(b) patients", "(b) Holm",
    "(a) that survive (b) Holm",
]  # fmt: skip
DETAIL_COLUMNS = [
    "claim", "figure", "task", "share", "metric", "better", "worse", "difference", "t_p", "t_p_holm",
    "boot_difference", "boot_p", "boot_p_holm", "nb_p", "nb_p_holm", "delong_p", "simulated",
]  # fmt: skip
RAW = ("t_p", "boot_p", "nb_p")


class Win(Settings):
    """One model is better than others on tasks."""

    better: str
    worse: list[str] | Literal["strongest"] = Field(description="models, or the strongest other one of each task")
    tasks: list[str] = Field(default=[], description="none: all of the comparison")


class Claim(Settings):
    """What the paper says, and the comparisons it speaks of."""

    figure: str
    says: str = Field(description="the words of the paper, or their content")
    metrics: list[Literal["accuracy", "f1_macro", "auroc"]] = Field(min_length=1)
    level: float = Field(gt=0, lt=1, description="P below which a comparison counts")
    average: bool = Field(default=False, description="the mean over tasks instead of each task")
    wins: list[Win] = Field(min_length=1)


class ClaimsSettings(Settings):
    """Settings of the stage."""

    claims: list[Claim]
    titles: dict[str, str] = Field(description="what is printed for a comparison: its figure")


def comparisons(claim: Claim, stored: Stored) -> pd.DataFrame:
    """The claim's comparisons that the statistics hold, the better model's score minus the other's."""
    prefix = "average_" if claim.average else ""
    parts = [
        _of_win(win, claim, stored.tables[f"{prefix}scores"], stored.tables[f"{prefix}differences"])
        for win in claim.wins
    ]
    table = pd.concat(parts, ignore_index=True)
    for raw in RAW:
        table[f"{raw}_holm"] = table.groupby("metric")[raw].transform(lambda p: holm(p.to_numpy()))
    return table.assign(claim=claim.says, figure=claim.figure)[DETAIL_COLUMNS]


def _of_win(win: Win, claim: Claim, scores: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    # The table holds reference minus model; a claim may be for the model.
    forward = differences.rename(columns={"reference": "better", "model": "worse"})
    backward = differences.rename(columns={"model": "better", "reference": "worse"})
    backward = backward.assign(difference=-backward["difference"], boot_difference=-backward["boot_difference"])
    both = pd.concat([forward, backward], ignore_index=True)
    rows = both[(both["better"] == win.better) & both["metric"].isin(claim.metrics)]
    if win.tasks:
        rows = rows[rows["task"].isin(win.tasks)]
    if win.worse == "strongest":
        best = strongest(scores, win.better).rename(columns={"model": "worse"})
        return rows.merge(best, on=["worse", "task", "share", "metric"])
    return rows[rows["worse"].isin(win.worse)]


def row(claim: Claim, table: pd.DataFrame, figure: str) -> list[str]:
    """Counts of a claim: of all comparisons, those in its favour with P below the level."""
    head = [claim.says, figure, f"P < {claim.level:g}"]
    if table.empty:
        return [*head, "0", *[NONE] * 6]
    better = {name: table[name] > 0 for name in ("difference", "boot_difference")}
    seeds, seeds_holm = (better["difference"] & (table[name] < claim.level) for name in ("t_p", "t_p_holm"))
    patients, patients_holm = (
        better["boot_difference"] & (table[name] < claim.level) for name in ("boot_p", "boot_p_holm")
    )
    counts = [better["difference"], seeds, seeds_holm, patients, patients_holm, seeds & patients_holm]
    return [*head, str(len(table)), *(str(int(count.sum())) for count in counts)]


def sentences(settings: ClaimsSettings, details: Sequence[pd.DataFrame]) -> list[str]:
    """How many comparisons significant over seeds are so over patients; by metric, and in which tasks none are."""
    counted = [
        table.assign(
            a=(table["difference"] > 0) & (table["t_p"] < claim.level),
            b=(table["boot_difference"] > 0) & (table["boot_p"] < claim.level),
            b_holm=(table["boot_difference"] > 0) & (table["boot_p_holm"] < claim.level),
        )
        for claim, table in zip(settings.claims, details, strict=True)
        if len(table)
    ]
    if not counted:
        return ["No comparison of the paper's claims can be made with what is available."]
    found = pd.concat(counted, ignore_index=True)
    significant = found[found["a"]]
    lines = [
        f"Of {len(found)} comparisons, {len(significant)} are significant by the t-test over seeds (a); of these, "
        f"{int(significant['b'].sum())} are by the bootstrap over patients (b), {int(significant['b_holm'].sum())} "
        "after Holm's correction."
    ]
    for metric, rows in significant.groupby("metric"):
        tasks = sorted(set(rows["task"]) - set(rows[rows["b"]]["task"]))
        lost = f"; none of {', '.join(tasks)}" if tasks else ""
        lines.append(f"{METRIC_TITLES[str(metric)]}: {int(rows['b'].sum())} of {len(rows)} survive (b){lost}.")
    if found["boot_p"].isna().all():
        lines.append("With a split a seed there is no (b); nb_p in the comparisons' file is the corrected test.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="How many of the paper's claims survive a test over patients.")
    parser.add_argument("--settings", required=True, help="JSON of ClaimsSettings")
    parser.add_argument("--statistics", type=Path, nargs="*", default=[], help="statistics.json of each comparison")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix")
    options = parser.parse_args()
    settings = parse_settings(ClaimsSettings, options.settings)
    tables = ("scores", "differences", "average_scores", "average_differences")
    statistics = {stored.name: stored for stored in (read_statistics(path, tables) for path in options.statistics)}
    details = [
        comparisons(claim, statistics[claim.figure])
        if claim.figure in statistics
        else pd.DataFrame(columns=DETAIL_COLUMNS)
        for claim in settings.claims
    ]
    notes = [
        *sentences(settings, details),
        "Columns count comparisons in the claim's favour. (a): t-test over seeds on one split, training varies; (b): "
        "bootstrap of patients of the seed-averaged predictions. Holm: within the claim's comparisons of one metric.",
    ]
    if any(stored.simulated for stored in statistics.values()):
        notes.insert(0, SIMULATED)
    rows = [
        row(claim, table, settings.titles[claim.figure]) for claim, table in zip(settings.claims, details, strict=True)
    ]
    write_table(
        options.output,
        Table(
            name="Claims",
            title="The paper's claims of superiority, tested over seeds and over patients with our runs",
            columns=COLUMNS,
            rows=rows,
            notes=notes,
            numbers=COLUMNS[3:],
        ),
    )
    there = [table for table in details if len(table)]
    every = pd.concat(there, ignore_index=True) if there else pd.DataFrame(columns=DETAIL_COLUMNS)
    write_csv(options.output.with_name(f"{options.output.name}_comparisons.csv"), every)
    say(f"claims: {len(there)} of {len(rows)} can be tested; written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
