"""What is there, what it is good for, and where to get the rest: a report for a person, without network.

Marks and words say the same, so no colour is needed: `+` present, `~` partial, `-` absent, `*` simulated or
stand-in.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.progress import say
from urfm.doctor.entries import Entry, entries
from urfm.doctor.lines import GLUE, heading, terminal_width, wrap
from urfm.doctor.needs import drawn
from urfm.doctor.steps import how_to_get, next_steps
from urfm.doctor.stock import Stock, ready
from urfm.doctor.storage import loaders, storage
from urfm.plan.availability import Config, missing_split

MARKS = {"present": "+", "partial": "~", "absent": "-", "simulated": "*", "stand-in": "*"}
STEPS = 8  # next steps that are listed
INDENT = 13  # columns, of what is said of an entry

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
    resources: dict[str, Any] = Field(default_factory=dict)


def report(config: Config, results: Path, width: int) -> Iterator[str]:
    """The lines of the report, each as soon as it is known; `results` is the folder of the results."""
    found: list[Entry] = []
    told: dict[str, str] = {}  # how to get something: the entry that said it
    yield heading("Data sets", config["data_root"])
    for entry in entries(config):
        if found and found[-1].is_dataset and not entry.is_dataset:
            yield ""
            yield heading("Checkpoints", config["checkpoint_root"])
        found.append(entry)
        name = f"{entry.name}: " if entry.is_dataset else ""
        yield f"{MARKS[entry.state.word]} {entry.state.word:<{INDENT - 2}}{name}{entry.path}"
        for text in describe(config, entry, told):
            yield from wrap(text, width, INDENT)
    yield ""
    yield from storage(config, found, results, width)
    if config["resources"]:
        yield from loaders(config, width)
    yield "What can be drawn now"
    yield from summary(config, found, width)


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
        yield from wrap(f"{name}: {'nothing yet; ' if nothing else ''}{'; '.join(parts)}", width, 2)
    split = config["finetuning"]["split"]
    for task, record in config["tasks"].items():
        if record["dataset"] in stock and (missing := missing_split(config, task)):
            text = f"{task}: left out, because finetuning.split is {split}: {missing.reason} ({missing.detail})"
            yield from wrap(text, width, 2)
    sources = config["pretraining"]["defaults"]["datasets"]
    there = [name for name in sources if name in stock]
    names = f" ({', '.join(there)})" if 0 < len(there) < len(sources) else ""
    yield from wrap(f"pre-training: {len(there)} of {len(sources)} data sets{names}", width, 2)
    steps = list(next_steps(config, found, stock))
    if steps:
        yield "What to get next"
    for number, step in enumerate(steps[:STEPS], 1):
        yield from wrap(f"{number}.{GLUE}{step}", width, 2)


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
