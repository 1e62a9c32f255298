"""What tables and the report print."""

from __future__ import annotations

from typing import Any

from urfm.plan import grid, products
from urfm.plan.availability import (
    Config,
    available_datasets,
    missing_dataset,
    missing_images,
    organs_of,
    pretraining_settings,
    wanted_datasets,
)
from urfm.plan.settings import figures
from urfm.plan.settings.data import inventory


def table_1(config: Config) -> Config:
    item = config["tables"]["table_1"]
    return {
        "organs": [[organ, name] for organ, name in config["organs"].items()],
        "paper": [
            [organ, source, images] for organ, sources in item["paper"].items() for source, images in sources.items()
        ],
        "missing": [
            {"name": name, "source": record["source"], "organs": organs_of(config, name), "reason": reason}
            for name, record, reason in missing_datasets(config, item["run"])
        ],
        "notes": item["notes"],
    }


def table_2(config: Config) -> Config:
    names = config["tables"]["table_2"]["tasks"]
    notes = config["tables"]["table_2"]["notes"]
    tasks = [(name, config["tasks"][name]) for name in names]
    return {
        "tasks": [
            [
                name,
                {
                    "title": task["title"],
                    "dataset_title": config["datasets"][task["dataset"]]["source"],
                    "classes": [list(item) for item in task["classes"].items()],
                    "expected": task.get("expected", {}),
                },
            ]
            for name, task in tasks
        ],
        "unavailable": grid.unavailable(config, [], names),
        "notes": [f"{config['tasks'][name]['title']}: {notes[name]}" for name in names if name in notes],
    }


def table_3(config: Config) -> Config:
    item = config["tables"]["table_3"]
    return {
        "runs": [
            {
                "run": run,
                "organs": [config["organs"][organ] for organ in pretraining_settings(config, run)["organs"]],
                "paper": images,
                "missing": [name for name, _, _ in missing_datasets(config, run)],
                "reason": missing.reason if (missing := missing_images(config, run)) else "",
            }
            for run, images in item["paper"].items()
        ],
        "notes": item["notes"],
    }


def missing_datasets(config: Config, run: str) -> list[tuple[str, Config, str]]:
    """The data sets of a run that are not there: name, configuration and reason of each."""
    return [
        (name, config["datasets"][name], missing.reason)
        for name in wanted_datasets(config, run)
        if (missing := missing_dataset(config, name))
    ]


def comparison_with_paper(config: Config) -> Config:
    """The paper's numbers, and what differs from the paper's protocol by model ('' for every model)."""
    item = config["tables"]["comparison_with_paper"]
    tasks = {entry["task"] for entry in item["paper"]} - {"average"}
    models = {entry["model"] for entry in item["paper"]}
    named = {entry["comparison"] for entry in item["paper"]}
    compared = {model for name in named for model in config["comparisons"][name]["models"]}
    here = grid.unavailable(config, sorted(models), sorted(tasks))
    reasons = {model: _other_recipe(config, model, item["recipe"]) for model in models}
    return {
        "paper": item["paper"],
        "titles": {
            name: config[section][name]["title"]
            for section, names in (("tasks", tasks), ("models", models | compared))
            for name in sorted(names)
        },
        "tasks": {name: len(config["comparisons"][name]["tasks"]) for name in sorted(named)},
        "seeds": item["seeds"],
        "missing": {entry["name"]: entry["reason"] for entry in here},
        "reasons": {"": grid.split_note(config), **reasons},
    }


def _other_recipe(config: Config, model: str, recipe: Config) -> list[str]:
    """What of a model's pre-training is not the paper's; nothing for a released file."""
    run = config["models"][model].get("pretraining")
    if run is None:
        return []
    own = pretraining_settings(config, run)
    differing = [
        f"{key.replace('_', ' ')} {own[key]} instead of {value}" for key, value in recipe.items() if own[key] != value
    ]
    wanted, there = wanted_datasets(config, run), available_datasets(config, run)
    partial = [f"pre-trained on {len(there)} of {len(wanted)} data sets"] if len(there) < len(wanted) else []
    return [*partial, *differing]


def comparison(config: Config, name: str) -> Config:
    """What the table of a comparison prints: titles in order, what leads, and what is missing."""
    item = config["comparisons"][name]
    described = figures.comparison(config, name)
    missing = [f"Not available: {entry['title']} ({entry['reason']})." for entry in described["unavailable"]]
    return {
        "title": grid.title_of(config, name),
        **{key: item[key] for key in ("reference", "against", "metric") if key in item},
        "models": described["models"],
        **figures.lines(config, name),
        "tasks": [[task, title] for task, title, _ in described["tasks"]],
        "notes": [*described["notes"], *figures.scored_images(config, item), *missing],
    }


def operating_points(config: Config, name: str) -> Config:
    """What the table of sensitivity and specificity of a comparison prints."""
    described = figures.comparison(config, name)
    return {
        "models": described["models"],
        "tasks": [[task, title] for task, title, _ in described["tasks"]],
        "specificity": config["statistics"]["specificity"],
        "notes": described["notes"],
    }


def claims(config: Config) -> Config:
    """The claims, and what is printed for the models and tasks of those whose numbers are."""
    compared = {name for claim in config["tables"]["claims"] if (name := claim.get("comparison"))}
    items = [config["comparisons"][name] for name in sorted(compared)]
    models = sorted({model for item in items for model in item["models"]})
    tasks = sorted({task for item in items for task in item["tasks"]})
    return {
        "claims": config["tables"]["claims"],
        "titles": {
            **{model: config["models"][model]["title"] for model in models},
            **{task: config["tasks"][task]["title"] for task in tasks},
        },
    }


def settings_table(config: Config, table: str) -> Config:
    """Table 4: the run `urfm`. Table 5: all models, and what a model has of its own."""
    own = {
        f"{record['title']} only": ", ".join(f"{key} {value}" for key, value in record["finetuning"].items())
        for record in (config["models"][model] for model in grid.models(config))
        if "finetuning" in record
    }
    pretraining = pretraining_settings(config, "urfm")
    del pretraining["title"], pretraining["snapshot_every"]
    if not pretraining["lr_cuts"]:
        del pretraining["lr_cuts"]
    pretraining["organs"] = pretraining["organs"] or ["all"]
    values: dict[str, Any] = {
        "table_4": pretraining,
        "table_5": {**config["finetuning"], "seeds": config["seeds"], **own},
    }
    return {"table": table, "values": values[table]}


def report(config: Config) -> Config:
    """The configuration that the report prints, but what no result depends on; and what is left out, and why."""
    sections = ("images", "splits", "audit", "finetuning", "seeds", "statistics")
    reasons = {name: gap.reason for name, gap in products.left_out(config).items()}
    return inventory(config) | {key: config[key] for key in sections} | {"left_out": reasons}
