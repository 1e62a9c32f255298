"""The split of a task: which images train, which validate, which test.

`paper` is one split for all seeds, `seed-<n>` a split per seed (urfm.data.splits.division); `published` is the
archive's own and `ultrabench` UltraBench's (urfm.data.splits.published).
"""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from pydantic import Field

from urfm.config.data import Expected, FromPatient, Splits
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, verify_sha256, write_parquet, write_record
from urfm.core.progress import say, warn
from urfm.data.counts import count, differences, report_differences
from urfm.data.labels import as_classes
from urfm.data.splits import published
from urfm.data.splits.checks import SUBSETS, check_split, flaws, shared_patients
from urfm.data.splits.division import divide

COLUMNS = ["image_id", "patient_id", "label", "subset"]


class SplitSettings(Splits):
    """Settings of the stage: the section `splits`, and which task and split it is."""

    task: str
    classes: list[str]  # label values, in the order of the model's outputs
    images_per_patient: FromPatient = "all"  # first: the first image_id in sorted order
    split: str = Field("paper", pattern=r"^(paper|seed-(0|[1-9]\d*)|published|ultrabench)$")
    ultrabench: str = ""  # UltraBench's output for this task: a folder below the data root
    expected: Expected = Expected()
    strict_counts: bool = False


def make_split(images: pd.DataFrame, ratio: tuple[int, int, int] = (3, 1, 1), seed: int = 0) -> pd.DataFrame:
    """Assign every image to train, val or test.

    Parameters
    ----------
    images
        One row per image with columns image_id (unique), patient_id and label, in any order.
    ratio
        Parts of train, val and test, in whole numbers.
    seed
        Another seed gives another split; the paper's split is seed 0.

    Returns
    -------
    DataFrame
        Columns image_id, patient_id, label, subset; sorted by image_id.

    Raises
    ------
    UrfmError
        If a class is too small to be in every part, or patients too uneven for the parts to be alike.
    """
    if len(ratio) != 3 or min(ratio) < 1:
        raise UrfmError(f"splits.ratio: {list(ratio)}; expected three whole numbers from 1, such as [3, 1, 1]")
    images = images[COLUMNS[:3]].sort_values("image_id", ignore_index=True)
    split = images.assign(subset=divide(images, dict(zip(SUBSETS, ratio, strict=True)), seed))
    check_split(split, ratio)
    return split


def select_images(manifest: pd.DataFrame, manifest_name: str, settings: SplitSettings) -> pd.DataFrame:
    """The task's usable images: image_id, patient_id, patient_source, label, official_split, sorted.

    Raises an UrfmError unless the labels are the task's classes, but for case, blanks and Unicode form.
    """
    images = manifest.loc[manifest["excluded_reason"] == "", [*COLUMNS[:3], "patient_source", "official_split"]]
    meant = as_classes(images["label"].unique(), settings.classes)
    for label, name in sorted(meant.items()):
        number = int((images["label"] == label).sum())
        warn(f"task {settings.task}: the label {label!r} of {number:,} images is read as the class {name!r}")
    images = images.assign(label=images["label"].replace(meant))
    outside = images[~images["label"].isin(settings.classes)].sort_values("image_id")
    if len(outside):
        image, label = outside.iloc[0][["image_id", "label"]]
        more = f" (and {len(outside) - 1} more images)" if len(outside) > 1 else ""
        raise UrfmError(
            f"{manifest_name}: image {image!r} has the label {label!r}{more}, which is not a class of the task "
            f"{settings.task}: {', '.join(settings.classes)}. Correct the label in the data set's metadata, exclude "
            f"the image there, or add the class to tasks.{settings.task}.classes"
        )
    absent = [name for name in settings.classes if name not in set(images["label"])]
    if absent:
        raise UrfmError(
            f"{manifest_name}: no image has the label {', '.join(map(repr, absent))} of tasks.{settings.task}.classes; "
            f"the labels found are {', '.join(sorted(images['label'].unique())) or 'none'}"
        )
    images = images.sort_values("image_id", ignore_index=True)
    if settings.images_per_patient == "first":
        images = images.drop_duplicates("patient_id", ignore_index=True)
    return images


