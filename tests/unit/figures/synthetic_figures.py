"""Synthetic statistics and settings of figure 2, for the tests and for looking at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from synthetic_cells import write_cells
from urfm.core.files import read_json, sha256
from urfm.statistics.predictions import read_cell
from urfm.statistics.stage import StatisticsSettings, compute, write

TITLES = {
    "sl_imagenet": "SL-ImageNet",
    "mim_imagenet": "MIM-ImageNet",
    "mim_us": "MIM-US",
    "deblur_mim": "Deblur-MIM",
    "usfm": "USFM",
    "urfm": "URFM",
    "urfm_clip": "URFM (CLIP targets)",
    "random": "Random initialisation",
    "frozen": "URFM (frozen)",
    "majority": "Majority class",
    "thumbnails": "Thumbnails",
}
SKILLS = {
    "sl_imagenet": 1.8,
    "mim_imagenet": 1.9,
    "mim_us": 2.1,
    "deblur_mim": 2.2,
    "usfm": 2.3,
    "urfm": 2.5,
    "urfm_clip": 2.4,
    "random": 0.2,
    "frozen": 1.2,
    "majority": 0.0,
    "thumbnails": 0.7,
}
NO_SEED = ("frozen", "majority", "thumbnails")
TASKS = {
    "thyroid_nodule": ("Thyroid nodule", "superficial", 2),
    "breast_tumor": ("Breast tumor", "superficial", 2),
    "liver_mass": ("Liver mass", "abdominal", 3),
    "liver_mvi": ("Liver MVI", "abdominal", 2),
    "gallbladder_polyp": ("Gallbladder polyp", "abdominal", 2),
    "pancreatic_cancer": ("Pancreatic cancer", "abdominal", 2),
    "kidney_tumor": ("Kidney tumor", "abdominal", 2),
    "uterine_fibroid": ("Uterine fibroid", "other", 2),
    "ovarian_tumor": ("Ovarian tumor", "other", 8),
    "fetal_plane": ("Fetal plane", "other", 6),
}


def make_statistics(
    folder: Path,
    models: list[str],
    tasks: list[str],
    seeds: int = 3,
    patients: int = 120,
    simulated: bool = False,
    resamples: int = 200,
    reference: str = "urfm",
    patients_known: bool = True,
    stand_ins: Sequence[str] = (),
    resplit: bool = False,
    lines: Sequence[str] = (),
    without: Mapping[str, str] | None = None,
) -> Path:
    """Run the statistics stage on synthetic cells; return its folder. `without`: task to a class of no test image."""
    paths = write_cells(
        folder / "cells",
        {model: SKILLS[model] for model in [*models, *lines]},
        {task: TASKS[task][2] for task in tasks},
        list(range(seeds)),
        patients,
        simulated=simulated,
        patients_known=patients_known,
        resplit=resplit,
    )
    for path in paths:
        if path.parts[-4] in NO_SEED and not resplit:
            forget_seeds(path)
        if absent := (without or {}).get(path.parts[-3]):
            lose_class(path, absent)
    settings = StatisticsSettings(
        comparison="figure_2",
        lines=list(lines),
        reference=reference,
        confidence=0.95,
        t_test="welch",
        bootstrap_resamples=resamples,
        permutations=1000,
        bootstrap_seed=0,
        margin=0.02,
        threshold="youden",
        specificity=0.9,
        calibration_bins=10,
    )
    same = [model for model in [*models, *lines] if model in NO_SEED and not resplit]
    write(
        folder / "statistics",
        compute([read_cell(path) for path in paths], settings),
        settings,
        stand_ins,
        deterministic=same,
    )
    return folder / "statistics"


def lose_class(path: Path, name: str) -> None:
    """Take the images of a class out of a cell's test part."""
    table = pd.read_parquet(path.with_name("predictions.parquet"))
    table = table[(table["subset"] != "test") | (table["label"] != name)]
    table.to_parquet(path.with_name("predictions.parquet"), index=False)
    record = read_json(path)
    path.write_text(json.dumps(record | {"sha256": sha256(path.with_name("predictions.parquet"))}))


def forget_seeds(path: Path) -> None:
    """Give every seed of a cell the first one's predictions; a majority's are the same for all images."""
    table = pd.read_parquet(path.with_name("predictions.parquet"))
    columns = [name for name in table.columns if name.startswith("p_")]
    first = table[table["seed"] == table["seed"].min()].set_index(["subset", "image_id"])[columns]
    if path.parts[-4] == "majority":
        first[columns] = [0.6, *[0.4 / (len(columns) - 1)] * (len(columns) - 1)]
    table[columns] = first.loc[list(zip(table["subset"], table["image_id"], strict=True))].to_numpy()
    table.to_parquet(path.with_name("predictions.parquet"), index=False)
    record = read_json(path)
    digest = sha256(path.with_name("predictions.parquet"))
    path.write_text(json.dumps(record | {"deterministic": True, "sha256": digest}))


def figure_settings(
    models: list[str],
    tasks: list[str],
    missing_models: list[str] | None = None,
    missing_tasks: list[str] | None = None,
    reference: str = "urfm",
    lines: Sequence[str] = (),
) -> dict[str, object]:
    """The settings JSON of the stage."""
    unavailable = [
        {"kind": "task", "name": task, "title": TASKS[task][0], "reason": "private data set, not in the data folder"}
        for task in missing_tasks or []
    ] + [
        {"kind": "model", "name": model, "title": TITLES[model], "reason": "checkpoint not in the checkpoint folder"}
        for model in missing_models or []
    ]
    return {
        "models": [[model, TITLES[model]] for model in models],
        "lines": [[model, TITLES[model]] for model in lines],
        "reference": reference,
        "tasks": [[task, *TASKS[task][:2]] for task in tasks],
        "unavailable": unavailable,
        "confidence": 0.95,
        "dpi": 300,
    }
