"""What each rule reads of the configuration, and nothing else: an edit reruns exactly the rules that read it.

Titles, colours and resources are left out wherever no number depends on them. What has an order is a list, because
canonical JSON sorts the keys of objects.
"""

from __future__ import annotations

from typing import Any

from urfm.core.errors import UrfmError
from urfm.plan import grid
from urfm.plan.availability import (
    Config,
    available_datasets,
    is_simulated,
    missing_dataset,
    missing_images,
    missing_model,
    missing_task,
    organs_of,
    pretraining_settings,
    stand_ins,
    wanted_datasets,
)

# Which images a run trains on.
SET_KEYS = ("organs", "share", "max_images", "exclude_downstream_test", "seed")
# What the cached views of a data set depend on; runs share them, so they must agree with the defaults.
VIEW_KEYS = ("input_size", "views", "view_dtype", "crop_scale", "flip", "seed")


def _without_origin(record: Config) -> Config:
    """Where a file is published changes no result."""
    return {key: value for key, value in record.items() if key != "origin"}


def _weights(config: Config, record: Config) -> Config:
    """What is read of a checkpoint or a teacher; a stand-in has another hash than the published file."""
    kept = _without_origin(record)
    if record.get("file") in stand_ins(config):
        kept.pop("sha256", None)
    return kept


def download(config: Config) -> Config:
    """What to fetch: what is asked for, or all that is open; one of several data sets that share a folder."""
    archives: dict[str, Config] = {}
    for name in _asked_for(config, "datasets"):
        record = config["datasets"][name]
        origin = record.get("origin", {})
        if origin.get("access") == "open" and not is_simulated(config, name):
            kept = {key: value for key, value in origin.items() if key not in ("access", "steps", "images")}
            archives.setdefault(record["folder"], {"dataset": name, "folder": record["folder"], **kept})
    weights: dict[str, Config] = {}
    for section in ("teachers", "models"):
        for name in _asked_for(config, section):
            record = config[section][name].get("checkpoint", config[section][name])
            origin = record.get("origin", {})
            if origin.get("access") == "open" and record["file"] not in stand_ins(config):
                item = {"name": name, "file": record["file"], **{key: origin[key] for key in ("where", "licence")}}
                published = {"hash": f"sha256:{record['sha256']}"} if "sha256" in record else {}
                address = {key: value for key, value in origin["files"][0].items() if key != "name"}
                weights.setdefault(record["file"], {**item, **published, **address})
    return {"archives": list(archives.values()), "weights": list(weights.values())}


def _asked_for(config: Config, section: str) -> list[str]:
    """The names of a section that `download` holds; all if it is empty."""
    return [name for name in config[section] if name in config["download"] or not config["download"]]


def doctor(config: Config) -> Config:
    """Everything that names data sets and checkpoints, or needs them; sections as pairs, to keep their order."""
    folders = ("data_root", "checkpoint_root", "strict_counts", "simulation", "stand_ins", "pretraining", "organs")
    sections = ("datasets", "tasks", "teachers", "models", "comparisons", "tables")
    return {
        "finetuning": {"split": config["finetuning"]["split"]},
        **{key: config[key] for key in folders},
        **{key: list(config[key].items()) for key in sections},
        "figures": {name: config["figures"][name] for name in grid.COMPARING},
    }


def simulate(config: Config, dataset: str) -> Config:
    """The archive that the data set's reader reads; the generic format does not say what is in it, `expected` does."""
    record = config["datasets"][dataset]
    settings = {"dataset": dataset, "layout": record["reader"], **config["simulation"][dataset]}
    if record["reader"] == "generic":
        expected = record.get("expected", {})
        settings |= {"organ": record["organ"], "labels": expected.get("labels", {})}
        if "images" in expected and "patients" in expected:
            settings["images_per_patient"] = expected["images"] / expected["patients"]
    return settings


def manifest(config: Config, dataset: str) -> Config:
    record = config["datasets"][dataset]
    return {
        "dataset": dataset,
        "expected": {},
        **_without_origin(record),
        "organ": record["organ"] if isinstance(record["organ"], str) else "",  # each record has its own
        "strict_counts": config["strict_counts"] and not is_simulated(config, dataset),
    }


