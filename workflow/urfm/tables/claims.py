"""The paper's claims about models, read critically (stage `claims`).

A claim of superiority is a list of comparisons. Each is tested (a) as the paper does, by a t-test over seeds, and (b)
over patients, by exchanging the models, with and without Holm's correction within the claim's comparisons of one
metric. With a split per seed (c), the corrected t-test over re-splits, takes the place of (b). Both tests use our runs;
the question is how many of the comparisons that (a) calls significant the other calls so too.

A P that is not small shows no equality. Claims of a marginal gain and of a score below or above a number are read off
the interval over patients: they hold where all of it lies on the claim's side. Faster convergence is tested over seeds
alone, since a validation curve has no patients. What cannot be tested here keeps its row and says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from urfm.config.paper import Claim, Win
from urfm.config.statistics import TTest
from urfm.core.cli import Settings, parse_settings, run
from urfm.core.files import write_csv
from urfm.core.progress import say
from urfm.metrics import METRICS
from urfm.statistics.convergence import REACHED, read_converged
from urfm.statistics.significance import holm, t_test
from urfm.statistics.stored import AVERAGE, TOO_FEW, Stored, interval_words, read_statistics, strongest
from urfm.tables.render import NONE, SIMULATED, Table, arguments, write_table

# difference: better minus worse, a share; of metric `epochs` the epochs that the better model saves.
DETAIL_COLUMNS = [
    "claim", "place", "kind", "comparison", "task", "share", "metric", "better", "worse", "difference", "score",
    "low", "high", "finding", "t_p", "t_p_holm", "perm_p", "perm_p_holm", "nb_p", "nb_p_holm", "delong_p",
    "few_patients", "simulated",
]  # fmt: skip
RAW = ("t_p", "perm_p", "nb_p")
EPOCHS = "epochs"
BY_INTERVAL = ("marginal", "below", "above")
HOLDS, LOSS, FAILS, OPEN = "holds", "holds (a loss)", "fails", "undecided"


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
    titles: dict[str, str] = Field(description="what is printed for a task or model")


def comparisons(claim: Claim, stored: Stored, converged: pd.DataFrame | None = None) -> pd.DataFrame:
    """The claim's comparisons that the statistics hold, the better model's score minus the other's; or its scores.

    `converged` are epochs by model, task, share and seed, for claims of faster convergence.
    """
    if claim.kind == "faster":
        epochs = pd.DataFrame() if converged is None else converged
        table = pd.concat([_saved_epochs(win, epochs, stored) for win in claim.wins], ignore_index=True)
    elif claim.model:
        table = _scores(claim, stored.tables["scores"])
    else:
        prefix = "average_" if claim.average else ""
        scores, differences = stored.tables[f"{prefix}scores"], stored.tables[f"{prefix}differences"]
        table = pd.concat([_of_win(win, claim, scores, differences) for win in claim.wins], ignore_index=True)
    table = table.reindex(columns=[*table.columns, *(name for name in DETAIL_COLUMNS if name not in table)])
    for raw in RAW:
        table[f"{raw}_holm"] = table.groupby("metric")[raw].transform(lambda p: holm(p.to_numpy(float)))
    if claim.kind in BY_INTERVAL:
        table["finding"] = findings(claim, table)
    said = {"claim": claim.says, "place": claim.place, "kind": claim.kind, "comparison": claim.comparison}
    return table.assign(**said)[DETAIL_COLUMNS]


def _of_win(win: Win, claim: Claim, scores: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    # The table holds reference minus model; a claim may be for the model.
    bounded = _with_interval(differences)
    forward = bounded.rename(columns={"reference": "better", "model": "worse"})
    backward = bounded.rename(columns={"model": "better", "reference": "worse"})
    backward = backward.assign(difference=-backward["difference"], low=-backward["high"], high=-backward["low"])
    both = pd.concat([forward, backward], ignore_index=True)
    rows = both[(both["better"] == win.better) & both["metric"].isin(claim.metrics)]
    if win.tasks:
        rows = rows[rows["task"].isin(win.tasks)]
    if win.worse == "strongest":
        best = strongest(scores, win.better).rename(columns={"model": "worse"})
        return rows.merge(best, on=["worse", "task", "share", "metric"])
    return rows[rows["worse"].isin(win.worse)]


def _scores(claim: Claim, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of the claim's one model."""
    rows = scores[(scores["model"] == claim.model) & scores["metric"].isin(claim.metrics)]
    if claim.tasks:
        rows = rows[rows["task"].isin(claim.tasks)]
    return _with_interval(rows).rename(columns={"model": "better", "mean": "score"})


def _with_interval(table: pd.DataFrame) -> pd.DataFrame:
    """With `low` and `high`: over patients, or over re-splits where each seed has its own."""
    bounds = {end: table[f"boot_{end}"].combine_first(table[f"nb_{end}"]) for end in ("low", "high")}
    return table.assign(**bounds)


