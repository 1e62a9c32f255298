"""Synthetic fine-tuning cells for tests: no images, no training, known structure.

A model has a skill (distance between class means of its logits), each patient an offset that its
images share, and each seed its own noise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from urfm.core.files import sha256


def predictions(
    skill: float,
    classes: Sequence[str],
    patients: int = 60,
    images_per_patient: int = 1,
    seeds: Sequence[int] = (0, 1, 2),
    task_seed: int = 0,
    model_seed: int = 0,
    seed_noise: float = 0.4,
    patient_effect: float = 1.0,
) -> pd.DataFrame:
    """Predictions of one cell; the same `task_seed` gives the same images, patients, labels and difficulty."""
    task = np.random.default_rng([1, task_seed])
    count = patients * images_per_patient
    patient = np.repeat(np.arange(patients), images_per_patient)
    labels = (np.arange(patients) % len(classes))[patient]
    difficulty = task.normal(size=(patients, len(classes)))[patient] * patient_effect
    difficulty = difficulty + task.normal(size=(count, len(classes)))
    own = np.random.default_rng([2, task_seed, model_seed]).normal(size=(count, len(classes))) * 0.5
    tables = []
    for seed in seeds:
        noise = np.random.default_rng([3, task_seed, model_seed, seed]).normal(size=(count, len(classes))) * seed_noise
        logits = difficulty + own + noise
        logits[np.arange(count), labels] += skill
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for subset, rows in (("val", slice(0, count // 2)), ("test", slice(None))):
            table = pd.DataFrame({"image_id": [f"{subset}/{i:05d}" for i in range(count)][rows]})
            table["seed"], table["subset"] = seed, subset
            table["patient_id"] = [f"{subset}-{p}" for p in patient[rows]]
            table["label"] = np.array(classes)[labels[rows]]
            for number, name in enumerate(classes):
                table[f"p_{name}"] = probabilities[rows, number]
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def write_cell(
    folder: Path,
    model: str,
    task: str,
    table: pd.DataFrame,
    classes: Sequence[str],
    simulated: bool = False,
    share: int = 100,
    patients_known: bool = True,
    resplit: bool = False,
) -> Path:
    """Write predictions.parquet and cell.json as the fine-tuning does; return the path of cell.json."""
    place = folder / model / task / str(share)
    place.mkdir(parents=True)
    table.to_parquet(place / "predictions.parquet", index=False)
    of_a_seed = table[table["seed"] == table["seed"].iloc[0]]
    tests = int((of_a_seed["subset"] == "test").sum())
    record = {
        "model": model,
        "task": task,
        "share": share,
        "classes": list(classes),
        "seeds": sorted({int(seed) for seed in table["seed"]}),
        "patients_known": patients_known,
        "simulated": simulated,
        "images": {"train": 3 * tests, "val": len(of_a_seed) - tests, "test": tests},
        "split": "per_seed" if resplit else "paper",
        "sha256": sha256(place / "predictions.parquet"),
    }
    path = place / "cell.json"
    path.write_text(json.dumps(record))
    return path


def write_cells(
    folder: Path,
    models: Mapping[str, float],
    tasks: Mapping[str, int],
    seeds: Sequence[int] = (0, 1, 2),
    patients: int = 60,
    images_per_patient: int = 1,
    simulated: bool = False,
    patients_known: bool = True,
    resplit: bool = False,
) -> list[Path]:
    """Cells of every model (name -> skill) on every task (name -> number of classes)."""
    paths = []
    for task_number, (task, count) in enumerate(tasks.items()):
        classes = [f"class_{number}" for number in range(count)]
        for model_number, (model, skill) in enumerate(models.items()):
            table = predictions(
                skill + 0.25 * (task_number % 4),
                classes,
                patients,
                images_per_patient,
                seeds,
                task_number,
                model_number,
            )
            path = write_cell(
                folder, model, task, table, classes, simulated, patients_known=patients_known, resplit=resplit
            )
            paths.append(path)
    return paths
