"""The leakage audit: what the test images of a task share with pre-training, and with other parts of their set.

An image may be known from another one in four ways, the strongest first: `file` (the same file under another path),
`pixels` (the same picture), `near` (a near duplicate by perceptual hash), `patient` (another image of the patient, in
the same data set). Pairs of one patient whom the archive tells are what patients are for: they are counted, and listed
only if their pixels are equal and their labels are not. Proxy patients (D26) are near duplicates themselves: their
pairs are listed as those of any other images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from urfm.config.data import NearDuplicates
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, verify_sha256, write_csv, write_parquet, write_record
from urfm.core.progress import say
from urfm.data.leakage import duplicates
from urfm.data.leakage.duplicates import (
    KINDS,
    RUN,
    exact_pairs,
    near_pairs,
    nearest_by_use,
    read_images,
    read_sources,
)
from urfm.data.leakage.findings import FINDINGS, list_pairs, other_patients
from urfm.data.leakage.near_duplicates import SEARCH_RADIUS
from urfm.data.leakage.seen import dataset_table, run_table, task_table

LISTED = 1000  # pairs in the CSV file


class AuditSettings(NearDuplicates):
    """Settings of the stage: what the section `audit` says of the search."""


def _read(summary: Path, columns: list[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """The summary of a split or a selection and the table beside it, whose hash is checked."""
    record, table = read_json(summary), summary.with_suffix(".parquet")
    verify_sha256(table, record["sha256"])
    return record, pd.read_parquet(table, columns=columns)


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(
        description="Find images that occur twice: in a data set, or in pre-training and a task."
    )
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(AuditSettings.model_fields))
    parser.add_argument("--manifests", type=Path, nargs="*", default=[], help="summaries (.json) beside their tables")
    parser.add_argument("--splits", type=Path, nargs="*", default=[], help="of the tasks, likewise")
    parser.add_argument("--selections", type=Path, nargs="*", default=[], help="of the pre-training runs, likewise")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    settings = parse_settings(AuditSettings, arguments.settings)

    sources = read_sources(arguments.manifests)
    if not sources:
        raise UrfmError("--manifests: there is none to audit; put a data set into the data root (docs/datasets.md)")
    splits = {
        str(record["task"]): (record, table)
        for record, table in (_read(path, ["image_id", "subset"]) for path in arguments.splits)
    }
    selections = {
        str(record["run"]): (record, table)
        for record, table in (_read(path, ["image_id"]) for path in arguments.selections)
    }
    images = read_images(
        sources,
        {run: table["image_id"] for run, (_, table) in selections.items()},
        {task: table for task, (_, table) in sorted(splits.items())},
    )
    say(f"audit: {len(images.rows):,} images of {len(sources)} data sets")

    exact = exact_pairs(images.rows)
    say(f"audit: {len(exact):,} pairs of equal pictures")
    near, across, within = near_pairs(images, settings.distance)
    say(f"audit: {across.total():,} pairs of near duplicates, and {within.total():,} within patients")
    listed = pd.concat(
        [other_patients(images, nearest_by_use(images, exact)), nearest_by_use(images, near)], ignore_index=True
    )
    pairs = list_pairs(images, listed, sources)
    links = duplicates.links(images.rows, pd.concat([exact, near], ignore_index=True))
    tasks, runs = task_table(images, links), run_table(images, links)
    datasets = dataset_table(images, listed, across, within)

    simulated = [source.dataset for source in sources if source.summary["simulated"]]
    pairs["simulated"] = pairs["dataset_a"].isin(simulated) | pairs["dataset_b"].isin(simulated)
    made = images.places["dataset"].isin(simulated)
    of_task = {task: record["dataset"] in simulated for task, (record, _) in splits.items()}
    of_run = {name: bool(made[images.places[RUN + name]].any()) for name in images.runs}
    tasks["simulated"] = tasks["task"].map(of_task).astype(bool) | any(of_run.values())
    runs["simulated"] = runs["task"].map(of_task).astype(bool) | runs["run"].map(of_run).astype(bool)
    datasets["simulated"] = datasets["dataset"].isin(simulated)
    write_parquet(arguments.output / "pairs.parquet", pairs)
    write_csv(arguments.output / "pairs.csv", pairs.head(LISTED))
    for name, table in (("tasks", tasks), ("runs", runs), ("datasets", datasets)):
        write_parquet(arguments.output / f"{name}.parquet", table)
        write_csv(arguments.output / f"{name}.csv", table)
    write_record(
        arguments.output / "audit.json",
        {
            "settings": settings.model_dump(),
            "search_radius": SEARCH_RADIUS,
            "manifests": {source.dataset: source.summary["sha256"] for source in sources},
            "splits": {task: record["sha256"] for task, (record, _) in splits.items()},
            "selections": {run: record["sha256"] for run, (record, _) in selections.items()},
            "simulated": simulated,
            "images": len(images.rows),
            "kinds": {kind: int((pairs["kind"] == kind).sum()) for kind in KINDS},
            "findings": {name: int((pairs["finding"] == name).sum()) for name in FINDINGS},
            "sha256": {name: sha256(arguments.output / name) for name in ("pairs.parquet", "pairs.csv")},
        },
    )
    for row in tasks[tasks["subset"] == "test"].itertuples():
        say(
            f"{row.task}: {row.images:,} test images, {row.seen:,} seen in pre-training, {row.in_train:,} repeated in "
            "the training part"
        )
    say(f"audit in {arguments.output}")


if __name__ == "__main__":
    run(main)
