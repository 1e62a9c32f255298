"""Means, intervals, tests and ROC curves of a comparison's cells (stage `statistics`; tables: docs/statistics.md).

One quantity, the mean of the seeds' scores, has two kinds of uncertainty side by side. Over seeds (the paper's): t
interval and t-test, how much training varies on these test images. Over patients: intervals by bootstrap, P by
exchanging the models, DeLong's method for two classes, what would change with other patients; all models of a task
share the resamples, so differences are paired. With a split per seed, test parts differ, and Nadeau and Bengio's
corrected t takes the place of both. The seed-averaged predictions are scored too, in a table of their own. Models are
compared within a task and share, and by ranks over tasks. Only the test part is used, or, `external`, a set of other
images predicted unchanged.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field

from urfm.config.paper import Subset
from urfm.config.statistics import Statistics
from urfm.core.cli import parse_settings, run
from urfm.core.files import sha256, write_csv, write_parquet, write_record
from urfm.core.progress import progress, say
from urfm.metrics import METRICS
from urfm.statistics.clinical import clinical_tables
from urfm.statistics.details import DETAILS, cell_details
from urfm.statistics.groups import averaged_over_tasks, compared, only
from urfm.statistics.predictions import Cell, read_cell
from urfm.statistics.ranks import rank_tables
from urfm.statistics.scores import difference_table, ensemble_table, score_table
from urfm.statistics.seed_scores import seed_scores

# So that the smallest P is below 0.01 after Holm's correction, whatever the number of comparisons.
DRAWS_PER_COMPARISON = 200


class StatisticsSettings(Statistics):
    """Settings of the stage: the section `statistics`, and which comparison it is."""

    comparison: str = Field(description="its name under comparisons")
    reference: str = Field(description="model that every other one is compared with")
    subset: Subset = Field(default="test", description="images that are scored")
    lines: list[str] = Field(default=[], description="models that are scored, and neither compared nor ranked")
    positive: dict[str, str] = Field(default={}, description="task of two classes: the positive one; else the second")


def compute(cells: Sequence[Cell], settings: StatisticsSettings) -> dict[str, pd.DataFrame]:
    """Every table of the stage by name, sorted (docs/statistics.md).

    `cells` may come in any order; those of one task and share must hold the same test images.
    """
    ordered = sorted(cells, key=lambda cell: (cell.task, cell.share, cell.model))
    seeds = pd.concat([seed_scores(cell) for cell in ordered], ignore_index=True)
    together: dict[tuple[str, int], list[Cell]] = {}
    for cell in ordered:
        together.setdefault((cell.task, cell.share), []).append(cell)
    subset, confidence = settings.subset, settings.confidence
    draws = draws_for(family(ordered, settings), settings)
    numbers = (settings.reference, settings.bootstrap_resamples, draws, settings.bootstrap_seed)
    groups = [
        compared(group, seeds, subset, *numbers)
        for group in progress(together.values(), f"statistics of {settings.comparison}", total=len(together))
    ]
    lines = [only(group, [model for model in group.models if model in settings.lines]) for group in groups]
    groups = [only(group, [model for model in group.models if model not in settings.lines]) for group in groups]
    averages = averaged_over_tasks(groups)
    how = (settings.reference, settings.t_test, confidence, settings.margin)
    rank_table, pair_table = rank_tables(groups, 1 - confidence)
    of_cells = [
        cell_details(
            cell, subset, settings.specificity, settings.calibration_bins, settings.positive.get(cell.task, "")
        )
        for cell in ordered
    ]
    return {
        "scores": score_table(groups, confidence),
        "differences": difference_table(groups, *how),
        "average_scores": score_table(averages, confidence),
        "average_differences": difference_table(averages, *how),
        "ensembles": ensemble_table(groups, confidence),
        "lines": score_table([*lines, *averaged_over_tasks(lines)], confidence),
        "seeds": seeds,
        **{name: pd.concat([tables[name] for tables in of_cells], ignore_index=True) for name in DETAILS},
        **clinical_tables(ordered, subset, settings, settings.positive),
        "ranks": rank_table,
        "rank_pairs": pair_table,
    }


def draws_for(comparisons: int, settings: StatisticsSettings) -> int:
    """Draws of the permutation test where Holm's correction is for so many comparisons."""
    return max(settings.permutations, DRAWS_PER_COMPARISON * comparisons)


def family(cells: Sequence[Cell], settings: StatisticsSettings) -> int:
    """How many comparisons of one metric Holm's correction is for."""
    others = {cell.model for cell in cells} - {settings.reference, *settings.lines}
    return sum(cell.model in others for cell in cells)


def warnings_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What fine-tuning warns of: model, task, share, the seeds concerned, of how many, words; sorted."""
    found = []
    for cell in sorted(cells, key=lambda cell: (cell.task, cell.share, cell.model)):
        # Without a seed's own numbers, so that seeds are counted together.
        said = [
            (re.sub(r" \d+\.\d{3}\b", "", one), seed) for seed in sorted(cell.warnings) for one in cell.warnings[seed]
        ]
        for words in dict.fromkeys(words for words, _ in said):
            seeds = [seed for other, seed in said if other == words]
            row = {"model": cell.model, "task": cell.task, "share": cell.share}
            found.append({**row, "seeds": seeds, "of": len(cell.seeds), "words": words})
    return found


def write(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    settings: StatisticsSettings,
    stand_ins: Sequence[str] = (),
    warnings: Sequence[dict[str, Any]] = (),
    deterministic: Sequence[str] = (),
) -> None:
    """Write every table as parquet and csv, and statistics.json.

    `stand_ins` names models that are no results, `warnings` are those of `warnings_of`, and
    `deterministic` names models with the same predictions for every seed.
    """
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table)
        write_csv(folder / f"{name}.csv", table)
    scores = tables["scores"]
    write_record(
        folder / "statistics.json",
        {
            "models": sorted(set(scores["model"])),
            "tasks": sorted(set(scores["task"])),
            "shares": sorted({int(share) for share in scores["share"]}),
            "simulated": bool(scores["simulated"].any()),
            "stand_ins": list(stand_ins),
            "warnings": list(warnings),
            "deterministic": list(deterministic),
            "settings": settings.model_dump(),
            "draws": draws_for(len(tables["differences"]) // len(METRICS), settings),
            "sha256": {f"{name}.parquet": sha256(folder / f"{name}.parquet") for name in tables},
        },
    )


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Means, intervals, tests and ROC curves from predictions.")
    parser.add_argument("--settings", required=True, help="JSON of StatisticsSettings")
    parser.add_argument("--cells", type=Path, nargs="+", required=True, help="cell.json files")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    settings = parse_settings(StatisticsSettings, options.settings)
    cells = [read_cell(path, settings.subset) for path in options.cells]
    if settings.reference not in {cell.model for cell in cells}:
        say(f"{settings.comparison}: no cell of the reference {settings.reference}: scores only, no differences")
    tables = compute(cells, settings)
    stand_ins = sorted({cell.model for cell in cells if cell.stand_in})
    deterministic = sorted({cell.model for cell in cells if cell.deterministic})
    write(options.output, tables, settings, stand_ins, warnings_of(cells), deterministic)
    say(
        f"{settings.comparison}: {len(cells)} cells, {len(tables['differences'])} comparisons with "
        f"{settings.reference}; written to {options.output}"
    )


if __name__ == "__main__":
    run(main)
