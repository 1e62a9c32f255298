"""What needs a data set or a checkpoint: tasks, models and pre-training runs, and the figures that show them."""

from __future__ import annotations

from urfm.plan.availability import Config, pretraining_settings, wanted_datasets
from urfm.plan.grid import figure_of, trained


def drawn(config: Config) -> dict[str, Config]:
    """Comparisons and tables that show tasks or models."""
    items = {**trained(config), **config["tables"]}
    return {name: item for name, item in items.items() if "tasks" in item or "models" in item}


def dataset_use(config: Config, name: str) -> str:
    """Tasks and pre-training that need a data set, and the figures and tables that show them."""
    tasks = [task for task, record in config["tasks"].items() if record["dataset"] == name]
    runs = {run for run in config["pretraining"]["runs"] if name in wanted_datasets(config, run)}
    counted = {"table_1": {config["tables"]["table_1"]["run"]}, "table_3": set(config["tables"]["table_3"]["paper"])}
    tables = [table for table, shown in counted.items() if shown & runs]
    phrases = _shown(config, "task", "tasks", tasks) + _pretraining(config, "pre-training of", runs)
    return "; ".join(phrases + ([f"images in {', '.join(tables)}"] if tables else []))


def owner(config: Config, file: str) -> str:
    """The teacher or the model that a file below checkpoint_root is described by."""
    records = {**config["models"], **config["teachers"]}
    names = (name for name, record in records.items() if record.get("checkpoint", record).get("file") == file)
    return str(next(names))


def file_use(config: Config, file: str) -> str:
    """Models that are loaded from a checkpoint or taught by it, and the figures that show them."""
    loaded = [name for name, model in config["models"].items() if model.get("checkpoint", {}).get("file") == file]
    taught = {run for run in config["pretraining"]["runs"] if teacher_of(config, run).get("file") == file}
    return "; ".join(_shown(config, "model", "models", loaded) + _pretraining(config, "teacher of", taught))


def _pretraining(config: Config, words: str, runs: set[str]) -> list[str]:
    models = [name for name, model in config["models"].items() if model.get("pretraining") in runs]
    others = len(runs - {config["models"][name]["pretraining"] for name in models})
    return _shown(config, words, "models", models) + ([f"{others} runs that no model uses"] if others else [])


def _shown(config: Config, words: str, section: str, names: list[str]) -> list[str]:
    """A phrase with their titles and the figures and tables that show them; none if there are no names."""
    groups: dict[str, list[str]] = {}
    for name in names:
        items = [item for item, record in drawn(config).items() if name in record.get(section, [])]
        groups.setdefault(_places(config, items) or "in no figure", []).append(config[section][name]["title"])
    phrases = [f"{', '.join(titles)} ({items})" for items, titles in groups.items()]
    return [f"{words} {', '.join(phrases)}"] if phrases else []


def _places(config: Config, items: list[str]) -> str:
    """ "figures 2, 4, table 2, my_benchmark": figures for their comparisons, tables, and one's own comparisons."""
    places = dict.fromkeys(figure_of(config, item) or item for item in items)
    words = []
    for kind in ("figure", "table"):
        numbers = [place.removeprefix(f"{kind}_") for place in places if place.startswith(f"{kind}_")]
        words += [f"{kind}{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"] if numbers else []
    return ", ".join([*words, *(place for place in places if not place.startswith(("figure_", "table_")))])


def teacher_of(config: Config, run: str) -> Config:
    """The entry of the teacher of a pre-training run."""
    teacher: Config = config["teachers"][pretraining_settings(config, run)["teacher"]]
    return teacher
