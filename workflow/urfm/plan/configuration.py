"""Checking a configuration: every key by itself (`urfm.config.mistakes`), and its names against one another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from urfm.config.mistakes import mistakes, nearest
from urfm.core.errors import UrfmError
from urfm.plan import grid
from urfm.plan.availability import Config, organs_of, pretraining_settings


def check(config: Config) -> None:
    """Raise an UrfmError that lists every mistake: unknown keys (with the nearest known), wrong values, dead names."""
    found = mistakes(config) or [
        *_dead_names(config),
        *_not_to_fetch(config),
        *_without_snapshots(config),
        *_no_stand_in(config),
    ]
    if found:
        raise UrfmError("the configuration has mistakes:\n" + "\n".join(f"  - {mistake}" for mistake in found))


def one_of(names: Iterable[str]) -> str:
    """A regular expression that matches exactly these names, and nothing when there are none."""
    return "|".join(re.escape(str(name)) for name in sorted(names)) or "(?!)"


def _dead_names(config: Config) -> Iterator[str]:
    """Names that refer to an entry of another section which is not there."""
    for where, section, name in _references(config):
        if name not in config[section]:
            known = [*config[section], *(config.get("task_lists", []) if section == "tasks" else [])]
            yield f"{where}: no {name} under {section}{nearest(name, known)}"
    for name in config.get("task_lists", {}):
        if name in config["tasks"]:
            yield f"task_lists.{name}: a task has this name"
    runs = config["pretraining"]["runs"]
    for where, run in [
        *((f"models.{name}.pretraining", model.get("pretraining")) for name, model in config["models"].items()),
        *((f"models.{name}.decoder", model.get("decoder")) for name, model in config["models"].items()),
        ("tables.table_1.run", config["tables"]["table_1"]["run"]),
        *(("tables.table_3.paper", run) for run in config["tables"]["table_3"]["paper"]),
        *_observed(config),
    ]:
        if run is not None and run not in runs:
            yield f"{where}: no run {run}{nearest(run, runs)}"
    yield from _dead_figures(config)
    yield from _without_encoder(config)
    for name, item in config["comparisons"].items():
        if item["reference"] not in item["models"]:
            near = nearest(item["reference"], item["models"])
            yield f"comparisons.{name}.reference: {item['reference']} is not among comparisons.{name}.models{near}"
        for model in item.get("lines", []):
            if model in item["models"]:
                yield f"comparisons.{name}.lines: {model} is among comparisons.{name}.models already"
        for model in item.get("against", []):
            if model == item["reference"] or model not in item["models"]:
                near = nearest(model, [other for other in item["models"] if other != item["reference"]])
                yield f"comparisons.{name}.against: {model} is not another model of comparisons.{name}.models{near}"


def _without_encoder(config: Config) -> Iterator[str]:
    """Models that are looked into, or whose size is drawn, and have no encoder, or none that is fine-tuned."""
    models, figures = config["models"], config["figures"]
    if models.get(figures["model"], {}).get("mode", "finetune") != "finetune":
        yield f"figures.model: {figures['model']} is not fine-tuned (`mode`), so there is no network for figure 6"
    sized = config["comparisons"].get(figures["figure_8"]["model_size"], {}).get("models", [])
    for where, names in [
        ("figures.figure_7.before", [figures["figure_7"]["before"]]),
        ("probes.models", config["probes"]["models"]),
        (f"comparisons.{figures['figure_8']['model_size']}.models", sized),
    ]:
        for name in names:
            if "baseline" in models.get(name, {}):
                yield f"{where}: {name} is a baseline, which has no encoder"


def _dead_figures(config: Config) -> Iterator[str]:
    """What figures 1, 6 and 7 cannot be drawn of, and sets that are no external set of a task."""
    figures, tasks = config["figures"], config["tasks"]
    if "baseline" in config["models"].get(figures["model"], {}):
        yield f"figures.model: {figures['model']} is a baseline, which has no network to look at"
    if (run := figures["figure_1"]["run"]) not in (known := config["pretraining"]["runs"]):
        yield f"figures.figure_1.run: no {run}{nearest(run, known)}"
    for name, task in tasks.items():
        other = task.get("external", name)
        if other in tasks and list(tasks[other]["classes"]) != list(task["classes"]):
            yield f"tasks.{name}.external: {other} has the classes {', '.join(tasks[other]['classes'])}"
    yield from _not_positive(config)


def _not_positive(config: Config) -> Iterator[str]:
    """Positive classes that a task does not have, or cannot have because it has more than two classes."""
    for name, task in config["tasks"].items():
        if (positive := task.get("positive")) is None:
            continue
        classes = list(task["classes"])
        if positive not in classes:
            yield f"tasks.{name}.positive: {positive!r} is not among tasks.{name}.classes{nearest(positive, classes)}"
        elif len(classes) > 2:
            yield (
                f"tasks.{name}.positive: {name} has {len(classes)} classes, each of which is compared with the rest; "
                "only a task of two classes has a positive one"
            )


def _observed(config: Config) -> Iterator[tuple[str, str]]:
    """The runs whose snapshots are asked for, and where."""
    yield from (("probes.runs", run) for line in config["probes"]["runs"] for run in line)
    yield from (("reconstructions.runs", run) for run in config["reconstructions"]["runs"])


def _without_snapshots(config: Config) -> Iterator[str]:
    for where, run in _observed(config):
        if run in config["pretraining"]["runs"] and not pretraining_settings(config, run)["snapshot_every"]:
            yield f"{where}: {run} keeps no snapshots; set pretraining.runs.{run}.snapshot_every"


def _not_to_fetch(config: Config) -> Iterator[str]:
    """Data sets, and files of models and teachers, that `download` could not fetch."""
    fetchable = set()
    for name, record in config["datasets"].items():
        origin = record.get("origin", {})
        if origin.get("access") == "open":
            fetchable.add(name)
            if not {"files", "record"} & origin.keys():
                yield f"datasets.{name}.origin: `access: open` needs `files`, or the `record` of a repository"
    for section in ("teachers", "models"):
        for name, record in config[section].items():
            checkpoint = record.get("checkpoint", record)
            origin = checkpoint.get("origin", {})
            if origin.get("access") == "open":
                fetchable.add(name)
                if len(origin.get("files", [])) != 1 or "file" not in checkpoint:
                    yield f"{section}.{name}: `access: open` needs `file`, and one entry of `origin.files`"
    known = {*config["datasets"], *config["teachers"], *config["models"]}
    for name in config["download"]:
        if name not in known:
            yield f"download: no {name} under datasets, teachers or models{nearest(name, known)}"
        elif name not in fetchable:
            yield f"download: {name} is not free to fetch; `snakemake --cores 1 doctor` says how to get it"


def _no_stand_in(config: Config) -> Iterator[str]:
    """Stand-ins that cannot be, and a checkpoint_root that may hold somebody's files."""
    for section in ("models", "teachers"):
        for name in config["stand_ins"][section]:
            record = config[section].get(name, {})
            if name not in config[section]:
                yield f"stand_ins.{section}: no {name} under {section}{nearest(name, config[section])}"
            elif not record.get("checkpoint", record).get("file"):
                yield f"stand_ins.{section}: {name} is loaded from no file, so nothing stands in for one"
    results = Path(config.get("pathvars", {}).get("results", "results"))
    root = Path(config["checkpoint_root"])
    if any(config["stand_ins"][section] for section in ("models", "teachers")) and results not in root.parents:
        yield (
            f"stand_ins: checkpoint_root is {root}, where published files may lie; random weights are only written "
            f"below the results, e.g. --config checkpoint_root={results / 'checkpoints'}"
        )


