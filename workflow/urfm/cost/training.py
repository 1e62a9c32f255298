"""What each pre-training run and each fine-tuning cell computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from urfm.config.models import CheckpointSettings, TeacherSettings
from urfm.config.pretraining import PretrainSettings
from urfm.cost import flops, images
from urfm.cost.cards import Work
from urfm.plan import grid, settings
from urfm.plan.availability import Config, available_datasets, is_frozen, pretraining_settings
from urfm.plan.grid import Cell

EVALUATION = "tf32"  # products of urfm.training.finetune.loop.predict, unless training is in fp32
# Of a hundred epochs so many are the best so far and predict the test part too; five if scores differ by chance alone.
BEST = 10


class Run(NamedTuple):
    """A pre-training run; without work where its images are not known."""

    name: str
    images: int | None
    work: Work
    parameters: int
    recipe: PretrainSettings


class Tuned(NamedTuple):
    """A fine-tuning cell with all seeds; without work where its images are not known."""

    cell: Cell
    training: Work
    evaluation: Work
    parameters: int

    @property
    def work(self) -> Work:
        return self.training + self.evaluation


def runs(config: Config, results: Path) -> Iterator[Run]:
    """The pre-training runs that figures, probes and reconstructions need."""
    for name in grid.curve_runs(config):
        recipe = PretrainSettings.model_validate(settings.pretraining.pretraining(config, name))
        network = flops.pretraining(recipe)
        number = images.of_run(config, results, name)
        batch = min(recipe.batch_size, number or 0)
        seen = recipe.epochs * (number // batch) * batch if number else 0
        an_image = network.step + (0 if recipe.cached else network.teacher)
        yield Run(name, number, Work({recipe.precision: seen * an_image}), network.parameters, recipe)


def targets(config: Config, results: Path) -> dict[tuple[str, str], tuple[int | None, Work]]:
    """(teacher, data set) -> images and work of targets that are stored."""
    found = {}
    for run in grid.curve_runs(config):
        teacher = pretraining_settings(config, run)["teacher"]
        if settings.pretraining.uses_cache(config, run):
            for dataset in available_datasets(config, run):
                number = images.of_dataset(config, results, dataset)
                found[teacher, dataset] = number, looked_at(config, teacher, number or 0)
    return found


def looked_at(config: Config, name: str, number: int) -> Work:
    """What a teacher computes for all views of so many images."""
    defaults = config["pretraining"]["defaults"]
    teacher = TeacherSettings.model_validate(settings.pretraining.teacher(config, name))
    forward, _ = flops.teacher(teacher.model_dump_json(), defaults["input_size"])
    return Work({defaults["precision"]: number * defaults["views"] * forward})


def cells(config: Config, results: Path) -> Iterator[Tuned]:
    """The cells of all comparisons whose networks are trained."""
    for cell in grid.all_cells(config):
        if is_frozen(config, cell.model):
            continue
        recipe = settings.models.finetuning(config, *cell)
        network = flops.classifier(shape(config, cell.model))
        parts = images.of_task(config, results, cell.task) or dict.fromkeys(("train", "val", "test"), 0)
        train = parts["train"] * cell.share // 100
        batch = max(1, min(recipe["batch_size"], train))
        epochs = recipe["epochs"] * len(config["seeds"])
        others = sum(number for name, number in parts.items() if name not in ("train", "val"))
        predicted = epochs * parts["val"] + epochs * others * BEST // 100
        precision = "fp32" if recipe["precision"] == "fp32" else EVALUATION
        training = Work({recipe["precision"]: epochs * (train // batch) * batch * network.step})
        yield Tuned(cell, training, Work({precision: predicted * network.forward}), network.parameters)


def shape(config: Config, model: str) -> flops.Shape:
    """The network of a model: that of its run, or of its checkpoint."""
    record = config["models"][model]
    if "pretraining" in record:
        run = pretraining_settings(config, record["pretraining"])
        return flops.shape(run["architecture"], run["model_args"], run["input_size"])
    return flops.checkpoint_shape(
        CheckpointSettings.model_validate(settings.models.encoder(config, model)["checkpoint"])
    )
