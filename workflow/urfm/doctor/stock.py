"""What can be drawn from what is in stock: the models and tasks of every figure and table."""

from __future__ import annotations

from collections.abc import Iterable

from urfm.doctor.needs import drawn, teacher_of
from urfm.plan.availability import Config, missing_split, wanted_datasets

Stock = frozenset[str]  # names of entries (urfm.doctor.entries) that can be worked with


def model_ready(config: Config, model: str, stock: Stock) -> bool:
    """Whether a model can be had from what is in stock: its file, or its teacher and any data set of its run."""
    record = config["models"][model]
    if "baseline" in record:
        return True
    if "checkpoint" in record:
        return record["checkpoint"].get("file") in (None, *stock)
    teacher = teacher_of(config, record["pretraining"])
    taught = "hub" in teacher or teacher.get("file") in (None, *stock)
    return taught and not stock.isdisjoint(wanted_datasets(config, record["pretraining"]))


def ready(config: Config, item: Config, stock: Stock) -> dict[str, list[str]]:
    """Titles of the models and of the tasks of a figure or table that can be drawn from what is in stock."""
    models = [model for model in item.get("models", []) if model_ready(config, model, stock)]
    tasks = [task for task in item.get("tasks", []) if config["tasks"][task]["dataset"] in stock]
    tasks = [task for task in tasks if missing_split(config, task) is None]
    return {
        "models": [config["models"][model]["title"] for model in models],
        "tasks": [config["tasks"][task]["title"] for task in tasks],
    }


def gain(config: Config, stock: Stock, more: Iterable[str]) -> list[tuple[str, str]]:
    """(models or tasks, title) of what `more` entries in stock would make drawable in any figure or table."""

    def titles(names: Stock) -> set[tuple[str, str]]:
        found = [ready(config, item, names) for item in drawn(config).values()]
        return {(kind, title) for here in found for kind in here for title in here[kind]}

    return sorted(titles(stock.union(more)) - titles(stock))
