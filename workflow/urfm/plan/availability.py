"""What is there: which data sets, checkpoints, teachers, runs, models and tasks this machine can use.

The functions `missing_…` answer None for "available", or say what is missing. Without a data
root at all nothing is called missing: the whole configuration can then be planned (a dry run), and a
real run stops at once with the data root's name (`require_data_root`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from urfm.core.errors import UrfmError
from urfm.data.datasets import READERS

Config = dict[str, Any]

WATCHED = 3  # levels of folders in a data set that are watched for changes


class Missing(NamedTuple):
    """Why something cannot be had: in words that a figure prints, and with the path that a person needs."""

    reason: str
    detail: str


def data_root(config: Config) -> Path:
    return Path(config["data_root"])


def is_simulated(config: Config, dataset: str) -> bool:
    """Whether the simulator makes the data set's folder; data sets of one archive share a folder."""
    folder = config["datasets"][dataset]["folder"]
    return folder in {config["datasets"][name]["folder"] for name in config["simulation"]}


def planning(config: Config) -> bool:
    """Whether there is nothing to look at yet: no data root, and nothing simulated."""
    return not data_root(config).is_dir() and not config["simulation"]


def require_data_root(config: Config) -> None:
    """Raise an UrfmError when there is no data root and nothing is simulated."""
    if planning(config):
        raise UrfmError(
            f"data_root: {data_root(config)} is not a folder (absolute: {data_root(config).resolve()}). "
            "Put the archives there (docs/datasets.md), or name the place they lie: "
            "--config data_root=/path/to/data. Without any data: sh envs/run demo"
        )


def missing_dataset(config: Config, dataset: str) -> Missing | None:
    if is_simulated(config, dataset) or planning(config):
        return None
    folder = data_root(config) / config["datasets"][dataset]["folder"]
    return None if folder.is_dir() else Missing("data set not in the data folder", f"{dataset}: no folder {folder}")


def folders_and_tables(folder: Path, depth: int = WATCHED) -> list[Path]:
    """A folder, the folders in it down to `depth` levels, and the tables (csv, txt, json) above the lowest of them.

    Three levels reach the folders of images of every published archive; one that an archive was unpacked into, the only
    folder at the top, is no level. Files are not asked for anything but their name, and those of the lowest
    folders not even for that: there may be hundreds of thousands.
    """
    if not folder.is_dir():
        return []
    found, inside = [folder], []
    if depth:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    inside.append(Path(entry.path))
                elif entry.name.endswith((".csv", ".txt", ".json")):
                    found.append(Path(entry.path))
    for path in inside:
        wrapped = len(inside) == 1 and depth == WATCHED
        found += folders_and_tables(path, depth if wrapped else depth - 1)
    return sorted(found)


def stand_ins(config: Config) -> dict[str, Config]:
    """The files that random weights stand in for: path below checkpoint_root -> what `models` says of a checkpoint."""
    records = [config["models"][name]["checkpoint"] for name in config["stand_ins"]["models"]]
    for name in config["stand_ins"]["teachers"]:
        teacher = config["teachers"][name]
        record = {"format": teacher["kind"], "file": teacher["file"], "model_args": teacher.get("model_args", {})}
        records.append(record)
    return {record["file"]: record for record in records}


def missing_file(config: Config, name: str) -> str | None:
    """What to say when `name`, a file below checkpoint_root, is absent."""
    path = Path(config["checkpoint_root"]) / name
    there = planning(config) or name in stand_ins(config) or path.is_file()
    return None if there else f"no file {path}"


def missing_teacher(config: Config, teacher: str) -> Missing | None:
    record = config["teachers"][teacher]
    detail = missing_file(config, record["file"]) if "file" in record and "hub" not in record else None
    return Missing("teacher not in the checkpoint folder", f"{teacher}: {detail}") if detail else None


def organs_of(config: Config, dataset: str) -> list[str]:
    """The organs that a data set may hold."""
    organ = config["datasets"][dataset]["organ"]
    return [organ] if isinstance(organ, str) else list(organ)


def wanted_datasets(config: Config, run: str) -> list[str]:
    """The pre-training data sets of a run that may hold an organ it trains on, in the configured order."""
    settings = pretraining_settings(config, run)
    organs = set(settings["organs"] or config["organs"])
    return [name for name in settings["datasets"] if organs & set(organs_of(config, name))]


def available_datasets(config: Config, run: str) -> list[str]:
    """Those of the wanted data sets that are there."""
    return [name for name in wanted_datasets(config, run) if missing_dataset(config, name) is None]


