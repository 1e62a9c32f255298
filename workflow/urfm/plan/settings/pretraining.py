"""What teachers, stored targets, pre-training and the probes of its snapshots read."""

from __future__ import annotations

from urfm.core.errors import UrfmError
from urfm.plan import grid
from urfm.plan.availability import Config, available_datasets, missing_task, organs_of, pretraining_settings
from urfm.plan.settings.common import weights

# Which images a run trains on.
SET_KEYS = ("organs", "share", "max_images", "exclude_downstream_test", "seed")
# What the cached views of a data set depend on; runs share them, so they must agree with the defaults.
VIEW_KEYS = ("input_size", "views", "view_dtype", "crop_scale", "flip", "seed")


def teacher(config: Config, name: str) -> Config:
    return {"name": name, **weights(config, config["teachers"][name])}


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


def uses_cache(config: Config, run: str) -> bool:
    """Pixels are their own target: there is nothing to store."""
    settings = pretraining_settings(config, run)
    kind = config["teachers"][settings["teacher"]]["kind"]
    return bool(settings["targets"] == "cached" and kind != "pixels")


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


def reconstruct(config: Config) -> Config:
    return {"images": config["reconstructions"]["images"]}
