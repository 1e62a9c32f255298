"""The pre-training set of a run: which images of its data sets it trains on (stage `corpus`).

From the manifests' usable images are taken, in this order: those of the run's organs; if wanted, those of no validation
or test patient of a downstream task; a random share of what is left, and at most so many. Share and cap take the
beginning of one order, fixed by a hash of image id and seed, so smaller sets lie within larger ones of the same seed.

Writes a table (image_id, dataset, organ, source; sorted by image_id) and, beside it, a JSON file that says what is in
it, what is not and why.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from urfm.config.pretraining import ImageChoice
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, verify_sha256, write_parquet, write_record
from urfm.core.progress import say, warn
from urfm.data.splits.shares import hash_order

COLUMNS = ["image_id", "dataset", "organ", "source"]
IDENTITY = ["patient_id", "sha256", "pixel_sha256"]  # by which an image of a held-out patient is recognised


class CorpusSettings(ImageChoice):
    """Settings of the stage: what a run of the configuration's `pretraining` says of its images."""

    run: str
    dataset_organs: dict[str, list[str]]  # the run's data sets, each with the organs that it may hold
    tasks_not_here: list[str]  # not available here, so their patients cannot be excluded


def read_manifest(summary: Path, columns: list[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """A manifest's summary, and the given columns of the manifest beside it, whose hash is checked."""
    record: dict[str, Any] = read_json(summary)
    table = summary.with_suffix(".parquet")
    verify_sha256(table, record["sha256"])
    return record, pd.read_parquet(table, columns=columns)


def check_organs(images: pd.DataFrame, dataset_organs: dict[str, list[str]]) -> None:
    """Raise an UrfmError that names the first image whose organ its data set does not list."""
    for dataset, organs in dataset_organs.items():
        own = images[images["dataset"] == dataset]
        foreign = own[~own["organ"].isin(organs)]
        if len(foreign):
            image_id, organ = foreign.iloc[0][["image_id", "organ"]]
            raise UrfmError(
                f"datasets.{dataset}.organ lists {', '.join(organs)}, but {image_id} has the organ {organ!r} "
                f"({len(foreign):,} images have one that is not listed). Correct it in the data set's metadata, or "
                "list it in the configuration: there, and under `organs` if it is new"
            )


def why_held_out(images: pd.DataFrame, manifest: pd.DataFrame, split: pd.DataFrame) -> pd.Series[str]:
    """Why each image belongs to a validation or test patient of a task; empty if it does not.

    Parameters
    ----------
    images
        Columns image_id, patient_id, sha256, pixel_sha256.
    manifest
        The same columns of all images of the task's data set, excluded ones included.
    split
        Columns image_id, subset of the task's images.

    Returns
    -------
    Series
        With the index of `images`: "image", the very image is held out; "patient", another image of a held-out patient;
        "file" or "pixels", a copy of an image of such a patient (a file of many frames is a recording of one patient,
        so all its frames go); and "patient" again for other images of whoever has a copy, since it is the same person.
    """
    ids = split.loc[split["subset"] != "train", "image_id"]
    patients = manifest.loc[manifest["image_id"].isin(ids), "patient_id"]
    held_out = manifest[manifest["patient_id"].isin(patients)]
    same_file = images["sha256"].isin(held_out["sha256"])
    same_pixels = images["pixel_sha256"].isin(held_out["pixel_sha256"])
    reasons = [
        ("image", images["image_id"].isin(ids)),
        ("patient", images["patient_id"].isin(patients)),  # it begins with the data set's name: those of two never meet
        ("file", same_file),
        ("pixels", same_pixels),
        ("patient", images["patient_id"].isin(images.loc[same_file | same_pixels, "patient_id"])),
    ]
    why = np.select([holds for _, holds in reasons], [reason for reason, _ in reasons], default="")
    return pd.Series(why, index=images.index, dtype="str")


def take(images: pd.DataFrame, number: int, seed: int) -> pd.DataFrame:
    """The first `number` images in an order that looks random and depends on their ids and `seed` alone."""
    if number >= len(images):
        return images
    order = hash_order(images["image_id"], seed, "pretraining").argsort(kind="stable").to_numpy()
    return images.iloc[np.sort(order[:number])]


def select(
    images: pd.DataFrame, settings: CorpusSettings, tasks: Iterable[tuple[str, pd.DataFrame, pd.DataFrame]] = ()
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Choose a run's images.

    Parameters
    ----------
    images
        Columns COLUMNS and excluded_reason of the run's data sets, and IDENTITY if there are tasks.
    settings
        What the run wants.
    tasks
        Name, manifest and split of each task whose validation and test patients are left out (see `why_held_out`).

    Returns
    -------
    chosen
        Columns COLUMNS, sorted by image_id.
    excluded
        Numbers of images that were left out, by step and reason.
    """
    reasons = images.loc[images["excluded_reason"] != "", "excluded_reason"].value_counts()
    usable = images[images["excluded_reason"] == ""]
    check_organs(usable, settings.dataset_organs)
    excluded: dict[str, Any] = {"manifest": {str(reason): int(number) for reason, number in reasons.items()}}

    wanted = usable[usable["organ"].isin(settings.organs)] if settings.organs else usable
    excluded["organs"] = len(usable) - len(wanted)

    left_out = pd.Series(False, index=wanted.index)
    excluded["tasks"] = {}
    for task, manifest, split in tasks:
        why = why_held_out(images, manifest, split)[wanted.index]  # an image that is not wanted may give a patient away
        excluded["tasks"][task] = {
            reason: int((why == reason).sum()) for reason in ("image", "patient", "file", "pixels")
        }
        left_out |= why != ""
    excluded["downstream_test"] = int(left_out.sum())  # tasks may share images
    kept = wanted[~left_out].sort_values("image_id", ignore_index=True)

    share = len(kept) * settings.share // 100
    number = min(share, settings.max_images or share)
    excluded["share"] = len(kept) - share
    excluded["max_images"] = share - number
    if number == 0:
        raise UrfmError(
            f"pretraining.runs.{settings.run}: of {len(usable):,} usable images none is left ({excluded}); "
            "add data sets that hold the organs of the run, or loosen organs, share or exclude_downstream_test"
        )
    return take(kept[COLUMNS], number, settings.seed).reset_index(drop=True), excluded


def column_sha256(column: pd.Series[str]) -> str:
    """SHA-256 of a column's texts, one a line."""
    return hashlib.sha256("\n".join(column).encode()).hexdigest()


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Choose the images of a pre-training run.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(CorpusSettings.model_fields))
    parser.add_argument(
        "--manifests", type=Path, nargs="+", required=True, help="summary JSON of each data set's manifest, tasks' too"
    )
    parser.add_argument(
        "--splits",
        type=Path,
        nargs="*",
        default=[],
        help="summary JSON of each task's split, or splits, to exclude held-out patients",
    )
    parser.add_argument("--output", type=Path, required=True, help="parquet file to write; .json is written beside it")
    arguments = parser.parse_args()
    settings = parse_settings(CorpusSettings, arguments.settings)
    if arguments.splits and not settings.exclude_downstream_test:
        parser.error("--splits are of use with exclude_downstream_test only")

    summaries = {summary.stem: summary for summary in arguments.manifests}
    columns = [*COLUMNS, *(IDENTITY if arguments.splits else []), "excluded_reason"]
    records, tables = {}, []
    for name in settings.dataset_organs:
        if name not in summaries:
            raise UrfmError(f"--manifests: {name}.json is missing; the run {settings.run} trains on {name}")
        records[name], table = read_manifest(summaries[name], columns)
        tables.append(table)

    def tasks() -> Iterable[tuple[str, pd.DataFrame, pd.DataFrame]]:
        splits: dict[tuple[str, str], list[pd.DataFrame]] = {}
        for summary in arguments.splits:
            record = read_json(summary)
            verify_sha256(summary.with_suffix(".parquet"), record["sha256"])
            split = pd.read_parquet(summary.with_suffix(".parquet"), columns=["image_id", "subset"])
            splits.setdefault((record["task"], record["dataset"]), []).append(split)
        for (task, dataset), several in splits.items():
            if dataset not in summaries:
                raise UrfmError(f"--manifests: {dataset}.json is missing; task {task} is made of it")
            _, manifest = read_manifest(summaries[dataset], ["image_id", *IDENTITY])
            yield task, manifest, pd.concat(several)  # held out is who any of them holds out

    chosen, excluded = select(pd.concat(tables, ignore_index=True), settings, tasks())
    counts = chosen.groupby(["dataset", "organ", "source"], as_index=False).size().rename(columns={"size": "images"})
    counts["simulated"] = [bool(records[dataset]["simulated"]) for dataset in counts["dataset"]]
    write_parquet(arguments.output, chosen)
    write_record(
        arguments.output.with_suffix(".json"),
        {
            **settings.model_dump(exclude={"dataset_organs"}),
            "images": len(chosen),
            "counts": counts.to_dict("records"),
            "excluded": excluded,
            "usable_images_sha256": {name: record["images_sha256"] for name, record in records.items()},
            "simulated": bool(counts["simulated"].any()),
            "images_sha256": column_sha256(chosen["image_id"]),
            "organs_sha256": column_sha256(chosen["organ"]),
            "sha256": sha256(arguments.output),
        },
    )
    for task, numbers in excluded["tasks"].items():
        found = ", ".join(f"{number:,} {reason}" for reason, number in numbers.items())
        say(f"{settings.run}: images of validation and test patients of {task} left out: {found}")
    if settings.exclude_downstream_test and settings.tasks_not_here:
        warn(f"{settings.run}: not available, so not excluded: {', '.join(settings.tasks_not_here)}")
    organs, datasets = counts["organ"].nunique(), counts["dataset"].nunique()
    say(f"{settings.run}: {len(chosen):,} images of {organs} organs from {datasets} data sets in {arguments.output}")


if __name__ == "__main__":
    run(main)
