"""Synthetic statistics and settings of figures 3, 4, 5 and 8, for the tests and for looking at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import synthetic_figures
from synthetic_cells import predictions, write_cell
from synthetic_figures import TASKS, figure_settings
from urfm.core.files import read_json
from urfm.statistics import stage as stage
from urfm.statistics.predictions import read_cell

ORGANS = ("thyroid", "breast", "liver", "gallbladder", "pancreas", "ovary")
OWN = {
    "urfm_thyroid": ["thyroid_nodule"],
    "urfm_breast": ["breast_tumor"],
    "urfm_liver": ["liver_mass", "liver_mvi"],
    "urfm_gallbladder": ["gallbladder_polyp"],
    "urfm_pancreas": ["pancreatic_cancer"],
    "urfm_ovary": ["ovarian_tumor"],
}
TITLES = {
    "simclr_imagenet": "SimCLR",
    "moco_v3_imagenet": "MoCo-v3",
    "dino_imagenet": "DINO",
    **{f"urfm_{organ}": f"URFM ({organ})" for organ in ORGANS},
    **{f"urfm_data{share}": f"URFM ({share} % of the images)" for share in (10, 20, 50)},
    "urfm_large": "URFM (ViT-Large)",
    "urfm_huge": "URFM (ViT-Huge)",
}
PAPER_MODELS = ["sl_imagenet", "mim_imagenet", "mim_us", "deblur_mim", "usfm", "urfm"]
MODELS = {
    "figure_3": PAPER_MODELS,
    "figure_3b": PAPER_MODELS,
    "figure_4a": ["mim_imagenet", "simclr_imagenet", "moco_v3_imagenet", "dino_imagenet", "urfm"],
    "figure_4b": ["mim_us", "urfm_clip", "urfm"],
    "figure_5": ["mim_imagenet", *OWN],
    "figure_8a": ["urfm_data10", "urfm_data20", "urfm_data50", "urfm"],
    "figure_8b": ["urfm", "urfm_large", "urfm_huge"],
    "figure_8c": PAPER_MODELS,
}
REFERENCE = {"figure_4a": "mim_imagenet", "figure_5": "mim_imagenet", "figure_8b": "urfm_huge"}
AGAINST = {"figure_4a": ["simclr_imagenet", "moco_v3_imagenet", "dino_imagenet"], "figure_4b": ["mim_us"]}
synthetic_figures.TITLES.update(TITLES)


def comparison(
    name: str,
    tasks: Sequence[str],
    models: Sequence[str] | None = None,
    missing_tasks: Sequence[str] = (),
    missing_models: Sequence[str] = (),
) -> dict[str, object]:
    """The settings of one comparison."""
    settings = figure_settings(
        list(models or MODELS[name]),
        list(tasks),
        list(missing_models),
        list(missing_tasks),
        REFERENCE.get(name, "urfm"),
    )
    del settings["confidence"], settings["dpi"]
    return settings | {"against": AGAINST.get(name, [])}


def write_statistics(
    folder: Path,
    name: str,
    tasks: Sequence[str],
    models: Sequence[str] | None = None,
    seeds: int = 3,
    patients: int = 48,
    simulated: bool = False,
    shares: Sequence[int] = (100,),
    resamples: int = 60,
    resplit: bool = False,
) -> Path:
    """Run the statistics stage on synthetic cells of a comparison; return its folder. Cells lie in <folder>/cells."""
    cells = []
    for task in tasks:
        number = list(TASKS).index(task)
        classes = [f"class_{place}" for place in range(TASKS[task][2])]
        for place, model in enumerate(models or MODELS[name]):
            own = 0.8 if task in OWN.get(model, []) else 0.0
            for share in shares:
                skill = 1.7 + 0.12 * place + own + 0.25 * (number % 4) + 0.004 * share
                table = predictions(skill, classes, patients, 1, range(seeds), number, place)
                path = write_cell(folder / "cells", model, task, table, classes, simulated, share, resplit=resplit)
                record = read_json(path)
                train = max(4, patients * 3 * share // 100)
                path.write_text(json.dumps(record | {"images": {"train": train, "val": patients, "test": patients}}))
                history(seeds, 0.1 * place).to_csv(path.with_name("history.csv"), index=False)
                cells.append(path)
    settings = stage.StatisticsSettings(
        comparison=name,
        reference=REFERENCE.get(name, "urfm"),
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
    stage.write(folder / name, stage.compute([read_cell(path) for path in cells], settings), settings)
    return folder / name


def history(seeds: int, speed: float, epochs: int = 20) -> pd.DataFrame:
    """What fine-tuning logs of each epoch: validation scores that rise and level off."""
    tables = []
    for seed in range(seeds):
        noise = np.random.default_rng([seed, int(100 * speed)]).normal(size=epochs) * 0.02
        epoch = np.arange(1, epochs + 1)
        score = np.clip(0.5 + 0.35 * (1 - np.exp(-epoch * (0.15 + speed))) + noise, 0, 1)
        tables.append(pd.DataFrame({"seed": seed, "epoch": epoch, "val_f1_macro": score, "seconds": 2.0 + 0.1 * seed}))
    return pd.concat(tables, ignore_index=True)


RUNS = {model: model for model in MODELS["figure_8a"]}
TASK_ORGANS = {
    "thyroid_nodule": ["thyroid", "Thyroid"],
    "ovarian_tumor": ["ovary", "Ovary"],
    "pancreatic_cancer": ["pancreas", "Pancreas"],
    "kidney_tumor": ["kidney", "Kidney"],
}
ENCODERS = {"urfm": ("base", 85_798_656), "urfm_large": ("large", 303_301_632), "urfm_huge": ("huge", 630_764_800)}


def write_selections(folder: Path, shares: Sequence[int] = (10, 20, 50, 100)) -> list[Path]:
    """What the selection of pre-training images says of each run of figure 8A: the paper's numbers."""
    paper = {"thyroid": 443_985, "ovary": 3_593, "pancreas": 29_639, "kidney": 111_209, "liver": 415_039}
    paths = []
    for share in shares:
        run = "urfm" if share == 100 else f"urfm_data{share}"
        counts = [{"organ": organ, "images": images * share // 100} for organ, images in paper.items()]
        record = {"run": run, "share": share, "images": sum(row["images"] for row in counts), "counts": counts}
        paths.append(folder / f"{run}.json")
        paths[-1].write_text(json.dumps(record))
    return paths


def write_encoders(folder: Path) -> list[Path]:
    """What each encoder of figure 8B says of itself."""
    paths = []
    for model, (size, parameters) in ENCODERS.items():
        record = {"model": model, "architecture": f"vit_{size}_patch16_224", "parameters": parameters}
        paths.append(folder / f"encoder_{model}.json")
        paths[-1].write_text(json.dumps(record))
    return paths
