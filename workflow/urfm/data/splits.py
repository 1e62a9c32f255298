"""Dividing a task's images into training, validation and test parts, patients never shared.

The paper (Methods, "Downstream fine-tuning applications") divides 3:1:1 and shares no patient between
parts. Its accuracies reveal the rounding for sets with one image a patient: in every class, floor(0.6 n)
images train, floor(0.2 n) validate, the rest tests. Where patients have several images, scikit-learn's
StratifiedGroupKFold makes fifths of which three train, one validates and one tests.

Neither depends on the order of the rows or on the machine: single images are ordered by a SHA-256 of
their name, and the groups are sorted before scikit-learn shuffles them with its frozen generator.
"""

from __future__ import annotations

import argparse
import math
import warnings
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from urfm.cli import Settings, parse_settings, run
from urfm.data.counts import Expected, count, differences, report_differences
from urfm.data.shares import hash_order
from urfm.errors import UrfmError
from urfm.files import read_json, sha256, verify_sha256, write_json, write_parquet
from urfm.progress import say

SUBSETS = ("train", "val", "test")
COLUMNS = ["image_id", "patient_id", "label", "subset"]


class SplitSettings(Settings):
    """Settings of the stage."""

    task: str
    classes: list[str]  # label values, in the order of the model's outputs
    images_per_patient: Literal["all", "first"] = "all"  # first: the first image_id in sorted order
    ratio: tuple[int, int, int] = (3, 1, 1)
    seed: int = 0
    split: str = "paper"
    expected: Expected = Expected()
    strict_counts: bool = False


