"""Reading the predictions of a fine-tuning cell (one model, one task, one share of the training part)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.metrics import FloatArray, IntArray


@dataclass(frozen=True)
class Cell:
    """A verified cell: what its cell.json says (seeds sorted), and the table of predictions beside it.

    Attributes
    ----------
    patients_known
        False where some image had no patient id and counts as a patient of its own.
    resplit
        Every seed has a split of its own (`finetuning.split: per_seed`), so its test images are its own too.
    training_images
        Of the first seed where each has its own; NaN where cell.json does not say.
    stand_in
        The encoder has random weights in a publisher's form, or was taught by such.
    deterministic
        All seeds have the same predictions: a classifier on frozen features, or a baseline.
    warnings
        Of each seed that has any: it predicts one class only, or its training loss is that of the class prior.
    """

    model: str
    task: str
    share: int
    classes: list[str]
    seeds: list[int]
    patients_known: bool
    simulated: bool
    predictions: pd.DataFrame
    resplit: bool = False
    training_images: float = float("nan")
    stand_in: bool = False
    deterministic: bool = False
    warnings: dict[int, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.model}/{self.task}/{self.share}"


@dataclass(frozen=True)
class Subset:
    """Images of one subset in the order of `image_ids` (sorted).

    Attributes
    ----------
    labels
        (images,) class numbers in the order of the cell's classes.
    probabilities
        (seeds, images, classes), in [0, 1], seeds in the order of the cell's.
    """

    image_ids: list[str]
    patients: list[str]
    labels: IntArray
    probabilities: FloatArray

    @property
    def ensemble(self) -> FloatArray:
        """Seed-averaged probabilities (images, classes)."""
        averaged: FloatArray = self.probabilities.mean(axis=0)
        return averaged


def read_cell(path: Path, subset: str = "test") -> Cell:
    """Read cell.json and predictions.parquet beside it.

    Parameters
    ----------
    subset
        With "external", patients and simulation are what cell.json says of the other set's images.

    Raises
    ------
    UrfmError
        Where the predictions are not those that cell.json describes (hash), lack a column or a seed, or hold a label
        outside the cell's classes or a probability that is not a number in [0, 1].
    """
    record = read_json(path)
    missing = {"model", "task", "share", "classes", "seeds", "patients_known", "simulated", "sha256"} - set(record)
    if missing:
        raise UrfmError(f"{path}: lacks {', '.join(sorted(missing))}; delete it and run the fine-tuning again")
    if subset == "external":
        if subset not in record:
            raise UrfmError(f"{path}: this cell predicted no external set; set tasks.{record['task']}.external")
        record = {
            **record,
            "patients_known": record[subset]["patients_known"],
            "simulated": record[subset]["simulated"],
        }
    file = path.with_name("predictions.parquet")
    if not file.is_file():
        raise UrfmError(f"{file}: no such file; {path.name} describes it, so run the fine-tuning again")
    verify_sha256(file, record["sha256"])
    table = pd.read_parquet(file)
    classes = [str(name) for name in record["classes"]]
    columns = ["seed", "image_id", "patient_id", "subset", "label", *(f"p_{name}" for name in classes)]
    absent = [name for name in columns if name not in table.columns]
    if absent:
        raise UrfmError(f"{file}: column {absent[0]} is missing; expected {', '.join(columns)}")
    unknown = sorted(set(table["label"]) - set(classes))
    if unknown:
        raise UrfmError(f"{file}: label {unknown[0]!r} is none of the task's classes ({', '.join(classes)})")
    seeds = sorted(int(seed) for seed in record["seeds"])
    if set(table["seed"]) != set(seeds):
        raise UrfmError(f"{file}: holds seeds {sorted(set(table['seed']))}, but {path.name} names {seeds}")
    values = table[columns[5:]].to_numpy(dtype=float)
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1 + 1e-6)).all(axis=1))
    if len(wrong):
        row = table.iloc[int(wrong[0])]
        raise UrfmError(
            f"{file}: image {row['image_id']}, seed {row['seed']}: a probability is not in [0, 1] "
            "(training diverged?); lower the learning rate or use precision fp32"
        )
    return Cell(
        model=str(record["model"]),
        task=str(record["task"]),
        share=int(record["share"]),
        classes=classes,
        seeds=seeds,
        patients_known=bool(record["patients_known"]),
        simulated=bool(record["simulated"]),
        predictions=table[columns],
        resplit=record.get("split") == "per_seed" and subset == "test",  # another set is the same for all seeds
        training_images=float(record.get("images", {}).get("train", np.nan)),
        stand_in=bool(record.get("stand_in", False)),
        deterministic=bool(record.get("deterministic", False)),
        warnings={int(seed): words for seed, words in record.get("warnings", {}).items()},
    )


def positive_class(cell: Cell, positive: str = "") -> int | None:
    """Number of the positive class of two, the disease: `positive`, or the second where this is empty. None for more.

    UrfmError where the cell has no such class, or more than two.
    """
    if not positive:
        return 1 if len(cell.classes) == 2 else None
    if positive not in cell.classes or len(cell.classes) > 2:
        raise UrfmError(
            f"{cell.name}: positive class {positive!r}, but the cell was trained with the classes "
            f"{', '.join(cell.classes)}; name one of two in tasks.{cell.task}.positive, or leave it out"
        )
    return cell.classes.index(positive)


def read_seeds(cell: Cell, subset: str) -> dict[int, Subset]:
    """Each seed's images of one subset ("val" or "test"); probabilities are (1, images, classes)."""
    part = cell.predictions[cell.predictions["subset"] == subset].sort_values(["seed", "image_id"])
    if part.empty:
        raise UrfmError(f"{cell.name}: no predictions of the {subset} part")
    numbers = {name: number for number, name in enumerate(cell.classes)}
    subsets = {}
    for seed, rows in part.groupby("seed"):
        images = rows["image_id"].astype(str).tolist()
        if len(set(images)) < len(images):
            raise UrfmError(f"{cell.name}: an image occurs twice in the {subset} part of seed {seed}")
        subsets[int(str(seed))] = Subset(
            image_ids=images,
            patients=rows["patient_id"].astype(str).tolist(),
            labels=np.array([numbers[label] for label in rows["label"]], dtype=np.int64),
            probabilities=rows[[f"p_{name}" for name in cell.classes]].to_numpy(dtype=np.float64)[None],
        )
    return subsets


