"""What a run of everything leaves on disk, and what training holds there meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from urfm.cost import images
from urfm.cost.jobs import blurred_stores
from urfm.cost.training import Run, Tuned
from urfm.plan import grid
from urfm.plan.availability import Config
from urfm.plan.settings.pretraining import targets as target_settings
from urfm.targets.size import bytes_needed, token_shape

ASPECT = 0.75  # short to long side of most scans
ADAMW = 12  # bytes a parameter: its value and two moments


def storage(
    config: Config, results: Path, runs: Sequence[Run], cells: Sequence[Tuned], stored: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, float, str]]:
    """What it is, bytes, and how they come about; in the order in which it is made."""
    side = config["images"]["long_side"]
    how = f"images of {side} x {round(side * ASPECT)}, grey; three times as much in colour"
    names = images.datasets(config)
    second = [name for _, name in blurred_stores(config)]
    for title, wanted in (("image stores", names), ("stores of blurred images", second)):
        made = {name: images.recorded(results / "images" / name / "store.json").get("bytes") for name in wanted}
        estimated = [images.of_dataset(config, results, name) or 0 for name in wanted if not made[name]]
        size = sum(made[name] or 0 for name in wanted) + sum(estimated) * side * side * ASPECT
        if wanted:
            yield title, size, how if estimated else "as made"
    for teacher in dict.fromkeys(teacher for teacher, _ in stored):
        settings = target_settings(config, teacher)
        number = sum(images.of_dataset(config, results, name) or 0 for own, name in stored if own == teacher)
        shape = token_shape(settings["teacher"], settings["input_size"])
        size = bytes_needed(number, settings["views"], *shape, settings["view_dtype"])
        yield f"targets of {teacher}", size, f"{settings['views']} views an image as {settings['view_dtype']}"
    weights = sum(4 * run.parameters for run in runs)
    yield "networks that were pre-trained", 2 * weights, "encoder and decoder, in the results and in the state"
    kept = sum(2 * run.parameters * len(run.recipe.snapshots) for run in runs)
    if kept:
        yield "their snapshots", 2 * kept, "snapshot_every, float16, in the results and in the state"
    encoders = {cell.cell.model: 4 * cell.parameters for cell in cells}
    yield "encoders", sum(encoders.values()), "one form for all"
    pictured = {(config["figures"]["model"], task) for task in grid.kept_tasks(config)}
    tuned = [cell for cell in cells if cell.cell[:2] in pictured and cell.cell.share == 100]
    yield "fine-tuned networks", sum(8 * cell.parameters for cell in tuned), "of the first seed, for figures 6 and 7"
    at_work = [2 * (ADAMW + 4 * (run.recipe.ema_decay > 0)) * run.parameters for run in runs]
    if at_work:
        yield "while a run trains, at most", max(at_work), "its checkpoint and the one before, until it ends"
    if cells:
        most = max(cell.parameters for cell in cells)
        yield "while a cell trains, at most", 2 * ADAMW * most, "the same, one seed at a time"
