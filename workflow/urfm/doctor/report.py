"""What is there, what it is good for, and where to get the rest: a report for a person, without network.

Marks and words say the same, so no colour is needed: `+` present, `~` partial, `-` absent, `*` simulated or
stand-in.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.progress import human_bytes, say
from urfm.doctor.inventory import State, checkpoint_files, look_at_dataset, look_at_file
from urfm.plan.availability import (
    Config,
    is_simulated,
    missing_split,
    pretraining_settings,
    stand_ins,
    wanted_datasets,
)
from urfm.plan.grid import figure_of
from urfm.plan.settings import targets, uses_cache
from urfm.targets.size import bytes_needed, token_shape

MARKS = {"present": "+", "partial": "~", "absent": "-", "simulated": "*", "stand-in": "*"}
WAYS = {"open": "free to fetch", "web": "by hand", "form": "through a form", "request": "on request"}  # easiest first
STEPS = 8  # next steps that are listed
INDENT = 13  # columns, of what is said of an entry
GLUE = "\u00a0"  # in place of a space where no line may end: commands stay in one piece


Section = Annotated[dict[str, Any], BeforeValidator(dict)]  # given as pairs, which keep their order in JSON


class DoctorSettings(Settings):
    """Settings: the sections of the configuration that name data sets and checkpoints, or need them."""

    data_root: str
    checkpoint_root: str
    strict_counts: bool
    simulation: dict[str, Any]
    stand_ins: dict[str, Any]
    pretraining: dict[str, Any]
    organs: dict[str, Any]
    finetuning: dict[str, Any]
    datasets: Section
    tasks: Section
    teachers: Section
    models: Section
    comparisons: Section
    figures: dict[str, Any]
    tables: Section


class Entry(NamedTuple):
    """A data set (`name` is its key under datasets) or a checkpoint (`name` is its file below checkpoint_root)."""

    name: str
    path: Path
    state: State
    use: str
    origin: Config
    is_dataset: bool
    key: str  # what `download` calls it


Stock = frozenset[str]  # names of entries that can be worked with


def entries(config: Config) -> Iterator[Entry]:
    """All data sets, then all checkpoints; each is looked at when its turn comes."""
    for name, record in config["datasets"].items():
        path = Path(config["data_root"]) / record["folder"]
        state, use = look_at_dataset(config, name), dataset_use(config, name)
        yield Entry(name, path, state, use, record.get("origin", {}), True, name)
    for name, record in checkpoint_files(config).items():
        path = Path(config["checkpoint_root"]) / name
        state = look_at_file(path, record.get("sha256", ""), name in stand_ins(config))
        use = file_use(config, name)
        yield Entry(name, path, state, use, record.get("origin", {}), False, owner(config, name))


# --- What it is good for ----------------------------------------------------------------------------------------


def drawn(config: Config) -> dict[str, Config]:
    """Comparisons and tables that show tasks or models."""
    items = {**config["comparisons"], **config["tables"]}
    return {name: item for name, item in items.items() if "tasks" in item or "models" in item}


def dataset_use(config: Config, name: str) -> str:
    """Tasks and pre-training that need a data set, and the figures and tables that show them."""
    tasks = [task for task, record in config["tasks"].items() if record["dataset"] == name]
    runs = {run for run in config["pretraining"]["runs"] if name in wanted_datasets(config, run)}
    counted = {"table_1": {config["tables"]["table_1"]["run"]}, "table_3": set(config["tables"]["table_3"]["paper"])}
    tables = [table for table, shown in counted.items() if shown & runs]
    phrases = _shown(config, "task", "tasks", tasks) + _pretraining(config, "pre-training of", runs)
    return "; ".join(phrases + ([f"images in {', '.join(tables)}"] if tables else []))


def owner(config: Config, file: str) -> str:
    """The teacher or the model that a file below checkpoint_root is described by."""
    records = {**config["models"], **config["teachers"]}
    names = (name for name, record in records.items() if record.get("checkpoint", record).get("file") == file)
    return str(next(names))


def file_use(config: Config, file: str) -> str:
    """Models that are loaded from a checkpoint or taught by it, and the figures that show them."""
    loaded = [name for name, model in config["models"].items() if model.get("checkpoint", {}).get("file") == file]
    taught = {run for run in config["pretraining"]["runs"] if _teacher(config, run).get("file") == file}
    return "; ".join(_shown(config, "model", "models", loaded) + _pretraining(config, "teacher of", taught))


def _pretraining(config: Config, words: str, runs: set[str]) -> list[str]:
    models = [name for name, model in config["models"].items() if model.get("pretraining") in runs]
    others = len(runs - {config["models"][name]["pretraining"] for name in models})
    return _shown(config, words, "models", models) + ([f"{others} runs that no model uses"] if others else [])


def _shown(config: Config, words: str, section: str, names: list[str]) -> list[str]:
    """A phrase with their titles and the figures and tables that show them; none if there are no names."""
    groups: dict[str, list[str]] = {}
    for name in names:
        items = [item for item, record in drawn(config).items() if name in record.get(section, [])]
        groups.setdefault(_places(config, items) or "in no figure", []).append(config[section][name]["title"])
    phrases = [f"{', '.join(titles)} ({items})" for items, titles in groups.items()]
    return [f"{words} {', '.join(phrases)}"] if phrases else []


def _places(config: Config, items: list[str]) -> str:
    """ "figures 2, 4, table 2, my_benchmark": figures for their comparisons, tables, and one's own comparisons."""
    places = dict.fromkeys(figure_of(config, item) or item for item in items)
    words = []
    for kind in ("figure", "table"):
        numbers = [place.removeprefix(f"{kind}_") for place in places if place.startswith(f"{kind}_")]
        words += [f"{kind}{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"] if numbers else []
    return ", ".join([*words, *(place for place in places if not place.startswith(("figure_", "table_")))])