def pretraining_settings(config: Config, run: str) -> Config:
    """A run's settings: the defaults, overridden by its own keys."""
    return {**config["pretraining"]["defaults"], **config["pretraining"]["runs"][run]}


def blur_of_run(config: Config, run: str) -> float:
    """Sigma of the blur that a run's student sees, in pixels of the files; 0: none."""
    return float(pretraining_settings(config, run)["blur_sigma"])


def blur_of_model(config: Config, model: str) -> float:
    """Sigma of the blur of all images that a model sees downstream: its own, or that of its pre-training here."""
    record = config["models"][model]
    own = record.get("blur_sigma")
    if own is None and "pretraining" in record:
        return blur_of_run(config, record["pretraining"])
    return float(own or 0)


def missing_run(config: Config, run: str) -> Missing | None:
    settings = pretraining_settings(config, run)
    return missing_teacher(config, settings["teacher"]) or missing_images(config, run)


def missing_images(config: Config, run: str) -> Missing | None:
    """Whether none of a run's data sets is there."""
    if available_datasets(config, run):
        return None
    folders = ", ".join(config["datasets"][name]["folder"] for name in wanted_datasets(config, run))
    if not folders:
        organs = ", ".join(pretraining_settings(config, run)["organs"])
        return Missing("no pre-training data", f"{run}: none of its data sets holds {organs}")
    return Missing("no pre-training data", f"none of {folders} in {data_root(config)}")


def missing_model(config: Config, model: str) -> Missing | None:
    record = config["models"][model]
    if "baseline" in record:
        return None
    if "pretraining" in record:
        return missing_run(config, record["pretraining"])
    file = record["checkpoint"].get("file")
    detail = missing_file(config, file) if file else None
    return Missing("checkpoint not in the checkpoint folder", detail) if detail else None


def missing_decoder(config: Config, model: str) -> Missing | None:
    """Whether there is no decoder to look at, or not the teacher whose tokens it predicts."""
    record = config["models"][model]
    run = record.get("pretraining", record.get("decoder"))
    if run is None:
        return Missing("no decoder to look at", f"models.{model}.decoder is not set")
    return missing_teacher(config, pretraining_settings(config, run)["teacher"])


def is_frozen(config: Config, model: str) -> bool:
    """Whether no network is trained for a model: a baseline, or a classifier on a frozen encoder."""
    record = config["models"][model]
    return "baseline" in record or record.get("mode", "finetune") != "finetune"


def missing_task(config: Config, task: str) -> Missing | None:
    return missing_dataset(config, config["tasks"][task]["dataset"]) or missing_split(config, task)


def missing_part(config: Config, task: str, subset: str) -> Missing | None:
    """Whether a task has no images to score: of its test part, or, `external`, of the set predicted unchanged."""
    other = config["tasks"][task].get("external")
    if subset == "external" and other is None:
        return Missing("no external set", f"tasks.{task}.external is not set")
    elsewhere = missing_dataset(config, config["tasks"][other]["dataset"]) if subset == "external" else None
    return missing_task(config, task) or elsewhere


def _states_split(config: Config, dataset: str) -> bool:
    """Whether the metadata.csv of a data set in the generic format has the column official_split."""
    if is_simulated(config, dataset):
        return False
    folder = data_root(config) / config["datasets"][dataset]["folder"]
    for table in (folder / "metadata.csv", *folder.glob("*/metadata.csv")):
        if table.is_file():
            with open(table, encoding="utf-8-sig", errors="replace") as stream:
                return "official_split" in stream.readline()
    return planning(config)


def missing_split(config: Config, task: str) -> Missing | None:
    """Whether a task lacks the published split that `finetuning.split` asks for; we can always make one of our own."""
    record, split = config["tasks"][task], config["finetuning"]["split"]
    reader = config["datasets"][record["dataset"]]["reader"]
    if split == "published" and reader == "generic" and not _states_split(config, record["dataset"]):
        return Missing("no published split", "its metadata.csv has no column official_split")
    if split == "published" and not READERS[reader].official_split:
        return Missing("no published split", f"the reader {reader} knows of none")
    if split == "ultrabench" and "ultrabench" not in record:
        return Missing("no split of UltraBench's", f"tasks.{task}.ultrabench is not set")
    if split == "ultrabench" and not planning(config):
        file = data_root(config) / record["ultrabench"] / "test.json"
        return None if file.is_file() else Missing("UltraBench's split not in the data folder", f"no file {file}")
    return None