def images(config: Config) -> Config:
    return dict(config["images"])


def split(config: Config, task: str, split: str) -> Config:
    """`seed-<n>` divides with seed n, all other splits with splits.seed; UltraBench's alone reads where it lies."""
    record = config["tasks"][task]
    own = {"seed": int(split.removeprefix("seed-"))} if split.startswith("seed-") else {}
    if split == "ultrabench":
        own = {"ultrabench": record.get("ultrabench", "")}
    return {
        "task": task,
        "split": split,
        "classes": list(record["classes"]),
        "images_per_patient": record.get("images_per_patient", "all"),
        "expected": record.get("expected", {}),
        "strict_counts": config["strict_counts"] and not is_simulated(config, record["dataset"]),
        **config["splits"],
        **own,
    }


def teacher(config: Config, name: str) -> Config:
    return {"name": name, **_weights(config, config["teachers"][name])}


def targets(config: Config, name: str) -> Config:
    defaults = config["pretraining"]["defaults"]
    return {"teacher": teacher(config, name), **{key: defaults[key] for key in VIEW_KEYS}}


def pretrain_set(config: Config, run: str) -> Config:
    """Which images of which data sets; without tasks, unless their patients are excluded."""
    settings = pretraining_settings(config, run)
    excludes = settings["exclude_downstream_test"]
    return {
        "run": run,
        **{key: settings[key] for key in SET_KEYS},
        "dataset_organs": {name: organs_of(config, name) for name in available_datasets(config, run)},
        "tasks_not_here": [task for task in config["tasks"] if excludes and missing_task(config, task)],
    }


def pretraining(config: Config, run: str) -> Config:
    """A run's settings; which images it sees is said by the rule's inputs."""
    settings = pretraining_settings(config, run)
    if uses_cache(config, run):
        for key in VIEW_KEYS:
            # A run's own seed draws among the views that are there.
            if key != "seed" and settings[key] != config["pretraining"]["defaults"][key]:
                raise UrfmError(
                    f"pretraining.runs.{run}.{key}: with `targets: cached` it must equal pretraining.defaults.{key}, "
                    "because runs share the stored views; use `targets: online` for this run, or change the default"
                )
    unread = {"title", "datasets", *SET_KEYS} - {"seed"}
    unread |= set() if uses_cache(config, run) else {"views", "view_dtype"}
    kept = {key: value for key, value in settings.items() if key not in unread}
    return {**kept, "run": run, "teacher": teacher(config, settings["teacher"])}


def uses_cache(config: Config, run: str) -> bool:
    """Pixels are their own target: there is nothing to store."""
    settings = pretraining_settings(config, run)
    kind = config["teachers"][settings["teacher"]]["kind"]
    return bool(settings["targets"] == "cached" and kind != "pixels")


def audit(config: Config) -> Config:
    return {"distance": config["audit"]["distance"]}


def duplicates_sheet(config: Config) -> Config:
    return {"pairs": config["audit"]["sheet_pairs"], "dpi": config["audit"]["sheet_dpi"]}


def encoder(config: Config, model: str) -> Config:
    record = config["models"][model]
    return {"model": model, "checkpoint": _weights(config, record["checkpoint"]) if "checkpoint" in record else None}


def stand_in(config: Config, file: str) -> Config:
    """The size of an upstream file and its format; its hash is the published file's."""
    return {"checkpoint": _weights(config, stand_ins(config)[file]), "seed": config["stand_ins"]["seed"]}


def export(config: Config, model: str) -> Config:
    record = config["models"][model]
    licence = record.get("checkpoint", {}).get("origin", {}).get("licence", "")
    return {"title": record["title"], "licence": licence}


def finetuning(config: Config, model: str, task: str, share: int, keep_weights: bool = False) -> Config:
    settings = {**config["finetuning"], **config["models"][model].get("finetuning", {})}
    return {
        **settings,
        "model": model,
        "task": task,
        "share": share,
        "split": config["finetuning"]["split"],
        "classes": list(config["tasks"][task]["classes"]),
        "seeds": config["seeds"],
        **({"keep_weights": True} if keep_weights else {}),
    }