def _teacher(config: Config, run: str) -> Config:
    teacher: Config = config["teachers"][pretraining_settings(config, run)["teacher"]]
    return teacher


# --- What can be drawn ------------------------------------------------------------------------------------------


def model_ready(config: Config, model: str, stock: Stock) -> bool:
    """Whether a model can be had from what is in stock: its file, or its teacher and any data set of its run."""
    record = config["models"][model]
    if "checkpoint" in record:
        return record["checkpoint"].get("file") in (None, *stock)
    teacher = _teacher(config, record["pretraining"])
    taught = "hub" in teacher or teacher.get("file") in (None, *stock)
    return taught and not stock.isdisjoint(wanted_datasets(config, record["pretraining"]))


def ready(config: Config, item: Config, stock: Stock) -> dict[str, list[str]]:
    """Titles of the models and of the tasks of a figure or table that can be drawn from what is in stock."""
    models = [model for model in item.get("models", []) if model_ready(config, model, stock)]
    tasks = [task for task in item.get("tasks", []) if config["tasks"][task]["dataset"] in stock]
    tasks = [task for task in tasks if missing_split(config, task) is None]
    return {
        "models": [config["models"][model]["title"] for model in models],
        "tasks": [config["tasks"][task]["title"] for task in tasks],
    }


def gain(config: Config, stock: Stock, more: Iterable[str]) -> list[tuple[str, str]]:
    """(models or tasks, title) of what `more` entries in stock would make drawable in any figure or table."""

    def titles(names: Stock) -> set[tuple[str, str]]:
        found = [ready(config, item, names) for item in drawn(config).values()]
        return {(kind, title) for here in found for kind in here for title in here[kind]}

    return sorted(titles(stock.union(more)) - titles(stock))