def make_split(images: pd.DataFrame, ratio: tuple[int, int, int] = (3, 1, 1), seed: int = 0) -> pd.DataFrame:
    """Assign every image to train, val or test.

    Parameters
    ----------
    images
        One row an image with columns image_id (unique), patient_id and label, in any order.
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
    images = images[["image_id", "patient_id", "label"]].sort_values("image_id", ignore_index=True)
    one_image_each = images["patient_id"].is_unique
    subset = _by_class(images, ratio, seed) if one_image_each else _by_patient(images, ratio, seed)
    split = images.assign(subset=subset)
    check_split(split, ratio)
    return split


def _by_class(images: pd.DataFrame, ratio: tuple[int, int, int], seed: int) -> pd.Series[str]:
    """Per-class floor rule: floor of the train and val shares of each class, what is left to test."""
    keys = hash_order(images["image_id"], seed, "split")
    place = keys.groupby(images["label"]).rank(method="first").astype(int) - 1
    size = images.groupby("label")["label"].transform("size").astype(int)
    train_end = size * ratio[0] // sum(ratio)
    val_end = train_end + size * ratio[1] // sum(ratio)
    subset = pd.Series("test", index=images.index)
    subset[place < val_end] = "val"
    subset[place < train_end] = "train"
    return subset


def _by_patient(images: pd.DataFrame, ratio: tuple[int, int, int], seed: int) -> pd.Series[str]:
    """StratifiedGroupKFold with one fold a part of the ratio; the first ratio[0] folds train, and so on."""
    divisor = math.gcd(*ratio)
    folds_of = {name: parts // divisor for name, parts in zip(SUBSETS, ratio, strict=True)}
    subset_of_fold = [name for name in SUBSETS for _ in range(folds_of[name])]
    splitter = StratifiedGroupKFold(n_splits=len(subset_of_fold), shuffle=True, random_state=seed)
    subset = pd.Series("", index=images.index)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # small classes: check_split decides
            for name, (_, fold) in zip(
                subset_of_fold, splitter.split(images, images["label"], images["patient_id"]), strict=True
            ):
                subset.iloc[fold] = name
    except ValueError as error:
        raise UrfmError(
            f"{len(images)} images of {images['patient_id'].nunique()} patients cannot be divided "
            f"{':'.join(map(str, ratio))} ({error}); add images or patients, or change splits.ratio"
        ) from error
    return subset


def check_split(split: pd.DataFrame, ratio: tuple[int, int, int]) -> None:
    """Raise an UrfmError unless the split has the properties every result relies on.

    Every image is in one part, no patient is in two, every class is in every part, and of every class each
    part holds its share of the images: to within one image where patients have one image each, otherwise
    to within 2 % of the class or, where more, twice the images of the patient who has most of that class.
    """
    if not split["image_id"].is_unique:
        raise UrfmError(f"image_id {split.loc[split['image_id'].duplicated(), 'image_id'].iloc[0]!r} occurs twice")
    if not split["subset"].isin(SUBSETS).all():
        raise AssertionError("an image has no part")
    parts = split.groupby("patient_id")["subset"].nunique()
    if parts.max() > 1:
        raise AssertionError(f"patient {parts.idxmax()!r} is in {parts.max()} parts of the split")

    counts = {name: split.loc[split["subset"] == name, "label"].value_counts().to_dict() for name in SUBSETS}
    most = split.groupby(["label", "patient_id"]).size().groupby("label").max()
    largest = {str(label): int(images) for label, images in most.items()}
    one_image_each = split["patient_id"].is_unique
    for label in sorted(largest):
        images = sum(counts[name].get(label, 0) for name in SUBSETS)
        slack = 2.0 if one_image_each else max(0.02 * images, 2.0 * largest[label])
        for name, parts_of_ratio in zip(SUBSETS, ratio, strict=True):
            found, wanted = counts[name].get(label, 0), images * parts_of_ratio / sum(ratio)
            if found == 0:
                raise UrfmError(
                    f"class {label!r} has {images} images, too few or of too few patients to be in all of train, "
                    f"val and test; none is left for {name}. Add images of this class or take it out of the task"
                )
            if abs(found - wanted) > slack:
                raise UrfmError(
                    f"class {label!r}: {name} holds {found} of {images} images where {wanted:.0f} are its share; "
                    "patients are too uneven for this split. Try another splits.seed or splits.ratio"
                )


def select_images(manifest: pd.DataFrame, manifest_name: str, settings: SplitSettings) -> pd.DataFrame:
    """The task's usable images: image_id, patient_id, patient_source, label, sorted; labels are the classes'."""
    images = manifest.loc[manifest["excluded_reason"] == "", ["image_id", "patient_id", "patient_source", "label"]]
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


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Divide a task's images into train, val and test.")
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--manifest-summary", type=Path, required=True)
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(SplitSettings.model_fields))
    parser.add_argument("--output", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    settings = parse_settings(SplitSettings, arguments.settings)

    manifest_summary: dict[str, Any] = read_json(arguments.manifest_summary)
    verify_sha256(arguments.manifest, manifest_summary["sha256"])
    images = select_images(pd.read_parquet(arguments.manifest), arguments.manifest.name, settings)
    try:
        split = make_split(images, settings.ratio, settings.seed)
    except UrfmError as error:
        raise UrfmError(f"task {settings.task}: {error}") from error

    found = count(split)
    subsets = {name: count(split[split["subset"] == name]) for name in SUBSETS}
    unknown = int((images["patient_source"] == "none").sum())
    if unknown:
        say(
            f"warning: task {settings.task}: {unknown:,} images have no patient id: each counts as a patient of its own"
        )
        for counts in (found, *subsets.values()):
            counts["patients"] = None
    sentences = differences(settings.expected, found)
    report_differences(f"task {settings.task}", sentences, settings.strict_counts)
    write_parquet(arguments.output, split)
    write_json(
        arguments.summary,
        {
            "task": settings.task,
            "split": settings.split,
            "dataset": manifest_summary["dataset"],
            "rule": "class floors" if images["patient_id"].is_unique else "stratified groups",
            "ratio": list(settings.ratio),
            "seed": settings.seed,
            **found,
            "subsets": subsets,
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
