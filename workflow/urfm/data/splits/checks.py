"""What every split of ours holds to, and what is wrong with published ones."""

from __future__ import annotations

import pandas as pd

from urfm.core.errors import UrfmError
from urfm.data.splits.division import TOLERANCE

SUBSETS = ("train", "val", "test")


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
        slack = 2.0 if one_image_each else max(TOLERANCE * images, 2.0 * largest[label])
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


def flaws(split: pd.DataFrame, left_out: int) -> list[str]:
    """What to know before trusting a published split, a sentence each; an UrfmError if a part is empty."""
    sentences = []
    for name in SUBSETS:
        labels = set(split.loc[split["subset"] == name, "label"])
        if not labels:
            raise UrfmError(f"the {name} part of the published split holds no image; set finetuning.split to paper")
        sentences += [f"{name} holds no image of class {label!r}" for label in sorted(set(split["label"]) - labels)]
    if left_out:
        sentences.append(f"{left_out:,} images are in none of its parts and left out")
    if shared := shared_patients(split):
        sentences.append(
            f"{shared:,} patients or groups of near duplicates are in several parts: its scores are too good"
        )
    return sentences


def shared_patients(split: pd.DataFrame) -> int:
    """How many patients are in more than one part."""
    return int((split[["patient_id", "subset"]].drop_duplicates()["patient_id"].value_counts() > 1).sum())