def _saved_epochs(win: Win, converged: pd.DataFrame, stored: Stored) -> pd.DataFrame:
    """How many epochs earlier the better model converges, the mean over seeds, and P over seeds."""
    kind: TTest = "paired" if stored.t_test == "paired" else "welch"
    rows = []
    for (task, share), group in converged.groupby(["task", "share"]) if len(converged) else ():
        seeds = {model: part.sort_values("seed")["epoch"].to_numpy(float) for model, part in group.groupby("model")}
        if (win.tasks and task not in win.tasks) or win.better not in seeds:
            continue
        others = [model for model in seeds if model != win.better]
        worse = [min(others, key=lambda model: seeds[model].mean())] if win.worse == "strongest" else win.worse
        rows += [
            {
                "task": task, "share": share, "metric": EPOCHS, "better": win.better, "worse": model,
                "difference": seeds[model].mean() - seeds[win.better].mean(),
                "t_p": t_test(seeds[win.better], seeds[model], kind), "simulated": group["simulated"].any(),
            }
            for model in worse if model in others
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=["task", "share", "metric", "better", "worse", "difference", "t_p", "simulated"])


def findings(claim: Claim, table: pd.DataFrame) -> list[str]:
    """What each interval says of the claim's margin or bound; empty where there is no interval."""
    limit = float(claim.margin or claim.bound or 0) / 100
    under, over = table["high"] < limit, table["low"] > limit
    holds, fails = (over, under) if claim.kind == "above" else (under, over)
    loss = (table["high"] < 0) & (claim.kind == "marginal")
    return list(np.select([loss, holds, fails, table["low"].notna()], [LOSS, HOLDS, FAILS, OPEN], default=""))


def held_against(comparisons: pd.DataFrame) -> Test:
    """Over patients, unless every seed has a split of its own."""
    resplit = comparisons["perm_p"].isna().all() and comparisons["nb_p"].notna().any()
    return RESPLITS if resplit else PATIENTS


def columns(test: Test) -> list[str]:
    """The table's head."""
    own = [f"{test.letter} {test.over}", f"{test.letter} Holm", f"(a) that survive {test.letter} Holm"]
    return ["Claim", "Place in the paper", "Criterion", "Comparisons", "In favour", "(a) seeds", *own, "Finding"]


def row(claim: Claim, table: pd.DataFrame, titles: Mapping[str, str], test: Test) -> list[str]:
    """Counts of a claim: of all comparisons, those in its favour, and those for which a test or interval decides so."""
    head = [claim.says, claim.place, criterion(claim)]
    if claim.because:
        return [*head, *[NONE] * 6, f"cannot be tested here: {claim.because}"]
    if table.empty:
        return [*head, "0", *[NONE] * 5, "not available here"]
    counts: list[pd.Series[bool] | None]
    if claim.kind in BY_INTERVAL:
        counts = [in_favour(claim, table), None, table["finding"].isin([HOLDS, LOSS]), None, None]
        lines: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
        said = "; ".join(interval_of(line, table, titles) for line in lines)
    elif claim.kind == "faster":
        counts = [table["difference"] > 0, SEEDS.finds(table, claim.level or 0), None, None, None]
        said = "over seeds alone"
    else:
        level = claim.level or 0
        seeds, sound = SEEDS.finds(table, level), test.finds(table, level, "_holm")
        counts = [table["difference"] > 0, seeds, test.finds(table, level), sound, seeds & sound]
        few = int((table["few_patients"].astype(bool) & table[test.p].isna()).sum())
        said = f"{TOO_FEW} for {test.letter} in {few} of them" if few else ""
    return [*head, str(len(table)), *(NONE if count is None else str(int(count.sum())) for count in counts), said]


def criterion(claim: Claim) -> str:
    """What a comparison has to be to count."""
    names = ", ".join(METRICS[metric].short for metric in claim.metrics)
    words = {
        "better": f"P < {claim.level:g}" if claim.level else "",
        "faster": f"fewer epochs, P < {claim.level:g}" if claim.level else "",
        "marginal": f"gain in {names} < {claim.margin:g} point{'s' * (claim.margin != 1)}" if claim.margin else "",
        "below": f"{names} < {claim.bound:g} %" if claim.bound else "",
        "above": f"{names} > {claim.bound:g} %" if claim.bound else "",
        "untested": NONE,
    }
    return words[claim.kind]


def in_favour(claim: Claim, table: pd.DataFrame) -> pd.Series[bool]:
    """Where the difference or score itself lies on the claim's side, whatever its interval."""
    if claim.kind == "marginal":
        return table["difference"] < (claim.margin or 0) / 100
    bound = (claim.bound or 0) / 100
    return table["score"] > bound if claim.kind == "above" else table["score"] < bound