def next_steps(config: Config, found: list[Entry], stock: Stock) -> Iterator[str]:
    """What to get: what one command fetches, what completes, and then one by one what adds most models and tasks."""
    missing = [entry for entry in found if not entry.state.usable]
    fetchable = [entry.name for entry in missing if not entry.path.exists() and _is_fetched(entry)]
    if fetchable:
        adds = gain(config, stock, fetchable)
        yield f"{download_command(config)}: fetches {', '.join(fetchable)}{_adds(adds)}"
        stock = stock.union(fetchable)
    for entry in found:
        if entry.state.word == "partial" and entry.state.usable:
            yield f"complete {entry.name}: {entry.state.facts[0]}"
    missing = [entry for entry in missing if entry.name not in fetchable]
    easiest = list(WAYS)
    while missing:
        gains = [gain(config, stock, [entry.name]) for entry in missing]
        efforts = [easiest.index(entry.origin.get("access", "request")) for entry in missing]
        best = max(range(len(missing)), key=lambda number: (len(gains[number]), -efforts[number]))
        if not gains[best]:
            break
        entry = missing.pop(best)
        stock = stock.union([entry.name])
        yield f"{entry.name} from {entry.origin.get('where', 'where you know')}{_adds(gains[best])}"
    rest = [entry.name for entry in missing if "pre-training" in entry.use]
    if rest:
        yield f"more images for pre-training: {', '.join(rest)}"


def _adds(gained: list[tuple[str, str]]) -> str:
    phrases = []
    for kind in ("models", "tasks"):
        titles = [title for of_kind, title in gained if of_kind == kind]
        if titles:
            phrases.append(f"{kind if len(titles) > 1 else kind[:-1]} {', '.join(titles)}")
    return f"; adds {' and '.join(phrases)}" if phrases else ""


# --- What cached targets take -----------------------------------------------------------------------------------


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
    yield f"{_heading('Cached targets', str(results))}, {human_bytes(free)} free"
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
        yield from _wrap(text, width, 2)
    if remaining > free:
        ways = "lower `views`, use `view_dtype: int8` (half of float16), or `targets: online` (none)"
        yield from _wrap(f"too little is free: {human_bytes(remaining)} more are needed; {ways}", width, 2)
    yield ""


def _expected(config: Config, name: str) -> int | None:
    """Images that a data set should have; None if nobody says, or if it is simulated."""
    record = config["datasets"][name]
    if is_simulated(config, name):
        return None
    number: int | None = record.get("origin", {}).get("images", record.get("expected", {}).get("images"))
    return number


# --- The report -------------------------------------------------------------------------------------------------


def report(config: Config, results: Path, width: int) -> Iterator[str]:
    """The lines of the report, each as soon as it is known; `results` is the folder of the results."""
    found: list[Entry] = []
    told: dict[str, str] = {}  # how to get something: the entry that said it
    yield _heading("Data sets", config["data_root"])
    for entry in entries(config):
        if found and found[-1].is_dataset and not entry.is_dataset:
            yield ""
            yield _heading("Checkpoints", config["checkpoint_root"])
        found.append(entry)
        name = f"{entry.name}: " if entry.is_dataset else ""
        yield f"{MARKS[entry.state.word]} {entry.state.word:<{INDENT - 2}}{name}{entry.path}"
        for text in describe(config, entry, told):
            yield from _wrap(text, width, INDENT)
    yield ""
    yield from storage(config, found, results, width)
    yield "What can be drawn now"
    yield from summary(config, found, width)


def _heading(what: str, folder: str) -> str:
    absolute = Path(folder).resolve()
    return f"{what} in {folder}" + (f" ({absolute})" if str(absolute) != folder else "")


def describe(config: Config, entry: Entry, told: dict[str, str]) -> Iterator[str]:
    """How much of an entry is there, what it is for, its licence, and how to get it if it is not whole."""
    if entry.state.facts:
        yield "; ".join(entry.state.facts)
    yield f"for {entry.use or 'nothing that is configured'}"
    if entry.origin:
        yield f"licence: {entry.origin['licence']}"
    if entry.state.word in ("absent", "partial"):
        how = how_to_get(config, entry)
        first = told.setdefault(how, entry.name)
        yield f"get it: {how if first == entry.name else f'as {first}'}"


