"""Synthetic statistics and settings of figure 2, for the tests and for looking at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthetic_cells import write_cells
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
}
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
) -> Path:
    """Run the statistics stage on synthetic cells; return its folder."""
    paths = write_cells(
        folder / "cells",
        {model: SKILLS[model] for model in models},
        {task: TASKS[task][2] for task in tasks},
        list(range(seeds)),
        patients,
        simulated=simulated,
        patients_known=patients_known,
        resplit=resplit,
    )
    settings = StatisticsSettings(
        comparison="figure_2",
        reference=reference,
        confidence=0.95,
        t_test="welch",
        bootstrap_resamples=resamples,
        bootstrap_seed=0,
        specificity=0.9,
        calibration_bins=10,
    )
    write(folder / "statistics", compute([read_cell(path) for path in paths], settings), settings, stand_ins)
    return folder / "statistics"


def figure_settings(
    models: list[str],
    tasks: list[str],
    missing_models: list[str] | None = None,
    missing_tasks: list[str] | None = None,
    reference: str = "urfm",
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
        "reference": reference,
        "tasks": [[task, *TASKS[task][:2]] for task in tasks],
        "unavailable": unavailable,
        "confidence": 0.95,
        "dpi": 300,
    }
