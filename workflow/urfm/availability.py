"""What is there: which data sets, checkpoints, teachers, runs, models and tasks this machine can use.

Every function answers None for "available" or one sentence that says what is missing. Without a data
root at all nothing is called missing: the whole configuration can then be planned (a dry run), and a
real run stops at once with the data root's name (`require_data_root`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from urfm.errors import UrfmError

Config = dict[str, Any]


def data_root(config: Config) -> Path:
    return Path(config["data_root"])


def is_simulated(config: Config, dataset: str) -> bool:
    return dataset in config["simulation"]


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


def missing_dataset(config: Config, dataset: str) -> str | None:
    if is_simulated(config, dataset) or planning(config):
        return None
    folder = data_root(config) / config["datasets"][dataset]["folder"]
    return None if folder.is_dir() else f"data set {dataset}: no folder {folder}"


def missing_file(config: Config, name: str) -> str | None:
    """`name` is a file below checkpoint_root."""
    path = Path(config["checkpoint_root"]) / name
    return None if planning(config) or path.is_file() else f"no file {path}"


def missing_teacher(config: Config, teacher: str) -> str | None:
    record = config["teachers"][teacher]
    reason = missing_file(config, record["file"]) if "file" in record and "hub" not in record else None
    return f"teacher {teacher}: {reason}" if reason else None


def available_datasets(config: Config, run: str) -> list[str]:
    """The pre-training data sets of a run that are there, in the configured order."""
    datasets = pretraining_settings(config, run)["datasets"]
    return [name for name in datasets if missing_dataset(config, name) is None]


def pretraining_settings(config: Config, run: str) -> Config:
    """A run's settings: the defaults, overridden by its own keys."""
    return {**config["pretraining"]["defaults"], **config["pretraining"]["runs"][run]}


def missing_run(config: Config, run: str) -> str | None:
    reason = missing_teacher(config, pretraining_settings(config, run)["teacher"])
    if reason is None and not available_datasets(config, run):
        reason = "none of its pre-training data sets is there"
    return reason


def missing_model(config: Config, model: str) -> str | None:
    record = config["models"][model]
    if "pretraining" in record:
        return missing_run(config, record["pretraining"])
    file = record["checkpoint"].get("file")
    reason = missing_file(config, file) if file else None
    return f"checkpoint of {model}: {reason}" if reason else None


def missing_task(config: Config, task: str) -> str | None:
    return missing_dataset(config, config["tasks"][task]["dataset"])
