"""Reading the predictions of a fine-tuning cell (one model, one task, one share of the training part)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from urfm.errors import UrfmError
from urfm.evaluation.scores import FloatArray, IntArray
from urfm.files import read_json, verify_sha256


@dataclass(frozen=True)
class Cell:
    """A verified cell: what its cell.json says (seeds sorted), and the table of predictions beside it."""

    model: str
    task: str
    share: int
    classes: list[str]
    seeds: list[int]
    patients_known: bool  # False: some image had no patient id and counts as a patient of its own
    simulated: bool
    predictions: pd.DataFrame

    @property
    def name(self) -> str:
        return f"{self.model}/{self.task}/{self.share}"


@dataclass(frozen=True)
class Subset:
    """Images of one subset in the order of `image_ids` (sorted).

    `labels` (images,) are class numbers in the order of the cell's classes; `probabilities`
    (seeds, images, classes) are in [0, 1], seeds in the order of the cell's.
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
    """Read cell.json and predictions.parquet beside it; `external` takes what it says of the other set's images.

    Raises UrfmError when the predictions are not those the sidecar describes (hash), lack a column or
    a seed, hold a label outside the cell's classes, or a probability that is not a number in [0, 1].
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
    )


def read_subset(cell: Cell, subset: str) -> Subset:
    """The images of one subset ("val" or "test") with every seed's probabilities; UrfmError when seeds disagree."""
    part = cell.predictions[cell.predictions["subset"] == subset].sort_values(["seed", "image_id"])
    if part.empty:
        raise UrfmError(f"{cell.name}: no predictions of the {subset} part")
    images, labels = part["image_id"].astype(str).to_numpy(), part["label"].astype(str).to_numpy()
    rows = [np.flatnonzero(part["seed"].to_numpy() == seed) for seed in cell.seeds]
    first = rows[0]
    if len(set(images[first])) < len(first):
        raise UrfmError(f"{cell.name}: an image occurs twice in the {subset} part of seed {cell.seeds[0]}")
    for seed, own in zip(cell.seeds, rows, strict=True):
        same = len(own) == len(first) and (images[own] == images[first]).all() and (labels[own] == labels[first]).all()
        if not same:
            raise UrfmError(
                f"{cell.name}: seeds {cell.seeds[0]} and {seed} were tested on different {subset} images; "
                "delete the cell's folder and its state, and fine-tune again"
            )
    numbers = {name: number for number, name in enumerate(cell.classes)}
    probabilities = part[[f"p_{name}" for name in cell.classes]].to_numpy(dtype=np.float64)
    return Subset(
        image_ids=images[first].tolist(),
        patients=part["patient_id"].astype(str).iloc[first].tolist(),
        labels=np.array([numbers[label] for label in labels[first]], dtype=np.int64),
        probabilities=probabilities.reshape(len(cell.seeds), len(first), -1),
    )
