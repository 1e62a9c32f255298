"""Table 3: images of the organ-specific pre-training runs, beside the paper's counts (stage `table_3`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.files import read_json
from urfm.core.progress import say
from urfm.tables.render import NONE, SIMULATED, Table, arguments, count, write_table

COLUMNS = ["Organ", "Run", "Images", "Images in the paper", "Sources (images)", "Note"]


class Row(Settings):
    """A pre-training run as the table names it."""

    run: str
    organs: list[str]
    paper: int
    missing: list[str] = Field(default=[], description="data sets of the run that are not there")
    reason: str = Field(default="", description="why there is nothing to count; empty if there is")


class Table3Settings(Settings):
    """Settings of the stage."""

    runs: list[Row] = Field(description="in the order of the rows")
    notes: list[str] = Field(default=[], description="what explains differences from the paper")


def run_row(row: Row, selection: dict[str, Any] | None) -> list[str]:
    """A run's row from the record of its selection; None when none of its data sets is there."""
    organs = ", ".join(row.organs)
    if selection is None:
        return [organs, row.run, NONE, count(row.paper), NONE, f"not available: {row.reason or 'no set was made'}"]
    sources: Counter[str] = Counter()
    for group in selection["counts"]:
        sources[group["source"]] += group["images"]
    notes = [] if selection["images"] == row.paper else ["differs from the paper"]
    if row.missing:
        notes.append(f"without {', '.join(row.missing)}")
    if capped := selection["excluded"]["max_images"]:
        notes.append(f"{capped:,} more images beyond the run's cap")
    if selection["simulated"]:
        notes.append("simulated data")
    printed = ", ".join(f"{source} ({images:,})" for source, images in sources.items())
    return [organs, row.run, count(selection["images"]), count(row.paper), printed, "; ".join(notes)]


def table_3(settings: Table3Settings, selections: dict[str, dict[str, Any]]) -> Table:
    """The table from the records of the selections, by run."""
    notes = list(settings.notes)
    if any(selection["simulated"] for selection in selections.values()):
        notes.insert(0, SIMULATED)
    return Table(
        name="Table 3",
        title="Images of the organ-specific pre-training runs",
        columns=COLUMNS,
        rows=[run_row(row, selections.get(row.run)) for row in settings.runs],
        notes=notes,
        numbers=COLUMNS[2:4],
    )


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Write Table 3 from the records of the organ-specific sets.")
    parser.add_argument("--selections", type=Path, nargs="*", default=[], help="JSON of each run's pre-training set")
    options = parser.parse_args()
    settings = parse_settings(Table3Settings, options.settings)
    selections = {record["run"]: record for record in map(read_json, options.selections)}
    write_table(options.output, table_3(settings, selections))
    say(
        f"table 3: {len(selections)} of {len(settings.runs)} runs available; "
        f"written to {options.output}.csv, .md and .tex"
    )


if __name__ == "__main__":
    run(main)