def read_subset(cell: Cell, subset: str) -> Subset:
    """The images of one subset with every seed's probabilities; UrfmError when seeds disagree."""
    seeds = read_seeds(cell, subset)
    first = seeds.get(cell.seeds[0])
    for seed in cell.seeds:
        own = seeds.get(seed)
        same = first and own and own.image_ids == first.image_ids and np.array_equal(own.labels, first.labels)
        if not same:
            raise UrfmError(
                f"{cell.name}: seeds {cell.seeds[0]} and {seed} were tested on different {subset} images; "
                "delete the cell's folder and its state, and fine-tune again"
            )
    assert first
    return replace(first, probabilities=np.concatenate([seeds[seed].probabilities for seed in cell.seeds]))


def pooled(cell: Cell, subset: str) -> Subset:
    """One prediction per image: the seed-averaged one; with a split per seed, every seed's images one after another."""
    if not cell.resplit:
        part = read_subset(cell, subset)
        return replace(part, probabilities=part.ensemble[None])
    parts = read_seeds(cell, subset).values()
    return Subset(
        image_ids=[image for part in parts for image in part.image_ids],
        patients=[patient for part in parts for patient in part.patients],
        labels=np.concatenate([part.labels for part in parts]),
        probabilities=np.concatenate([part.probabilities for part in parts], axis=1),
    )
