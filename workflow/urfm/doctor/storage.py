"""What cached targets take on disk, what loaders of pre-training take of memory, and whether it fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from urfm.core.progress import human_bytes
from urfm.doctor.entries import Entry
from urfm.doctor.lines import heading, wrap
from urfm.plan.availability import Config, is_simulated, pretraining_settings, wanted_datasets
from urfm.plan.settings.pretraining import targets, uses_cache
from urfm.targets.size import bytes_needed, token_shape

SHARED = Path("/dev/shm")


def storage(config: Config, found: list[Entry], results: Path, width: int) -> Iterator[str]:
    """For each teacher whose targets are cached: what they take, and whether it fits. Nothing if none are.

    Images count as found; of a set that is not here, as expected; a simulated one that is not made yet is named.
    """
    runs = [run for run in config["pretraining"]["runs"] if uses_cache(config, run)]
    teachers = dict.fromkeys(pretraining_settings(config, run)["teacher"] for run in runs)
    if not teachers:
        return
    states = {entry.name: entry.state for entry in found if entry.is_dataset}
    root = results.resolve()
    place = next(folder for folder in (root, *root.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    yield f"{heading('Cached targets', str(results))}, {human_bytes(free)} free"
    remaining = 0
    for teacher in teachers:
        own = [run for run in runs if pretraining_settings(config, run)["teacher"] == teacher]
        wanted = dict.fromkeys(name for run in own for name in wanted_datasets(config, run))
        not_here = [name for name in wanted if states[name].images is None]
        images = {name: _expected(config, name) if name in not_here else states[name].images for name in wanted}
        unknown = [name for name in not_here if images[name] is None]
        expected = [name for name in not_here if images[name] is not None]

        settings = targets(config, teacher)
        views, dtype = settings["views"], settings["view_dtype"]
        tokens, dim = token_shape(settings["teacher"], settings["input_size"])
        number = sum(count or 0 for count in images.values())
        needed = bytes_needed(number, views, tokens, dim, dtype)
        there = sum(path.stat().st_size for path in (results / "targets" / teacher).rglob("*.bin"))
        remaining += max(needed - there, 0)
        text = f"{teacher}: {number:,} images x {views} views x {tokens} tokens x {dim} channels as {dtype}: "
        text += f"{human_bytes(needed)}, {human_bytes(there)} of them there"
        for why, names in (("as expected, because not here", expected), ("not counted, because not made yet", unknown)):
            if names:
                text += f"; {why}: {'all of them' if len(names) == len(wanted) > 1 else ', '.join(names)}"
        yield from wrap(text, width, 2)
    if remaining > free:
        ways = "lower `views`, use `view_dtype: int8` (half of float16), or `targets: online` (none)"
        yield from wrap(f"too little is free: {human_bytes(remaining)} more are needed; {ways}", width, 2)
    yield ""


def loaders(config: Config, width: int) -> Iterator[str]:
    """The shared memory that pre-training's loaders hold ahead on a computer, of the run that takes the most.

    Each process of a training has its share of the threads, all but one of them load, and a loader holds two parts of
    `micro_batch` images ahead (PyTorch's prefetch_factor).
    """
    granted = config["resources"]["pretrain"]
    processes = max(granted["gpus"], 1)
    workers = max(granted["threads"] - processes, 0) // processes * processes
    if not (workers and config["pretraining"]["runs"]):
        return
    needed = {}
    for run in config["pretraining"]["runs"]:
        settings = pretraining_settings(config, run)
        part = settings["batch_size"] // (processes * granted["nodes"])
        part = min(granted.get("micro_batch") or part, part)
        needed[run] = 2 * workers * part * _image_bytes(config, run)
    run = max(needed, key=lambda name: needed[name])
    there = f", {human_bytes(shutil.disk_usage(SHARED).total)} here" if SHARED.is_dir() else ""
    text = f"Loaders of pre-training: {workers} on each computer hold up to {human_bytes(needed[run])} ahead ({run}) "
    text += f"in {SHARED}{there}; less with fewer resources.pretrain.threads or a smaller micro_batch"
    yield from wrap(text, width, 0)
    yield ""


def _image_bytes(config: Config, run: str) -> int:
    """Of an image in training: the crop, and what its target comes from."""
    settings = pretraining_settings(config, run)
    side, teacher = int(settings["input_size"]), config["teachers"][settings["teacher"]]
    if uses_cache(config, run):
        tokens, dim = token_shape(teacher, side)
        return 3 * side**2 + tokens * dim * (4 if settings["view_dtype"] == "int8" else 2)
    seen = int(teacher.get("input_size") or side)
    return 3 * side**2 + (3 * seen**2 if seen != side or settings["blur_sigma"] else 0)


def _expected(config: Config, name: str) -> int | None:
    """Images that a data set should have; None if nobody says, or if it is simulated."""
    record = config["datasets"][name]
    if is_simulated(config, name):
        return None
    number: int | None = record.get("origin", {}).get("images", record.get("expected", {}).get("images"))
    return number
