"""How many images there are: as manifests, splits and sets of the results say, else as `expected`; None: unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from urfm.core.files import read_json
from urfm.plan import grid
from urfm.plan.availability import Config, available_datasets, is_simulated, organs_of, pretraining_settings


def recorded(path: Path) -> dict[str, Any]:
    """A record of the results, empty if it is not there."""
    return read_json(path) if path.is_file() else {}


def of_dataset(config: Config, results: Path, dataset: str) -> int | None:
    """Usable images of a data set."""
    found = recorded(results / "manifests" / f"{dataset}.json") or expected(
        config, dataset, config["datasets"][dataset]
    )
    number: int | None = found.get("images")
    return number


def expected(config: Config, dataset: str, record: Config) -> Config:
    """What `record`, of a data set or of a task on it, should hold; of a simulated set nobody knows before."""
    return {} if is_simulated(config, dataset) else record.get("expected", {})


def of_run(config: Config, results: Path, run: str) -> int | None:
    """Images that a run trains on; patients that it leaves out are still among them where nobody has chosen yet."""
    if chosen := recorded(results / "pretrain_sets" / f"{run}.json"):
        return int(chosen["images"])
    settings = pretraining_settings(config, run)
    numbers = [_of_organs(config, results, name, settings["organs"]) for name in available_datasets(config, run)]
    if None in numbers:
        return None
    share = sum(number or 0 for number in numbers) * int(settings["share"]) // 100
    return min(share, settings["max_images"] or share)


def _of_organs(config: Config, results: Path, dataset: str, organs: list[str]) -> int | None:
    """Images of some organs; of a set that holds others too, as many as the paper's Table 1 says."""
    if not organs or set(organs_of(config, dataset)) <= set(organs):
        return of_dataset(config, results, dataset)
    if is_simulated(config, dataset):
        return None
    source, table = config["datasets"][dataset]["source"], config["tables"]["table_1"]["paper"]
    listed = [table[organ][source] for organ in organs if source in table.get(organ, {})]
    return sum(listed) if listed else None


def of_task(config: Config, results: Path, task: str) -> dict[str, int] | None:
    """Images of each part of a task, and `external` if its models predict another set too."""
    split = recorded(results / "splits" / task / f"{grid.splits(config)[0]}.json")
    parts = {name: int(counts["images"]) for name, counts in split.get("subsets", {}).items()}
    if not split:
        record = config["tasks"][task]
        number = expected(config, record["dataset"], record).get("images")
        if number is None:
            return None
        ratio = config["splits"]["ratio"]
        parts = {name: number * ratio[place] // sum(ratio) for place, name in enumerate(("train", "val"))}
        parts["test"] = number - sum(parts.values())
    if other := grid.external_task(config, task):
        parts["external"] = of_dataset(config, results, config["tasks"][other]["dataset"]) or 0
    return parts


def splits(config: Config) -> set[tuple[str, str]]:
    """(task, split) of all that are made; of a set that models predict unchanged the paper's."""
    tasks, others = grid.tasks(config), (grid.external_task(config, cell.task) for cell in grid.all_cells(config))
    names = [*grid.splits(config), grid.shown_split(config)]
    return {(task, name) for task in tasks for name in names} | {(task, "paper") for task in others if task}


def datasets(config: Config) -> list[str]:
    """The data sets that are read."""
    tasks = [config["tasks"][task]["dataset"] for task, _ in sorted(splits(config))]
    return list(dict.fromkeys([*grid.datasets(config), *tasks]))


def made(config: Config, results: Path) -> list[str]:
    """Those of them whose manifests are there."""
    return [name for name in datasets(config) if (results / "manifests" / f"{name}.json").is_file()]