def task_split(
    images: pd.DataFrame, manifest: pd.DataFrame, settings: SplitSettings, root: Path
) -> tuple[pd.DataFrame, str, list[str]]:
    """The split that the settings name: its rows as `make_split` gives them, the rule, and sentences to know it by."""
    if settings.split not in ("published", "ultrabench"):
        rule = "class floors" if images["patient_id"].is_unique else "stratified groups"
        return make_split(images, settings.ratio, settings.seed), rule, []
    if settings.split == "published":
        found = published.official(images, settings.ratio, settings.seed)
    else:
        folder = root / ultrabench_folder(settings)
        found = published.ultrabench(images, manifest["image_id"], folder)
    split = images.assign(subset=found.subset)
    split = split.loc[split["subset"] != "", COLUMNS].reset_index(drop=True)
    return split, found.rule, found.notes + flaws(split, len(images) - len(split))


def ultrabench_folder(settings: SplitSettings) -> PurePosixPath:
    """The folder of UltraBench's output for the task, below the data root."""
    if not settings.ultrabench:
        raise UrfmError(
            f"tasks.{settings.task}.ultrabench is not set; name the folder of UltraBench's output, or set "
            "finetuning.split to paper"
        )
    folder = PurePosixPath(settings.ultrabench)
    if folder.is_absolute() or ".." in folder.parts:
        raise UrfmError(f"tasks.{settings.task}.ultrabench: {settings.ultrabench!r} is not below the data root")
    return folder


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Divide a task's images into train, val and test.")
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--manifest-summary", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(SplitSettings.model_fields))
    parser.add_argument("--output", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    settings = parse_settings(SplitSettings, arguments.settings)

    manifest_summary: dict[str, Any] = read_json(arguments.manifest_summary)
    verify_sha256(arguments.manifest, manifest_summary["sha256"])
    columns = [*COLUMNS[:3], "patient_source", "official_split", "excluded_reason"]
    manifest = pd.read_parquet(arguments.manifest, columns=columns)
    images = select_images(manifest, arguments.manifest.name, settings)
    try:
        split, rule, notes = task_split(images, manifest, settings, arguments.root)
    except UrfmError as error:
        raise UrfmError(f"task {settings.task}: {error}") from error

    found = count(split)
    subsets = {name: count(split[split["subset"] == name]) for name in SUBSETS}
    shared: int | None = shared_patients(split)
    for sentence in notes:
        warn(f"task {settings.task}, {settings.split} split: {sentence}")
    in_split = images["image_id"].isin(split["image_id"])
    counted = images.loc[in_split, "patient_source"].value_counts().sort_index()
    sources = {str(source): int(number) for source, number in counted.items()}
    proxies = sources.get("near_duplicates", 0)
    unknown = sources.get("none", 0) + proxies
    if unknown:
        but = f", but for {proxies:,} that stay with their near duplicates" if proxies else ""
        warn(f"task {settings.task}: {unknown:,} images have no patient id: each counts as a patient of its own{but}")
        for counts in (found, *subsets.values()):
            counts["patients"] = None
        shared = shared or None
    sentences = differences(settings.expected, found)
    report_differences(f"task {settings.task}", sentences, settings.strict_counts)
    write_parquet(arguments.output, split)
    write_record(
        arguments.summary,
        {
            "task": settings.task,
            "split": settings.split,
            "kind": "re-split" if settings.split.startswith("seed-") else settings.split,
            "dataset": manifest_summary["dataset"],
            "rule": rule,
            "notes": notes,
            "ratio": list(settings.ratio),
            "seed": settings.seed,
            **found,
            "subsets": subsets,
            "patient_sources": sources,
            "shared_patients": shared,
            "left_out": len(images) - len(split),
            "simulated": manifest_summary["simulated"],
            "expected": settings.expected.model_dump(exclude_unset=True),
            "differences": sentences,
            "manifest_sha256": manifest_summary["sha256"],
            "sha256": sha256(arguments.output),
        },
    )
    sizes = ", ".join(f"{name} {subsets[name]['images']:,}" for name in SUBSETS)
    patients = "unknown" if unknown else f"{found['patients']:,}"
    say(f"{settings.task}: {found['images']:,} images of {patients} patients: {sizes}")
    say(f"split in {arguments.output}")


if __name__ == "__main__":
    run(main)
