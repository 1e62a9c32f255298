"""What cached targets take on disk, and whether it fits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from urfm.core.kept import PREFIX
from urfm.core.progress import human_bytes
from urfm.doctor.entries import Entry
from urfm.doctor.lines import heading, wrap
from urfm.plan.availability import Config, is_simulated, pretraining_settings, wanted_datasets
from urfm.plan.settings.pretraining import targets, uses_cache
from urfm.targets.size import bytes_needed, token_shape


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
        there = sum(path.stat().st_size for path in _made(results / "targets" / teacher))
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


def _made(folder: Path) -> Iterator[Path]:
    """The files of tokens, those of a build that goes on included; each once, whatever other names it has."""
    return (path for path in folder.rglob("*.bin") if not path.parent.name.startswith(PREFIX))


def _expected(config: Config, name: str) -> int | None:
    """Images that a data set should have; None if nobody says, or if it is simulated."""
    record = config["datasets"][name]
    if is_simulated(config, name):
        return None
    number: int | None = record.get("origin", {}).get("images", record.get("expected", {}).get("images"))
    return number
