"""What figures print: titles in order, what is missing, notes and the look."""

from __future__ import annotations

from typing import Any

from urfm.plan import grid
from urfm.plan.availability import (
    Config,
    available_datasets,
    is_simulated,
    missing_decoder,
    missing_model,
    pretraining_settings,
    stand_ins,
)


def comparison(config: Config, name: str) -> Config:
    """Titles in order, and what is missing of one comparison."""
    item = config["comparisons"][name]
    tasks = grid.available_tasks(config, item)
    return {
        "models": [[model, config["models"][model]["title"]] for model in grid.available_models(config, name)],
        "tasks": [[task, config["tasks"][task]["title"], config["tasks"][task]["group"]] for task in tasks],
        # Of a comparison that an overlay leaves out nothing is missing.
        "unavailable": item["tasks"]
        and grid.unavailable(config, grid.wanted_models(item), item["tasks"], grid.subset_of(item)),
        "notes": grid.split_note(config) + grid.partial_pretraining(config, grid.scored_models(config, name)),
        "reference": item["reference"],
    }


def figure(config: Config, name: str) -> Config:
    """What figure 2 of a comparison prints: titles in order, what is missing, what leads, and the look."""
    item = config["comparisons"][name]
    drawn = comparison(config, name)
    return {
        **drawn,
        **lines(config, name),
        "classes": class_names(config, name),
        **{key: item[key] for key in ("against", "metric") if key in item},
        "notes": [*drawn["notes"], *scored_images(config, item), *drawn_share(item)],
        "confidence": config["statistics"]["confidence"],
        "dpi": config["figures"]["dpi"],
    }


def class_names(config: Config, name: str) -> Config:
    """Label value and printed name of each class, by task."""
    tasks = grid.available_tasks(config, config["comparisons"][name])
    return {task: config["tasks"][task]["classes"] for task in tasks}


def lines(config: Config, name: str) -> Config:
    """Titles of the models that are drawn as lines, if there are any."""
    titles = [[model, config["models"][model]["title"]] for model in grid.available_lines(config, name)]
    return {"lines": titles} if titles else {}


def own_figure(config: Config, name: str) -> Config:
    """The same of a comparison that is a target by its name."""
    return {**figure(config, name), "own": True}


def scored_images(config: Config, item: Config) -> list[str]:
    """A sentence where a comparison scores other images than those of its tasks."""
    if grid.subset_of(item) != "external":
        return []
    pairs = [(task, grid.external_task(config, task)) for task in grid.available_tasks(config, item)]
    titles = [
        f"{config['tasks'][other]['title']} by the models of {config['tasks'][task]['title']}"
        for task, other in pairs
        if other
    ]
    return [f"Scored are images of other data sets, predicted unchanged: {', '.join(titles)}."] if titles else []


def drawn_share(item: Config) -> list[str]:
    """A sentence where models are trained on parts of the training part; the largest is drawn."""
    *others, largest = sorted(item["shares"])
    table = f"; the table also has {', '.join(f'{share} %' for share in others)}" if others else ""
    return [f"Models trained on {largest} % of the training part{table}."] if largest < 100 or others else []


def comparisons(config: Config, name: str) -> Config:
    """The same of a figure of several comparisons; those of which nothing can be drawn are named in it."""
    return {
        "comparisons": [
            [item, {**comparison(config, item), "against": against(config, item)}]
            for item in config["figures"][name].values()
        ],
        "confidence": config["statistics"]["confidence"],
        "dpi": config["figures"]["dpi"],
    }


def against(config: Config, name: str) -> list[str]:
    return list(config["comparisons"][name].get("against", []))


def summary(config: Config, name: str) -> Config:
    """What the critical-difference diagram, the reliability and the decision curves of a comparison print."""
    drawn = comparison(config, name)
    return {
        "models": drawn["models"],
        "tasks": [[task, title] for task, title, _ in drawn["tasks"]],
        **{key: drawn[key] for key in ("unavailable", "notes")},
        "dpi": config["figures"]["dpi"],
    }


def _pictured(config: Config, tasks: list[str]) -> list[dict[str, Any]]:
    """What figures 1, 6 and 7 print of tasks: name, title, data set, and the name of each class in order."""
    described = []
    for task in tasks:
        record = config["tasks"][task]
        dataset = config["datasets"][record["dataset"]]
        source = dataset["folder"] if dataset["source"] == "private" else dataset["source"]
        classes = [list(item) for item in record["classes"].items()]
        described.append({"task": task, "title": record["title"], "source": source, "classes": classes})
    return described


def _picture(config: Config, figure: str, models: list[str], tasks: list[str]) -> Config:
    """What the pictures share: tasks that can be drawn, what is missing, notes and the look."""
    wanted = config["figures"][figure]["tasks"]
    there = [model for model in models if missing_model(config, model) is None]
    compared = config["comparisons"][config["figures"][figure]["comparison"]]["models"] if figure == "figure_1" else []
    shown = dict.fromkeys([*compared, *models])
    no_decoder: list[Config] = []
    if figure != "figure_7" and there and (missing := missing_decoder(config, there[0])):
        title = config["models"][there[0]]["title"]
        no_decoder = [{"kind": "model", "name": there[0], "title": title, "reason": missing.reason}]
    stand_ins = [config["models"][model]["title"] for model in shown if model in config["stand_ins"]["models"]]
    marked = f"Stand-in (random weights in the upstream format), not the published model: {', '.join(stand_ins)}."
    return {
        "tasks": _pictured(config, tasks),
        "unavailable": [*grid.unavailable(config, models, wanted), *no_decoder],
        "notes": ([marked] if stand_ins else []) + grid.split_note(config) + grid.partial_pretraining(config, there),
        "dpi": config["figures"]["dpi"],
    }


