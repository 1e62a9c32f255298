"""Splits that others published: the archive's own (the manifest's column official_split) and UltraBench's.

They are taken as they are. Where their parts share patients, or a class is missing from one, that is said and
counted, never repaired: another split would not be the published one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.data.splits.division import divide

ULTRABENCH = {"train.json": "train", "validation.json": "val", "test.json": "test"}
FOLD = re.compile(r"fold-([1-9]\d*)")


class Published(NamedTuple):
    """A part for each image of a task (empty: the image is in none), the rule as a sentence, and what was peculiar."""

    subset: pd.Series[str]
    rule: str
    notes: list[str]


def official(images: pd.DataFrame, ratio: tuple[int, int, int], seed: int) -> Published:
    """The archive's own split of a task's images.

    Folds: fold-1 tests, fold-2 validates, the others train. Parts: train with test, with val, or with both. A single
    held-out part is the test part, whatever its name; validation images are then taken from the training part,
    patients whole, classes in proportion, val : train as in `ratio`.

    Parameters
    ----------
    images
        The task's images, sorted: image_id, patient_id, label, official_split (train, val, test, fold-<k> or empty).
    ratio, seed
        As for a split of our own; used where validation images are taken from the training part.
    """
    given = images["official_split"]
    parts = set(given) - {""}
    if not parts:
        raise UrfmError(
            f"the data set publishes no split (official_split is empty for all of {len(images):,} images); "
            "set finetuning.split to paper or seed-<n>, or take the task out of the figure"
        )
    folds = {name: int(match[1]) for name in parts if (match := FOLD.fullmatch(name))}
    if folds and set(folds) == parts and len(folds) >= 3 and sorted(folds.values()) == [*range(1, len(folds) + 1)]:
        roles = {name: {1: "test", 2: "val"}.get(number, "train") for name, number in folds.items()}
        return Published(
            given.map({"": "", **roles}), f"published folds: 1 tests, 2 validates, 3 to {len(folds)} train", []
        )
    if parts == {"train", "val", "test"}:
        return Published(given, "published parts: train, val, test", [])
    if parts not in ({"train", "val"}, {"train", "test"}):
        raise UrfmError(
            f"official_split holds {', '.join(sorted(parts))}; expected train with val, with test or with both, or "
            "folds fold-1, fold-2 and so on, at least three. Correct it in the data set's metadata, or set "
            "finetuning.split to paper"
        )
    held_out = (parts - {"train"}).pop()
    train = images[given == "train"].reset_index()
    subset = given.where(given != held_out, "test")
    subset[train["index"]] = divide(train, {"val": ratio[1], "train": ratio[0]}, seed).to_numpy()
    notes = [f"no part of its own for validation: {ratio[1]} of {ratio[0] + ratio[1]} of the training part, by patient"]
    if held_out == "val":
        notes.insert(0, "the only held-out part is called val; it is the test part")
    return Published(subset, f"published parts: train, {held_out}", notes)


def ultrabench(images: pd.DataFrame, image_ids: Iterable[str], folder: Path) -> Published:
    """UltraBench's split (MIT, package `ultrabench`): its train.json, validation.json and test.json in `folder`.

    Each is an array of objects whose `image` names a file, such as images/benign_7.jpg. It is the image of ours whose
    name (`image_id` without the data set) is the same when folder and suffix of theirs and suffix of ours are
    dropped, letters are small, and what is no letter or digit counts as a hyphen: benign_7 is aul/benign-7.

    Parameters
    ----------
    images
        The task's images, sorted: image_id.
    image_ids
        All images of the data set's manifest. An image that is not among them is an error; one that is, but is
        excluded or not of the task, is noted.
    """
    ours: dict[str, str] = {}
    for image_id in image_ids:
        other = ours.setdefault(_key(image_id.partition("/")[2]), image_id)
        if other != image_id:
            raise UrfmError(f"{folder}: images {other!r} and {image_id!r} cannot be told apart by UltraBench's names")
    part_of: dict[str, str] = {}
    for file, part in ULTRABENCH.items():
        for name in _images(folder / file):
            found = ours.get(_key(PurePosixPath(name).name))
            if found is None:
                raise UrfmError(
                    f"{folder / file}: {name!r} is no image of the data set's manifest; was it made from another "
                    "release of the archive, or is the archive here not complete (see the manifest's rejected list)?"
                )
            if found in part_of:
                raise UrfmError(f"{folder / file}: {name!r} occurs a second time ({found!r})")
            part_of[found] = part
    unused = len(part_of.keys() - set(images["image_id"]))
    notes = [f"{unused:,} images of UltraBench's are excluded here or are not of this task"] if unused else []
    return Published(images["image_id"].map(part_of).fillna(""), f"UltraBench's parts ({folder.name})", notes)


def _key(name: str) -> str:
    """How a name is compared."""
    stem = re.sub(r"\.(png|jpe?g|bmp|tiff?)$", "", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", stem)


def _images(path: Path) -> list[str]:
    """The `image` of each object in one of UltraBench's files."""
    if not path.is_file():
        raise UrfmError(f"{path}: no such file; put UltraBench's output there, or correct the task's `ultrabench`")
    content = read_json(path)
    entries = content if isinstance(content, list) else [content]
    names = [entry["image"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("image"), str)]
    if len(names) < len(entries) or entries is not content:
        raise UrfmError(f"{path}: expected an array of objects, each with a text `image`, as UltraBench writes it")
    return names
