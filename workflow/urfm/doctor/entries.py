"""The data sets and checkpoints of a configuration, each with what is there of it and what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from urfm.doctor.inventory import State, checkpoint_files, look_at_dataset, look_at_file
from urfm.doctor.needs import dataset_use, file_use, owner
from urfm.plan.availability import Config, stand_ins


class Entry(NamedTuple):
    """A data set (`name` is its key under datasets) or a checkpoint (`name` is its file below checkpoint_root)."""

    name: str
    path: Path
    state: State
    use: str
    origin: Config
    is_dataset: bool
    key: str  # what `download` calls it


def entries(config: Config) -> Iterator[Entry]:
    """All data sets, then all checkpoints; each is looked at when its turn comes."""
    for name, record in config["datasets"].items():
        path = Path(config["data_root"]) / record["folder"]
        state, use = look_at_dataset(config, name), dataset_use(config, name)
        yield Entry(name, path, state, use, record.get("origin", {}), True, name)
    for name, record in checkpoint_files(config).items():
        path = Path(config["checkpoint_root"]) / name
        state = look_at_file(path, record.get("sha256", ""), name in stand_ins(config))
        use = file_use(config, name)
        yield Entry(name, path, state, use, record.get("origin", {}), False, owner(config, name))
