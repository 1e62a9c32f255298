"""Files of the stages that figures 1, 6 and 7 are drawn from, made up, for the tests and for looking at."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CLASSES = {
    "thyroid_nodule": ("Thyroid nodule", "Thyroid4K", ["Benign", "Malignant"]),
    "breast_tumor": ("Breast tumor", "BUS-BRA", ["Benign", "Malignant"]),
    "liver_mass": ("Liver mass", "Liver735", ["Benign", "Malignant", "Normal"]),
    "liver_mvi": ("Liver MVI", "LiverMVI", ["MVI", "Non-MVI"]),
    "gallbladder_polyp": ("Gallbladder polyp", "GBPolyp", ["Benign", "Malignant"]),
    "pancreatic_cancer": ("Pancreatic cancer", "LEPset", ["Pancreatic cancer", "Non-pancreatic cancer"]),
    "kidney_tumor": ("Kidney tumor", "Kidney2K", ["Benign", "Malignant"]),
    "uterine_fibroid": ("Uterine fibroid", "UF1990", ["Uterine fibroid", "Non-uterine fibroid"]),
    "ovarian_tumor": (
        "Ovarian tumor",
        "MMOTU",
        ["Chocolate cyst", "Serous cystadenoma", "Teratoma", "Theca cell tumor", "Simple cyst", "Normal ovary",
         "Mucinous cystadenoma", "High grade serous cystadenocarcinoma"],
    ),
    "fetal_plane": (
        "Fetal plane",
        "FETAL_PLANES_DB",
        ["Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Others"],
    ),
}  # fmt: skip


def label(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


def described(tasks: list[str]) -> list[dict[str, Any]]:
    """`tasks` of the figures' settings."""
    return [
        {"task": task, "title": title, "source": source, "classes": [[label(name), name] for name in names]}
        for task, (title, source, names) in ((task, CLASSES[task]) for task in tasks)
    ]


def common(tasks: list[str], missing: list[str]) -> dict[str, Any]:
    """The settings that all three figures have."""
    return {
        "tasks": described(tasks),
        "unavailable": [
            {"kind": "task", "name": task, "title": CLASSES[task][0], "reason": "data set not in the data folder"}
            for task in missing
        ],
        "notes": ["URFM: pre-trained on 4 of 10 data sets (BUV, CAMUS, RadImageNet, LEPset)."],
        "dpi": 150,
    }


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_attention(
    folder: Path,
    task: str,
    *,
    outlined: bool = True,
    attends: bool = True,
    simulated: bool = False,
    images: int = 20,
    attention: str = "decoder",
) -> Path:
    """A record of the attention stage; its lesion is where its maps are greatest."""
    random = np.random.default_rng(list(CLASSES).index(task))
    grid, size, stem = 14, 224, folder / task
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:grid, 0:grid] / grid
    spot = np.exp(-((x - 0.4) ** 2 + (y - 0.6) ** 2) / 0.03)
    maps = {name: (spot + 0.2 * random.random((grid, grid))).astype(np.float32) for name in ("teacher", "gradcam")}
    maps["reconstruction"] = random.random((grid, grid)).astype(np.float32)
    lesion = np.kron(spot, np.ones((16, 16))) > 0.4 if outlined else np.zeros((0, 0), bool)
    image = np.repeat((255 * random.random((size, size, 1))).astype(np.uint8), 3, axis=2)
    colours = {name: random.random((grid, grid, 3)) for name in ("target", "prediction")}
    mask = (random.random((grid, grid)) > 0.25).astype(np.float32)
    np.savez(stem.with_suffix(".npz"), **maps, **colours, image=image, lesion=lesion, mask=mask)
    first = label(CLASSES[task][2][-1])
    table = pd.DataFrame({"image_id": [f"{n:03}" for n in range(images)], "label": first, "predicted": first})
    numbers = ["r2", "area", "in_teacher", "in_reconstruction", "in_gradcam", "rho_teacher_reconstruction"]
    for number in [*numbers, "rho_reconstruction_gradcam", "rho_teacher_gradcam"]:
        unknown = not outlined and number.startswith(("area", "in_"))
        table[number] = np.nan if unknown else random.random(images)
    table.to_parquet(stem.with_suffix(".parquet"), index=False)
    kind = "biomedclip" if attends else "efficientnet_lite0"
    record = {
        "task": task,
        "model": "urfm",
        "attention": attention,
        "teacher": {"name": kind, "kind": kind, "attends": attends},
        "shown": {"image_id": "003", "label": first, "predicted": first, "aspect": 1.4},
        "simulated": simulated,
        "sha256": {suffix: sha256(stem.with_suffix(f".{suffix}")) for suffix in ("npz", "parquet")},
    }
    stem.with_suffix(".json").write_text(json.dumps(record))
    return stem.with_suffix(".json")


def make_embeddings(
    folder: Path, name: str, groups: list[str], task: str | None = None, simulated: bool = False
) -> Path:
    """A record of the embeddings stage: a cloud a group."""
    random = np.random.default_rng(len(groups))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.parquet"
    each = 200 if task is None else 40
    names = np.repeat(groups, each)
    places = random.normal(size=(len(names), 2)) + np.repeat(4 * random.normal(size=(len(groups), 2)), each, axis=0)
    table = pd.DataFrame({"image_id": [f"{n:04}" for n in range(len(names))], "group": names})
    table.assign(x=places[:, 0], y=places[:, 1], patient_id=table["image_id"]).to_parquet(path, index=False)
    record = {"model": name if task is None else "urfm", "task": task, "images": len(table), "silhouette": -0.123}
    record |= {"purity": 0.83, "chance": None if len(groups) == 1 else 1 / len(groups), "simulated": simulated}
    path.with_suffix(".json").write_text(json.dumps({**record, "sha256": sha256(path)}))
    return path.with_suffix(".json")
