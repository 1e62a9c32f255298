"""Table 1: pre-training images by organ and source, beside the paper's counts (stage `table_1`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.files import read_json
from urfm.core.progress import say
from urfm.tables.render import SIMULATED, Table, arguments, count, write_table

COLUMNS = ["Organ", "Source", "Images", "Images in the paper", "Subtotal", "Subtotal in the paper", "Note"]
STEPS = {  # why images of the manifests are not in the set
    "organs": "of other organs",
    "downstream_test": "of validation or test patients of a task",
    "share": "beyond the run's share",
    "max_images": "beyond the run's cap",
}


class MissingDataset(Settings):
    """A data set of the run that is not there."""

    name: str
    source: str
    organs: list[str]
    reason: str


class Table1Settings(Settings):
    """Settings of the stage."""

    organs: list[tuple[str, str]] = Field(description="key and name of each organ, in the order of the rows")
    paper: list[tuple[str, str, int]] = Field(description="the paper's rows: organ, source, images")
    missing: list[MissingDataset] = Field(default=[], description="data sets of the run that are not there")
    notes: list[str] = Field(default=[], description="what explains differences from the paper")


def row_note(here: int, paper: int | None, missing: list[MissingDataset], simulated: bool) -> str:
    """Why a row's count is not the paper's, as far as it is known."""
    notes = []
    if missing:
        names = ", ".join(entry.name for entry in missing)
        notes.append(f"without {names}" if here else f"not available: {missing[0].reason} ({names})")
    elif not here:
        notes.append("in no data set of this run")
    elif paper is None:
        notes.append("not in the paper")
    elif here != paper:
        notes.append("differs from the paper")
    if simulated:
        notes.append("simulated data")
    return "; ".join(notes)


def table_1(settings: Table1Settings, selection: dict[str, Any] | None) -> Table:
    """The table from the record of the run's selection; None when none of its data sets is there."""
    counts = selection["counts"] if selection else []
    here: Counter[tuple[str, str]] = Counter()
    for group in counts:
        here[group["organ"], group["source"]] += group["images"]
    simulated = {(group["organ"], group["source"]) for group in counts if group["simulated"]}
    paper = {(organ, source): images for organ, source, images in settings.paper}
    lacking = {(organ, entry.source) for entry in settings.missing for organ in entry.organs}

    rows = []
    for key, name in settings.organs:
        # The paper's rows in its order, then what it does not have.
        pairs = list(dict.fromkeys(pair for pair in [*paper, *sorted(here), *sorted(lacking)] if pair[0] == key))
        subtotals = [sum(numbers.get(pair, 0) for pair in pairs) for numbers in (here, paper)]
        for number, pair in enumerate(pairs):
            missing = [entry for entry in settings.missing if key in entry.organs and entry.source == pair[1]]
            rows.append([
                name,
                pair[1],
                count(here.get(pair)),
                count(paper.get(pair)),
                *([count(subtotal or None) for subtotal in subtotals] if number == 0 else ["", ""]),
                row_note(here[pair], paper.get(pair), missing, pair in simulated),
            ])  # fmt: skip
    total, total_paper = here.total(), sum(paper.values())
    rows.append(["Total", "", count(total), count(total_paper), count(total), count(total_paper), ""])

    excluded = selection["excluded"] if selection else {"manifest": {}}
    left_out = [(number, f"excluded in a manifest: {why}") for why, number in excluded["manifest"].items()]
    left_out += [(excluded.get(step, 0), why) for step, why in STEPS.items()]
    notes = [f"Not in the set: {number:,} images {why}." for number, why in left_out if number]
    notes += settings.notes
    if simulated:
        notes.insert(0, SIMULATED)
    return Table(
        name="Table 1",
        title="Pre-training images by organ and source",
        columns=COLUMNS,
        rows=rows,
        notes=notes,
        numbers=COLUMNS[2:6],
    )


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Write Table 1 from the record of a run's pre-training set.")
    parser.add_argument("--selection", type=Path, help="JSON of the run's pre-training set, if there is one")
    options = parser.parse_args()
    settings = parse_settings(Table1Settings, options.settings)
    table = table_1(settings, read_json(options.selection) if options.selection else None)
    write_table(options.output, table)
    total, paper = table.rows[-1][2:4]
    say(f"table 1: {total} images, {paper} in the paper; written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
