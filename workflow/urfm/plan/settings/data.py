"""What the stages of data read: downloads, simulation, manifests, images, splits, pre-training sets, the audit."""

from __future__ import annotations

from urfm.plan import grid
from urfm.plan.availability import (
    Config,
    is_simulated,
    stand_ins,
)
from urfm.plan.settings.common import without_origin


def download(config: Config) -> Config:
    """What to fetch: what is asked for, or all that is open; one of several data sets that share a folder."""
    archives: dict[str, Config] = {}
    for name in _asked_for(config, "datasets"):
        record = config["datasets"][name]
        origin = record.get("origin", {})
        if origin.get("access") == "open" and not is_simulated(config, name):
            kept = {key: value for key, value in origin.items() if key not in ("access", "steps", "images")}
            archives.setdefault(record["folder"], {"dataset": name, "folder": record["folder"], **kept})
    weights: dict[str, Config] = {}
    for section in ("teachers", "models"):
        for name in _asked_for(config, section):
            record = config[section][name].get("checkpoint", config[section][name])
            origin = record.get("origin", {})
            if origin.get("access") == "open" and record["file"] not in stand_ins(config):
                item = {"name": name, "file": record["file"], **{key: origin[key] for key in ("where", "licence")}}
                published = {"hash": f"sha256:{record['sha256']}"} if "sha256" in record else {}
                address = {key: value for key, value in origin["files"][0].items() if key != "name"}
                weights.setdefault(record["file"], {**item, **published, **address})
    return {"archives": list(archives.values()), "weights": list(weights.values())}


def _asked_for(config: Config, section: str) -> list[str]:
    """The names of a section that `download` holds; all if it is empty."""
    return [name for name in config[section] if name in config["download"] or not config["download"]]


def doctor(config: Config) -> Config:
    """What the doctor looks at, and what pre-training may use, which is no part of any result."""
    return inventory(config) | {"resources": {"pretrain": config["resources"]["pretrain"]}}


def inventory(config: Config) -> Config:
    """Everything that names data sets and checkpoints, or needs them; sections as pairs, to keep their order."""
    folders = ("data_root", "checkpoint_root", "strict_counts", "simulation", "stand_ins", "pretraining", "organs")
    sections = ("datasets", "tasks", "teachers", "models", "comparisons", "tables")
    return {
        "finetuning": {"split": config["finetuning"]["split"]},
        **{key: config[key] for key in folders},
        **{key: list(config[key].items()) for key in sections},
        "figures": {name: config["figures"][name] for name in grid.COMPARING},
    }


def check(config: Config) -> Config:
    return {"check_data": config["check_data"], "datasets": list(config["datasets"])}


def simulate(config: Config, dataset: str) -> Config:
    """The archive that the data set's reader reads; the generic format does not say what is in it, `expected` does."""
    record = config["datasets"][dataset]
    settings = {"dataset": dataset, "layout": record["reader"], **config["simulation"][dataset]}
    if record["reader"] == "generic":
        expected = record.get("expected", {})
        settings |= {"organ": record["organ"], "labels": expected.get("labels", {})}
        if "images" in expected and "patients" in expected:
            settings["images_per_patient"] = expected["images"] / expected["patients"]
    return settings


def manifest(config: Config, dataset: str) -> Config:
    record = config["datasets"][dataset]
    return {
        "dataset": dataset,
        "expected": {},
        **without_origin(record),
        "organ": record["organ"] if isinstance(record["organ"], str) else "",  # each record has its own
        "strict_counts": config["strict_counts"] and not is_simulated(config, dataset),
        "for_tasks": any(task["dataset"] == dataset for task in config["tasks"].values()),
    }


def images(config: Config, dataset: str) -> Config:
    record = config["datasets"][dataset]
    return {**config["images"], **({"bits": record["bits"]} if "bits" in record else {})}


def blurred_images(config: Config, dataset: str, sigma: float) -> Config:
    return {**images(config, dataset), "filter": "blur", "blur_sigma": sigma}


def split(config: Config, task: str, split: str) -> Config:
    """`seed-<n>` divides with seed n, all other splits with splits.seed; UltraBench's alone reads where it lies."""
    record = config["tasks"][task]
    own = {"seed": int(split.removeprefix("seed-"))} if split.startswith("seed-") else {}
    if split == "ultrabench":
        own = {"ultrabench": record.get("ultrabench", "")}
    return {
        "task": task,
        "split": split,
        "classes": list(record["classes"]),
        "images_per_patient": record.get("images_per_patient", "all"),
        "expected": record.get("expected", {}),
        "strict_counts": config["strict_counts"] and not is_simulated(config, record["dataset"]),
        **config["splits"],
        **own,
    }


def audit(config: Config) -> Config:
    return {"distance": config["audit"]["distance"]}