def _references(config: Config) -> Iterator[tuple[str, str, Any]]:
    for name in config["simulation"]:
        yield f"simulation.{name}", "datasets", name
    for name in config["datasets"]:
        yield from ((f"datasets.{name}.organ", "organs", organ) for organ in organs_of(config, name))
    yield from (("tables.table_1.paper", "organs", organ) for organ in config["tables"]["table_1"]["paper"])
    yield from (("tables.table_2.notes", "tasks", task) for task in config["tables"]["table_2"]["notes"])
    for name, task in config["tasks"].items():
        yield f"tasks.{name}.dataset", "datasets", task["dataset"]
        if "external" in task:
            yield f"tasks.{name}.external", "tasks", task["external"]
    for prefix, settings in [
        ("pretraining.defaults", config["pretraining"]["defaults"]),
        *((f"pretraining.runs.{name}", run) for name, run in config["pretraining"]["runs"].items()),
    ]:
        yield from ((f"{prefix}.datasets", "datasets", name) for name in settings.get("datasets", []))
        yield from ((f"{prefix}.organs", "organs", organ) for organ in settings.get("organs", []))
        if "teacher" in settings:
            yield f"{prefix}.teacher", "teachers", settings["teacher"]
    for name, tasks in config.get("task_lists", {}).items():
        yield from ((f"task_lists.{name}", "tasks", task) for task in tasks)
    yield from (("probes.tasks", "tasks", task) for task in config["probes"]["tasks"])
    yield from (("probes.models", "models", model) for model in config["probes"]["models"])
    figures = config["figures"]
    yield "figures.model", "models", figures["model"]
    yield "figures.figure_1.sample", "tasks", figures["figure_1"]["sample"]
    yield "figures.figure_1.comparison", "comparisons", figures["figure_1"]["comparison"]
    yield "figures.figure_7.before", "models", figures["figure_7"]["before"]
    for name in ("figure_1", "figure_6", "figure_7"):
        yield from ((f"figures.{name}.tasks", "tasks", task) for task in figures[name]["tasks"])
    for name in grid.COMPARING:
        yield from ((f"figures.{name}.{panel}", "comparisons", item) for panel, item in figures[name].items())
    for number, entry in enumerate(config["tables"]["comparison_with_paper"]["paper"]):
        where = f"tables.comparison_with_paper.paper.{number}"
        yield f"{where}.comparison", "comparisons", entry["comparison"]
        yield f"{where}.model", "models", entry["model"]
        if entry["task"] != "average":
            yield f"{where}.task", "tasks", entry["task"]
    for number, claim in enumerate(config["tables"]["claims"]):
        if "comparison" in claim:
            yield f"tables.claims.{number}.comparison", "comparisons", claim["comparison"]
        if "model" in claim:
            yield f"tables.claims.{number}.model", "models", claim["model"]
        yield from ((f"tables.claims.{number}.tasks", "tasks", task) for task in claim.get("tasks", []))
        for win in claim.get("wins", []):
            worse = [] if win["worse"] == "strongest" else win["worse"]
            yield from ((f"tables.claims.{number}.wins", "models", model) for model in [win["better"], *worse])
            yield from ((f"tables.claims.{number}.wins", "tasks", task) for task in win.get("tasks", []))
    described = [(name, item) for name, item in config["tables"].items() if isinstance(item, dict)]
    for section, items in (("comparisons", config["comparisons"].items()), ("tables", described)):
        for name, item in items:
            yield from ((f"{section}.{name}.tasks", "tasks", task) for task in item.get("tasks", []))
            for key in ("models", "lines"):
                yield from ((f"{section}.{name}.{key}", "models", model) for model in item.get(key, []))