def statistics(config: Config, name: str) -> Config:
    item = config["comparisons"][name]
    subset = {"subset": item["subset"]} if "subset" in item else {}
    return {"comparison": name, "reference": item["reference"], **subset, **config["statistics"]}


def figure(config: Config, name: str) -> Config:
    """What a figure over models and tasks prints: titles in order, what is missing, and the look."""
    return {
        **comparison(config, name),
        "confidence": config["statistics"]["confidence"],
        "dpi": config["figures"]["dpi"],
    }


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


def figure_5(config: Config) -> Config:
    """With the tasks of each model's organ, for models that are pre-trained on one organ."""
    own, item = {}, config["comparisons"][config["figures"]["figure_5"]["comparison"]]
    for model in item["models"]:
        run = config["models"][model].get("pretraining")
        organs = pretraining_settings(config, run)["organs"] if run else []
        if len(organs) == 1:
            own[model] = [task for task in item["tasks"] if organ_of(config, task) == organs[0]]
    return {**comparisons(config, "figure_5"), "own": own}


def figure_8(config: Config) -> Config:
    """With the runs of the models of panel A, and the organs of its tasks."""
    item = config["comparisons"][config["figures"]["figure_8"]["data"]]
    organs = {task: organ_of(config, task) for task in item["tasks"]}
    return {
        **comparisons(config, "figure_8"),
        "runs": {
            model: config["models"][model]["pretraining"]
            for model in item["models"]
            if "pretraining" in config["models"][model]
        },
        "organs": {task: [organ, config["organs"][organ]] for task, organ in organs.items() if organ},
    }


def organ_of(config: Config, task: str) -> str:
    """The organ of a task's data set; empty where it holds several."""
    organs = organs_of(config, config["tasks"][task]["dataset"])
    return organs[0] if len(organs) == 1 else ""


def comparison(config: Config, name: str) -> Config:
    """Titles in order, and what is missing of one comparison."""
    item = config["comparisons"][name]
    tasks = grid.available_tasks(config, item)
    return {
        "models": [[model, config["models"][model]["title"]] for model in grid.available_models(config, name)],
        "tasks": [[task, config["tasks"][task]["title"], config["tasks"][task]["group"]] for task in tasks],
        # Of a comparison that an overlay leaves out nothing is missing.
        "unavailable": item["tasks"] and grid.unavailable(config, item["models"], item["tasks"], grid.subset_of(item)),
        "notes": grid.split_note(config) + grid.partial_pretraining(config, grid.available_models(config, name)),
        "reference": item["reference"],
    }


def summary(config: Config, name: str) -> Config:
    """What the critical-difference diagram and the reliability curves of a comparison print."""
    drawn = figure(config, name)
    return {
        "models": drawn["models"],
        "tasks": [[task, title] for task, title, _ in drawn["tasks"]],
        **{key: drawn[key] for key in ("unavailable", "notes", "dpi")},
    }


def pictured_run(config: Config) -> str:
    """The pre-training run of the model that figures 1, 6 and 7 look at."""
    return str(config["models"][config["figures"]["model"]]["pretraining"])


def attention(config: Config, task: str) -> Config:
    return {
        "reader": config["datasets"][config["tasks"][task]["dataset"]]["reader"],
        "images": config["figures"]["figure_6"]["images"],
        "teacher": teacher(config, pretraining_settings(config, pictured_run(config))["teacher"]),
    }


def embeddings(config: Config) -> Config:
    kept = {key: config["figures"]["figure_7"][key] for key in ("images", "perplexity", "seed")}
    return kept | {key: config["finetuning"][key] for key in ("pooling", "evaluation_resize")}


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
    stand_ins = [config["models"][model]["title"] for model in shown if model in config["stand_ins"]["models"]]
    marked = f"Stand-in (random weights in the upstream format), not the published model: {', '.join(stand_ins)}."
    return {
        "tasks": _pictured(config, tasks),
        "unavailable": grid.unavailable(config, models, wanted),
        "notes": ([marked] if stand_ins else []) + grid.split_note(config) + grid.partial_pretraining(config, there),
        "dpi": config["figures"]["dpi"],
    }