def how_to_get(config: Config, entry: Entry) -> str:
    """The command that fetches it, or the page and what to do there."""
    if not entry.origin:
        return "no origin is configured; put it there"
    if _is_fetched(entry):
        first = "" if entry.state.word == "absent" or not entry.path.exists() else "move it away, then "
        return f"{first}{download_command(config, entry.key)}"
    way = WAYS[entry.origin["access"]]
    return f"{entry.origin['where']} ({way}). {entry.origin.get('steps', '')}".strip()


def _is_fetched(entry: Entry) -> bool:
    return bool(entry.origin.get("access") == "open")


def download_command(config: Config, name: str = "") -> str:
    """What to type to fetch one data set or weight file, or all that are open."""
    chosen = [f"'download=[{name}]'"] if name else []
    defaults = {"data_root": "data", "checkpoint_root": "checkpoints"}
    places = [f"{key}={shlex.quote(config[key])}" for key, value in defaults.items() if config[key] != value]
    words = ["snakemake --cores 1 download", *(["--config", *chosen, *places] if chosen or places else [])]
    return " ".join(words).replace(" ", GLUE)


def summary(config: Config, found: list[Entry], width: int) -> Iterator[str]:
    """What each figure and table can show now, and what to get next."""
    stock: Stock = frozenset(entry.name for entry in found if entry.state.usable)
    for what, kind in (("data sets", True), ("checkpoints", False)):
        words = Counter(entry.state.word for entry in found if entry.is_dataset == kind)
        yield f"  {what}: {', '.join(f'{words[word]} {word}' for word in MARKS if words[word]) or 'none needed'}"
    for name, item in drawn(config).items():
        have = ready(config, item, stock)
        parts = [
            f"{len(titles)} of {len(item[section])} {section}"
            + (f" ({', '.join(titles)})" if 0 < len(titles) < len(item[section]) else "")
            for section, titles in have.items()
            if section in item
        ]
        nothing = any(section in item and not titles for section, titles in have.items())
        yield from _wrap(f"{name}: {'nothing yet; ' if nothing else ''}{'; '.join(parts)}", width, 2)
    split = config["finetuning"]["split"]
    for task, record in config["tasks"].items():
        if record["dataset"] in stock and (missing := missing_split(config, task)):
            text = f"{task}: left out, because finetuning.split is {split}: {missing.reason} ({missing.detail})"
            yield from _wrap(text, width, 2)
    sources = config["pretraining"]["defaults"]["datasets"]
    there = [name for name in sources if name in stock]
    names = f" ({', '.join(there)})" if 0 < len(there) < len(sources) else ""
    yield from _wrap(f"pre-training: {len(there)} of {len(sources)} data sets{names}", width, 2)
    steps = list(next_steps(config, found, stock))
    if steps:
        yield "What to get next"
    for number, step in enumerate(steps[:STEPS], 1):
        yield from _wrap(f"{number}.{GLUE}{step}", width, 2)


def _wrap(text: str, width: int, indent: int) -> list[str]:
    """Lines of at most `width` columns, but for addresses and commands that are longer: these stay whole."""
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(GLUE, " ") for line in lines]


def terminal_width() -> int:
    """Columns to write in: those of the terminal, between 60 and 100; 100 where there is none."""
    for stream in (sys.stdout, sys.stderr):  # standard output may go through tee
        try:
            return max(60, min(100, os.get_terminal_size(stream.fileno()).columns))
        except (OSError, ValueError):
            continue
    return 100


def main() -> None:
    """Command line. That something is missing is no error."""
    parser = argparse.ArgumentParser(description="Say what is there, what it is good for, and where to get the rest.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(DoctorSettings.model_fields))
    parser.add_argument("--results", type=Path, default=Path("results"), help="where stored targets will lie")
    arguments = parser.parse_args()
    settings = parse_settings(DoctorSettings, arguments.settings)
    for line in report(settings.model_dump(), arguments.results, terminal_width()):
        say(line)


if __name__ == "__main__":
    run(main)
