"""What encoders, fine-tuning, statistics and the looks into networks read."""

from __future__ import annotations

from urfm.plan import grid
from urfm.plan.availability import Config, pretraining_settings, stand_ins
from urfm.plan.settings.common import weights
from urfm.plan.settings.pretraining import teacher


def encoder(config: Config, model: str) -> Config:
    record = config["models"][model]
    blurred = {"blur_sigma": record["blur_sigma"]} if "blur_sigma" in record else {}
    checkpoint = weights(config, record["checkpoint"]) if "checkpoint" in record else None
    return {"model": model, "checkpoint": checkpoint, **blurred}


def stand_in(config: Config, file: str) -> Config:
    """The size of an upstream file and its format; its hash is the published file's."""
    return {"checkpoint": weights(config, stand_ins(config)[file]), "seed": config["stand_ins"]["seed"]}


def export(config: Config, model: str) -> Config:
    record = config["models"][model]
    licence = record.get("checkpoint", {}).get("origin", {}).get("licence", "")
    return {"title": record["title"], "licence": licence}


def finetuning(config: Config, model: str, task: str, share: int, keep_weights: bool = False) -> Config:
    kept = {"keep_weights": True} if keep_weights else {}
    return {**_recipe(config, model), **_cell(config, model, task, share), **kept}


def frozen(config: Config, model: str, task: str, share: int) -> Config:
    """The method of a baseline or of a classifier on a frozen encoder, and what that reads."""
    record = config["models"][model]
    read: Config = {"method": record.get("baseline") or record["mode"]}
    if "baseline" not in record:
        recipe = _recipe(config, model)
        read |= {key: recipe[key] for key in ("pooling", "evaluation_resize")}
    if read["method"] == "knn":
        read |= {key: config["probes"][key] for key in ("neighbours", "temperature")}
    return read | _cell(config, model, task, share)


def _recipe(config: Config, model: str) -> Config:
    return {**config["finetuning"], **config["models"][model].get("finetuning", {})}


def _cell(config: Config, model: str, task: str, share: int) -> Config:
    return {
        "model": model,
        "task": task,
        "share": share,
        "split": config["finetuning"]["split"],
        "classes": list(config["tasks"][task]["classes"]),
        "seeds": config["seeds"],
    }


def statistics(config: Config, name: str) -> Config:
    item = config["comparisons"][name]
    own = {key: item[key] for key in ("subset", "lines") if item.get(key)}
    tasks = {task: config["tasks"][task] for task in grid.available_tasks(config, item)}
    if positive := {task: record["positive"] for task, record in tasks.items() if "positive" in record}:
        own["positive"] = positive
    return {"comparison": name, "reference": item["reference"], **own, **config["statistics"]}


def attention(config: Config, task: str) -> Config:
    record, recipe = config["models"][config["figures"]["model"]], pretraining_settings(config, pictured_run(config))
    released: Config = {}
    if "checkpoint" in record:
        of_file = {"file": record["checkpoint"]["file"], "ema": record["checkpoint"].get("ema", True)}
        released = {"released": of_file | {key: recipe[key] for key in ("decoder", "mask_ratio", "target_norm")}}
    return {
        "reader": config["datasets"][config["tasks"][task]["dataset"]]["reader"],
        **{key: config["figures"]["figure_6"][key] for key in ("images", "attention")},
        "teacher": teacher(config, recipe["teacher"]),
        **released,
    }


def embeddings(config: Config) -> Config:
    kept = {key: config["figures"]["figure_7"][key] for key in ("images", "perplexity", "seed")}
    return kept | {key: config["finetuning"][key] for key in ("pooling", "evaluation_resize")}


def pictured_run(config: Config) -> str:
    """The pre-training run of the model that figures 1, 6 and 7 look at, or that its released file is like."""
    record = config["models"][config["figures"]["model"]]
    return str(record.get("pretraining", record.get("decoder")))