def figure_1(config: Config) -> Config:
    item = config["figures"]["figure_1"]
    compared = config["comparisons"][item["comparison"]]["models"]
    return {
        **_picture(config, "figure_1", [config["figures"]["model"]], grid.available_tasks(config, item)),
        "organs": [[organ, name] for organ, name in config["organs"].items()],
        "models": [[model, config["models"][model]["title"]] for model in compared],
        "model": config["models"][config["figures"]["model"]]["title"],
    }


def figure_6(config: Config) -> Config:
    model = config["figures"]["model"]
    picture = _picture(config, "figure_6", [model], grid.pictured_tasks(config, "figure_6"))
    return {**picture, "model": config["models"][model]["title"]}


def figure_7(config: Config) -> Config:
    after, before = config["figures"]["model"], config["figures"]["figure_7"]["before"]
    tasks = grid.available_tasks(config, config["figures"]["figure_7"])
    named = {name: [model, config["models"][model]["title"]] for name, model in (("before", before), ("after", after))}
    return {**_picture(config, "figure_7", [before, after], tasks), **named}


def probe(config: Config, name: str, task: str) -> Config:
    """Of a run or a model; untrained networks are probed with the first run only, since they are alike."""
    keys = ("pooling", "neighbours", "temperature")
    first = grid.probed_runs(config)[:1]
    return {
        "name": name,
        "task": task,
        "classes": list(config["tasks"][task]["classes"]),
        "random_seeds": config["probes"]["random_seeds"] if [name] == first else [],
        **{key: config["probes"][key] for key in keys},
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


def reconstruct(config: Config) -> Config:
    return {"images": config["reconstructions"]["images"]}


def reconstructions(config: Config, run: str) -> Config:
    title = config["pretraining"]["runs"][run]["title"]
    return {"title": title, "organs": config["organs"], "dpi": config["figures"]["dpi"]}


def loss_curves(config: Config) -> Config:
    runs = grid.curve_runs(config)
    seen = {dataset for run in runs for dataset in available_datasets(config, run)}
    wanted = [run for line in config["probes"]["runs"] for run in line] + config["reconstructions"]["runs"]
    wanted += [
        config["models"][model]["pretraining"]
        for item in config["comparisons"].values()
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


def comparison_with_paper(config: Config) -> Config:
    """The paper's numbers, and what differs from the paper's protocol by model ('' for every model)."""
    item = config["tables"]["comparison_with_paper"]
    tasks = {entry["task"] for entry in item["paper"]} - {"average"}
    models = {entry["model"] for entry in item["paper"]}
    here = grid.unavailable(config, sorted(models), sorted(tasks))
    reasons = {model: _other_recipe(config, model, item["recipe"]) for model in models}
    return {
        "paper": item["paper"],
        "titles": {name: config[section][name]["title"] for section in ("tasks", "models") for name in config[section]},
        "tasks": {name: len(item["tasks"]) for name, item in config["comparisons"].items()},
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


def claims(config: Config) -> Config:
    names = {claim["comparison"] for claim in config["tables"]["claims"]}
    titles = {name: name.replace("figure_", "").upper() for name in sorted(names)}
    return {"claims": config["tables"]["claims"], "titles": titles}


def settings_table(config: Config, table: str) -> Config:
    """Table 4: the run `urfm`. Table 5: all models, and what a model has of its own."""
    own = {
        f"{record['title']} only": ", ".join(f"{key} {value}" for key, value in record["finetuning"].items())
        for record in (config["models"][model] for model in grid.models(config))
        if "finetuning" in record
    }
    pretraining = pretraining_settings(config, "urfm")
    del pretraining["title"], pretraining["snapshot_every"]
    pretraining["organs"] = pretraining["organs"] or ["all"]
    values: dict[str, Any] = {
        "table_4": pretraining,
        "table_5": {**config["finetuning"], "seeds": config["seeds"], **own},
    }
    return {"table": table, "values": values[table]}


def report(config: Config) -> Config:
    """The configuration that the report prints: all of it but what no result depends on."""
    sections = ("images", "splits", "audit", "finetuning", "seeds", "statistics")
    return doctor(config) | {key: config[key] for key in sections}