def interval_of(line: Mapping[str, Any], table: pd.DataFrame, titles: Mapping[str, str]) -> str:
    """Difference or score with its interval and what that says: "Kidney tumor: 0.42 (-1.10 to 1.90), undecided"."""
    differ = [name for name in ("metric", "share", "worse") if len(table[name].unique()) > 1]
    name = "Mean over tasks" if line["task"] == AVERAGE else titles[line["task"]]
    name += f", {METRICS[line['metric']].short}" if "metric" in differ else ""
    name += f", {line['share']} % of the labels" if "share" in differ else ""
    name += f", over {titles[line['worse']]}" if "worse" in differ else ""
    value = line["score"] if pd.isna(line["difference"]) else line["difference"]
    interval = interval_words(line["low"], line["high"], bool(line["few_patients"])) or "no interval"
    return f"{name}: {100 * value:.2f} ({interval})" + (f", {line['finding']}" if line["finding"] else "")


def sentences(settings: ClaimsSettings, details: Sequence[pd.DataFrame], test: Test) -> list[str]:
    """How many comparisons significant over seeds are so by the other test; by metric, and in which tasks none are."""
    counted = [
        table.assign(
            seeds=SEEDS.finds(table, claim.level),
            sound=test.finds(table, claim.level),
            sound_holm=test.finds(table, claim.level, "_holm"),
        )
        for claim, table in zip(settings.claims, details, strict=True)
        if claim.kind == "better" and claim.level and len(table)
    ]
    if not counted:
        return ["No comparison of the paper's claims of superiority can be made with what is available."]
    found = pd.concat(counted, ignore_index=True)
    significant = found[found["seeds"]]
    lines = [
        f"Of {len(found)} comparisons of superiority, {len(significant)} are significant by {SEEDS.words}; of these, "
        f"{int(significant['sound'].sum())} are by {test.words}, {int(significant['sound_holm'].sum())} "
        "after Holm's correction."
    ]
    for metric, rows in significant.groupby("metric"):
        tasks = sorted(set(rows["task"]) - set(rows[rows["sound"]]["task"]))
        lost = f"; none of {', '.join(tasks)}" if tasks else ""
        survive = int(rows["sound"].sum())
        lines.append(f"{METRICS[str(metric)].short}: {survive} of {len(rows)} survive {test.letter}{lost}.")
    return lines


def explanations(test: Test, statistics: Mapping[str, Stored]) -> list[str]:
    """What the columns and words mean."""
    levels = sorted({f"{100 * stored.confidence:g} %" for stored in statistics.values()})
    return [
        f"Columns count comparisons in the claim's favour. (a): {SEEDS.note}; {test.letter}: {test.note}. "
        "Holm: within the claim's comparisons of one metric.",
        f"Marginal gains (in points) and bounds are read off the interval over {test.over}"
        f"{f' ({levels[0]})' if len(levels) == 1 else ''}: a claim holds where all of it lies on the claim's side of "
        "the margin or bound, fails where all of it lies on the other, and is undecided where it includes it; below "
        "zero a gain is a loss. "
        f"Column {test.letter} {test.over} counts those that hold.",
        f"Convergence: the first epoch at which a seed's validation F1 reaches {100 * REACHED:g} % of its best. "
        "A validation curve has no patients, so it is tested over seeds alone.",
    ]


def main() -> None:
    """Command line of the stage."""
    parser = arguments("How many of the paper's claims survive a test over patients.")
    parser.add_argument("--statistics", type=Path, nargs="*", default=[], help="statistics.json of each comparison")
    parser.add_argument("--cells", type=Path, nargs="*", default=[], help="cell.json, history.csv beside it")
    options = parser.parse_args()
    settings = parse_settings(ClaimsSettings, options.settings)
    tables = ("scores", "differences", "average_scores", "average_differences")
    statistics = {stored.name: stored for stored in (read_statistics(path, tables) for path in options.statistics)}
    converged = read_converged(options.cells)
    details = [
        comparisons(claim, statistics[claim.comparison], converged)
        if claim.comparison in statistics
        else pd.DataFrame(columns=DETAIL_COLUMNS)
        for claim in settings.claims
    ]
    there = [table for table in details if len(table)]
    every = pd.concat(there, ignore_index=True) if there else pd.DataFrame(columns=DETAIL_COLUMNS)
    test = held_against(every)
    notes = [*sentences(settings, details, test), *explanations(test, statistics)]
    if any(stored.simulated for stored in statistics.values()):
        notes.insert(0, SIMULATED)
    rows = [row(claim, table, settings.titles, test) for claim, table in zip(settings.claims, details, strict=True)]
    head = columns(test)
    write_table(
        options.output,
        Table(
            name="Claims",
            title="What the paper says of models beside one another, tested with our runs",
            columns=head,
            rows=rows,
            notes=notes,
            numbers=head[3:-1],
        ),
    )
    write_csv(options.output.with_name(f"{options.output.name}_comparisons.csv"), every)
    say(f"claims: {len(there)} of {len(rows)} can be tested; written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
