"""What encoders, fine-tuning, statistics and the looks into networks read."""

from __future__ import annotations

from urfm.plan.availability import Config, pretraining_settings, stand_ins
from urfm.plan.settings.common import weights
from urfm.plan.settings.pretraining import teacher


def encoder(config: Config, model: str) -> Config:
    record = config["models"][model]
    return {"model": model, "checkpoint": weights(config, record["checkpoint"]) if "checkpoint" in record else None}


def stand_in(config: Config, file: str) -> Config:
    """The size of an upstream file and its format; its hash is the published file's."""
    return {"checkpoint": weights(config, stand_ins(config)[file]), "seed": config["stand_ins"]["seed"]}


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


def attention(config: Config, task: str) -> Config:
    return {
        "reader": config["datasets"][config["tasks"][task]["dataset"]]["reader"],
        "images": config["figures"]["figure_6"]["images"],
        "teacher": teacher(config, pretraining_settings(config, pictured_run(config))["teacher"]),
    }


def embeddings(config: Config) -> Config:
    kept = {key: config["figures"]["figure_7"][key] for key in ("images", "perplexity", "seed")}
    return kept | {key: config["finetuning"][key] for key in ("pooling", "evaluation_resize")}


def pictured_run(config: Config) -> str:
    """The pre-training run of the model that figures 1, 6 and 7 look at."""
    return str(config["models"][config["figures"]["model"]]["pretraining"])
