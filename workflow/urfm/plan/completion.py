"""What the configuration leaves unsaid: every run is a model too, and the name of a list of tasks is its tasks."""

from __future__ import annotations

from typing import Any


def complete(config: dict[str, Any]) -> None:
    """Fill it in, in place; what is malformed is left to the check."""
    _models(config)
    lists = config.get("task_lists")
    _tasks(config, lists if isinstance(lists, dict) else {})


def _models(config: dict[str, Any]) -> None:
    """Every pre-training run is a model of its name and title, unless a model of that name is something else."""
    pretraining, models = config.get("pretraining"), config.get("models")
    runs = pretraining.get("runs") if isinstance(pretraining, dict) else None
    if not isinstance(runs, dict) or not isinstance(models, dict):
        return
    for name, run in runs.items():
        if not isinstance(run, dict) or not isinstance(model := models.setdefault(name, {}), dict):
            continue
        run.setdefault("title", name)
        if not {"checkpoint", "baseline"} & model.keys():
            model.setdefault("pretraining", name)
        model.setdefault("title", run["title"])


def _tasks(content: Any, lists: dict[str, list[str]]) -> None:
    """Wherever `tasks` names lists of tasks, put what is in them, each task once."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        if key == "tasks" and isinstance(value, str | list):
            names = [value] if isinstance(value, str) else value
            content[key] = _listed(names, lists) if all(isinstance(name, str) for name in names) else names
        elif isinstance(value, dict | list):
            _tasks(value, lists)


def _listed(names: list[str], lists: dict[str, list[str]]) -> list[str]:
    """The names with lists in place of theirs; a name that is given twice stays so, for the check to see."""
    found: list[str] = []
    for name in names:
        inside = lists.get(name)
        found += [task for task in inside if task not in found] if isinstance(inside, list) else [name]
    return found