def figure_1(config: Config) -> Config:
    item = config["figures"]["figure_1"]
    compared = config["comparisons"][item["comparison"]]
    scored = grid.available_tasks(config, compared)
    return {
        **_picture(config, "figure_1", [config["figures"]["model"]], grid.available_tasks(config, item)),
        "organs": [[organ, name] for organ, name in config["organs"].items()],
        "models": [[model, config["models"][model]["title"]] for model in compared["models"]],
        "compared": [[task, config["tasks"][task]["title"]] for task in scored],
        "model": config["models"][config["figures"]["model"]]["title"],
    }


def figure_3(config: Config) -> Config:
    """With the names of classes, of which the ROC curves are."""
    drawn = comparisons(config, "figure_3")
    for name, item in drawn["comparisons"]:
        item["classes"] = class_names(config, name)
    return drawn


def figure_5(config: Config) -> Config:
    """With the tasks of each model's organ, for models that are pre-trained on one organ."""
    name = config["figures"]["figure_5"]["comparison"]
    own = {model: grid.own_tasks(config, name, model) for model in config["comparisons"][name]["models"]}
    return {**comparisons(config, "figure_5"), "own": {model: tasks for model, tasks in own.items() if tasks}}


def figure_6(config: Config) -> Config:
    model = config["figures"]["model"]
    picture = _picture(config, "figure_6", [model], grid.pictured_tasks(config, "figure_6"))
    return {**picture, "model": config["models"][model]["title"]}


def figure_7(config: Config) -> Config:
    after, before = config["figures"]["model"], config["figures"]["figure_7"]["before"]
    tasks = grid.available_tasks(config, config["figures"]["figure_7"])
    named = {name: [model, config["models"][model]["title"]] for name, model in (("before", before), ("after", after))}
    return {**_picture(config, "figure_7", [before, after], tasks), **named}


def figure_8(config: Config) -> Config:
    """With the runs of the models of panel A, and the organs of its tasks."""
    item = config["comparisons"][config["figures"]["figure_8"]["data"]]
    organs = {task: grid.organ_of(config, task) for task in item["tasks"]}
    return {
        **comparisons(config, "figure_8"),
        "runs": {
            model: config["models"][model]["pretraining"]
            for model in item["models"]
            if "pretraining" in config["models"][model]
        },
        "organs": {task: [organ, config["organs"][organ]] for task, organ in organs.items() if organ},
    }


def probe_curves(config: Config) -> Config:
    section, titles = config["probes"], config["pretraining"]["runs"]
    runs, tasks = set(grid.probed_runs(config)), grid.probed_tasks(config)
    lines = [[run for run in line if run in runs] for line in section["runs"]]
    missing = grid.unavailable(config, section["models"], section["tasks"])
    return {
        "series": [{"title": titles[line[0]]["title"], "runs": line} for line in lines if line],
        "models": [[model, config["models"][model]["title"]] for model in grid.probed_models(config)],
        "tasks": [[task, config["tasks"][task]["title"]] for task in tasks],
        "neighbours": section["neighbours"],
        "confidence": config["statistics"]["confidence"],
        "resamples": config["statistics"]["bootstrap_resamples"],
        "bootstrap_seed": config["statistics"]["bootstrap_seed"],
        "notes": grid.run_notes(config, [line[0] for line in section["runs"]])
        + [f"Not available: {entry['title']} ({entry['reason']})." for entry in missing]
        + grid.split_note(config),
        "dpi": config["figures"]["dpi"],
    }


def reconstructions(config: Config, run: str) -> Config:
    title = config["pretraining"]["runs"][run]["title"]
    return {"title": title, "organs": config["organs"], "dpi": config["figures"]["dpi"]}


def loss_curves(config: Config) -> Config:
    runs = grid.curve_runs(config)
    seen = {dataset for run in runs for dataset in available_datasets(config, run)}
    wanted = [run for line in config["probes"]["runs"] for run in line] + config["reconstructions"]["runs"]
    wanted += [
        config["models"][model]["pretraining"]
        for item in grid.trained(config).values()
        for model in item["models"]
        if item["tasks"] and "pretraining" in config["models"][model]
    ]
    return {
        "runs": [
            {
                "name": run,
                "title": config["pretraining"]["runs"][run]["title"],
                "targets": _targets_in_words(config, run),
                "stand_in": _teacher_stands_in(config, run),
            }
            for run in runs
        ],
        "simulated": any(is_simulated(config, dataset) for dataset in seen),
        "notes": grid.run_notes(config, dict.fromkeys(wanted)),
        "dpi": config["figures"]["dpi"],
    }


def _teacher_stands_in(config: Config, run: str) -> bool:
    return config["teachers"][pretraining_settings(config, run)["teacher"]].get("file") in stand_ins(config)


def _targets_in_words(config: Config, run: str) -> str:
    """What a run regresses: runs for which this agrees have comparable losses."""
    settings = pretraining_settings(config, run)
    record = config["teachers"][settings["teacher"]]
    pixels = "pixels, standardised by patch" if record.get("norm_pix") else "pixels"
    words = [pixels if record["kind"] == "pixels" else f"tokens of {settings['teacher']}"]
    words += ["standardised"] if settings["target_norm"] == "layernorm" else []
    words += ["all patches"] if settings["loss_on"] == "all" else []
    words += [f"blur {settings['blur_sigma']:g}"] if settings["blur_sigma"] else []
    return "Targets: " + ", ".join(words)


def duplicates_sheet(config: Config) -> Config:
    return {"pairs": config["audit"]["sheet_pairs"], "dpi": config["audit"]["sheet_dpi"]}
