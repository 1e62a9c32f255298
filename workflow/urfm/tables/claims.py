"""The paper's claims that one model is better, read critically (stage `claims`).

A claim is a list of comparisons. Each is tested (a) as the paper does, by a t-test over seeds, and (b) over patients,
by exchanging the models, with and without Holm's correction within the claim's comparisons of one metric. With a split
per seed (c), the corrected t-test over re-splits, takes the place of (b). Both tests use our runs; the question is how
many of the comparisons that (a) calls significant the other calls so too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import Field

from urfm.config.paper import Claim, Win
from urfm.core.cli import Settings, parse_settings, run
from urfm.core.files import write_csv
from urfm.core.progress import say
from urfm.metrics import METRICS
from urfm.statistics.significance import holm
from urfm.statistics.stored import Stored, read_statistics, strongest
from urfm.tables.render import NONE, SIMULATED, Table, arguments, write_table

DETAIL_COLUMNS = [
    "claim", "figure", "task", "share", "metric", "better", "worse", "difference", "t_p", "t_p_holm",
    "perm_p", "perm_p_holm", "nb_p", "nb_p_holm", "delong_p", "few_patients", "simulated",
]  # fmt: skip
RAW = ("t_p", "perm_p", "nb_p")


@dataclass(frozen=True)
class Test:
    """The test that (a) is held against: its names, and its columns in the table of comparisons."""

    letter: str
    over: str
    words: str
    note: str
    p: str

    def finds(self, table: pd.DataFrame, level: float, suffix: str = "") -> pd.Series[bool]:
        """Where the comparison is in the claim's favour with P below the level; suffix `_holm`: the corrected P."""
        return (table["difference"] > 0) & (table[f"{self.p}{suffix}"] < level)


SEEDS = Test("(a)", "seeds", "the t-test over seeds (a)", "t-test over seeds", "t_p")
PATIENTS = Test(
    "(b)",
    "patients",
    "the test over patients (b)",
    "models exchanged patient by patient",
    "perm_p",
)
RESPLITS = Test(
    "(c)",
    "re-splits",
    "Nadeau and Bengio's corrected t-test over re-splits (c)",
    "Nadeau and Bengio's corrected t-test over re-splits, since each seed has its own and there is no (b)",
    "nb_p",
)


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
    return table.assign(claim=claim.says, figure=claim.comparison)[DETAIL_COLUMNS]


def _of_win(win: Win, claim: Claim, scores: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    # The table holds reference minus model; a claim may be for the model.
    forward = differences.rename(columns={"reference": "better", "model": "worse"})
    backward = differences.rename(columns={"model": "better", "reference": "worse"})
    backward = backward.assign(difference=-backward["difference"])
    both = pd.concat([forward, backward], ignore_index=True)
    rows = both[(both["better"] == win.better) & both["metric"].isin(claim.metrics)]
    if win.tasks:
        rows = rows[rows["task"].isin(win.tasks)]
    if win.worse == "strongest":
        best = strongest(scores, win.better).rename(columns={"model": "worse"})
        return rows.merge(best, on=["worse", "task", "share", "metric"])
    return rows[rows["worse"].isin(win.worse)]


def held_against(comparisons: pd.DataFrame) -> Test:
    """Over patients, unless every seed has a split of its own."""
    resplit = comparisons["perm_p"].isna().all() and comparisons["nb_p"].notna().any()
    return RESPLITS if resplit else PATIENTS


def columns(test: Test) -> list[str]:
    """The table's head."""
    own = [f"{test.letter} {test.over}", f"{test.letter} Holm", f"(a) that survive {test.letter} Holm"]
    return ["Claim", "Figure", "Level", "Comparisons", "Better", "(a) seeds", "(a) Holm", *own]


def row(claim: Claim, table: pd.DataFrame, figure: str, test: Test) -> list[str]:
    """Counts of a claim: of all comparisons, those in its favour with P below the level."""
    head = [claim.says, figure, f"P < {claim.level:g}"]
    if table.empty:
        return [*head, "0", *[NONE] * 6]
    seeds, sound = SEEDS.finds(table, claim.level), test.finds(table, claim.level, "_holm")
    seeds_holm, sound_raw = SEEDS.finds(table, claim.level, "_holm"), test.finds(table, claim.level)
    counts = [table["difference"] > 0, seeds, seeds_holm, sound_raw, sound, seeds & sound]
    return [*head, str(len(table)), *(str(int(count.sum())) for count in counts)]


def sentences(settings: ClaimsSettings, details: Sequence[pd.DataFrame], test: Test) -> list[str]:
    """How many comparisons significant over seeds are so by the other test; by metric, and in which tasks none are."""
    counted = [
        table.assign(
            seeds=SEEDS.finds(table, claim.level),
            sound=test.finds(table, claim.level),
            sound_holm=test.finds(table, claim.level, "_holm"),
        )
        for claim, table in zip(settings.claims, details, strict=True)
        if len(table)
    ]
    if not counted:
        return ["No comparison of the paper's claims can be made with what is available."]
    found = pd.concat(counted, ignore_index=True)
    significant = found[found["seeds"]]
    lines = [
        f"Of {len(found)} comparisons, {len(significant)} are significant by {SEEDS.words}; of these, "
        f"{int(significant['sound'].sum())} are by {test.words}, {int(significant['sound_holm'].sum())} "
        "after Holm's correction."
    ]
    for metric, rows in significant.groupby("metric"):
        tasks = sorted(set(rows["task"]) - set(rows[rows["sound"]]["task"]))
        lost = f"; none of {', '.join(tasks)}" if tasks else ""
        survive = int(rows["sound"].sum())
        lines.append(f"{METRICS[str(metric)].short}: {survive} of {len(rows)} survive {test.letter}{lost}.")
    return lines


def main() -> None:
    """Command line of the stage."""
    parser = arguments("How many of the paper's claims survive a test over patients.")
    parser.add_argument("--statistics", type=Path, nargs="*", default=[], help="statistics.json of each comparison")
    options = parser.parse_args()
    settings = parse_settings(ClaimsSettings, options.settings)
    tables = ("scores", "differences", "average_scores", "average_differences")
    statistics = {stored.name: stored for stored in (read_statistics(path, tables) for path in options.statistics)}
    details = [
        comparisons(claim, statistics[claim.comparison])
        if claim.comparison in statistics
        else pd.DataFrame(columns=DETAIL_COLUMNS)
        for claim in settings.claims
    ]
    there = [table for table in details if len(table)]
    every = pd.concat(there, ignore_index=True) if there else pd.DataFrame(columns=DETAIL_COLUMNS)
    test = held_against(every)
    notes = [
        *sentences(settings, details, test),
        f"Columns count comparisons in the claim's favour. (a): {SEEDS.note}; {test.letter}: {test.note}. "
        "Holm: within the claim's comparisons of one metric.",
    ]
    if any(stored.simulated for stored in statistics.values()):
        notes.insert(0, SIMULATED)
    rows = [
        row(claim, table, settings.titles[claim.comparison], test)
        for claim, table in zip(settings.claims, details, strict=True)
    ]
    write_table(
        options.output,
        Table(
            name="Claims",
            title="The paper's claims of superiority, tested over seeds and over patients with our runs",
            columns=columns(test),
            rows=rows,
            notes=notes,
            numbers=columns(test)[3:],
        ),
    )
    write_csv(options.output.with_name(f"{options.output.name}_comparisons.csv"), every)
    say(f"claims: {len(there)} of {len(rows)} can be tested; written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
