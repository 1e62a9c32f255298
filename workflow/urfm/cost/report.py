"""What the configuration costs as it is (target `cost`): printed, and written as tables to <results>/cost.

Numbers of images are those of manifests, splits and sets that are there, else those that are expected. The networks are
counted by running them without values (`urfm.cost.flops`); cards are known by their data sheets (`urfm.cost.cards`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from urfm.core.cli import parse_settings, run
from urfm.core.progress import human_bytes, say
from urfm.cost import images, jobs, training
from urfm.cost.cards import CARDS, Card, Work, hours, wanted
from urfm.cost.storage import storage
from urfm.cost.training import Run, Tuned
from urfm.doctor.lines import terminal_width, wrap
from urfm.doctor.report import DoctorSettings
from urfm.plan.availability import Config, planning
from urfm.tables.render import Table, write_table

# Milliseconds of a core an image, JPG (docs/benchmarks.md): described for the manifest, decoded for the store.
MANIFEST_MS, STORE_MS = 15, 16


class CostSettings(DoctorSettings):
    """Settings: the sections of the configuration that say how much there is to do."""

    images: dict[str, Any]
    splits: dict[str, Any]
    seeds: list[int]
    probes: dict[str, Any]
    reconstructions: dict[str, Any]
    resources: dict[str, Any]
    cost: dict[str, Any]


@dataclass(frozen=True)
class Estimate:
    """Everything that is counted of a configuration."""

    config: Config
    results: Path
    runs: list[Run]
    cells: list[Tuned]
    targets: dict[tuple[str, str], tuple[int | None, Work]]

    @property
    def card(self) -> Card:
        """The one that the jobs ask for."""
        return wanted(self.config)

    def of_card(self, work: Work) -> float:
        """Its hours."""
        return hours(work, self.card, self.config)

    def of_each(self, work: Work) -> list[str]:
        """Hours of each card, as they are printed."""
        return [amount(hours(work, card, self.config)) for card in CARDS.values()]

    @property
    def gpus(self) -> int:
        """Of a pre-training run."""
        job = self.config["resources"]["pretrain"]
        return max(1, int(job["gpus"]) * int(job["nodes"]))

    def longest(self) -> dict[str, float]:
        """Stage -> hours by the clock of its longest job."""
        threads = {stage: self.config["resources"][stage]["threads"] for stage in ("manifest", "images")}
        most = max(
            [images.of_dataset(self.config, self.results, name) or 0 for name in images.datasets(self.config)] or [0]
        )
        return {
            "manifests": most * MANIFEST_MS / 3.6e6 / threads["manifest"],
            "image stores": most * STORE_MS / 3.6e6 / threads["images"],
            "stored targets": max([self.of_card(work) for _, work in self.targets.values()] or [0]),
            "pre-training": max([self.of_card(run.work) / self.gpus for run in self.runs] or [0]),
            "fine-tuning": max([self.of_card(cell.work) for cell in self.cells] or [0]),
        }


def estimate(config: Config, results: Path) -> Estimate:
    """Count everything; no data is needed."""
    runs, cells = list(training.runs(config, results)), list(training.cells(config, results))
    return Estimate(config, results, runs, cells, training.targets(config, results))


def tables(found: Estimate) -> dict[str, Table]:
    """File name -> table."""
    return {
        "total": total(found),
        "stages": stages(found),
        "pretraining": pretraining(found),
        "finetuning": finetuning(found),
        "cells": cells(found),
        "storage": stored(found),
    }


TITLES = [card.title for card in CARDS.values()]


def total(found: Estimate) -> Table:
    """GPU hours of everything, by card, and days on some cards at once."""
    parts = {
        "stored targets": sum((work for _, work in found.targets.values()), Work()),
        "pre-training": sum((run.work for run in found.runs), Work()),
        "fine-tuning: training": sum((cell.training for cell in found.cells), Work()),
        "fine-tuning: prediction": sum((cell.evaluation for cell in found.cells), Work()),
    }
    parts = {name: work for name, work in parts.items() if work}
    whole = sum(parts.values(), Work())
    rows = [[name, flop(work), *found.of_each(work)] for name, work in {**parts, "all": whole}.items()]
    gpus, days = found.config["cost"]["gpus"], [clock(found, card) / 24 for card in CARDS.values()]
    rows.append([f"days on {gpus} cards", "", *map(amount, days)])
    return Table("Total", "GPU hours by card", ["", "FLOP", *TITLES], rows, numbers=["FLOP", *TITLES])


def clock(found: Estimate, card: Card) -> float:
    """Hours on `cost.gpus` cards: all there is over so many, but no less than the longest job."""
    config, gpus = found.config, int(found.config["cost"]["gpus"])
    work = [*(run.work for run in found.runs), *(cell.work for cell in found.cells)]
    work += [work for _, work in found.targets.values()]
    spread = hours(sum(work, Work()), card, config) / gpus
    used = min(gpus, found.gpus)
    chains = [hours(run.work, card, config) / used for run in found.runs]
    return max([spread, *chains, *(hours(cell.work, card, config) for cell in found.cells)])


def stages(found: Estimate) -> Table:
    """Jobs of each stage, the limit of each and the longest."""
    rows, resources, longest = [], found.config["resources"], found.longest()
    counted = jobs.count(found.config)
    for stage, (section, number) in counted.items():
        job = resources[section]
        cards_ = job.get("gpus", 0) * job.get("nodes", 1)
        most = amount(longest[stage]) if stage in longest else "–"
        rows.append([stage, f"{number:,}", str(cards_ or "–"), amount(job["minutes"] / 60), most])
    rows.append(["all", f"{sum(number for _, number in counted.values()):,}", "", "", ""])
    columns = ["Stage", "Jobs", "GPUs", "Limit, h", f"Longest on {found.card.title}, h"]
    return Table("Jobs", "of everything (`all`)", columns, rows, numbers=columns[1:])


def pretraining(found: Estimate) -> Table:
    """A row a run."""
    own = f"On {found.gpus} {found.card.title}"
    columns = ["Run", "Images", "FLOP", *TITLES, own]
    rows = [
        [
            run.name,
            "unknown" if run.images is None else f"{run.images:,}",
            flop(run.work),
            *found.of_each(run.work),
            f"{amount(found.of_card(run.work) / found.gpus)} h",
        ]
        for run in found.runs
    ]
    return Table("Pre-training", "GPU hours by card", columns, rows, numbers=columns[1:])


def finetuning(found: Estimate) -> Table:
    """A row a model, over all its cells."""
    columns = ["Model", "Cells", "Networks", "FLOP", *TITLES, f"Longest, {found.card.title}"]
    rows, seeds = [], len(found.config["seeds"])
    for model in dict.fromkeys(cell.cell.model for cell in found.cells):
        own = [cell for cell in found.cells if cell.cell.model == model]
        work = sum((cell.work for cell in own), Work())
        longest = f"{amount(max(found.of_card(cell.work) for cell in own))} h"
        rows.append([model, str(len(own)), str(len(own) * seeds), flop(work), *found.of_each(work), longest])
    return Table("Fine-tuning", "GPU hours by card", columns, rows, numbers=columns[1:])


def cells(found: Estimate) -> Table:
    """A row a cell."""
    columns = ["Model", "Task", "Share", "FLOP", *TITLES]
    rows = [
        [cell.cell.model, cell.cell.task, f"{cell.cell.share} %", flop(cell.work), *found.of_each(cell.work)]
        for cell in found.cells
    ]
    return Table("Fine-tuning cells", "all seeds of a model on a task", columns, rows, numbers=columns[2:])


def stored(found: Estimate) -> Table:
    """What lies on disk."""
    entries = storage(found.config, found.results, found.runs, found.cells, list(found.targets))
    rows = [[what, human_bytes(size), how] for what, size, how in entries]
    return Table("Storage", "below the results", ["What", "Size", "How"], rows, numbers=["Size"])


def notes(found: Estimate) -> Iterator[str]:
    """How sure all this is: where numbers come from, what is left out, and limits that are too short."""
    config, cost = found.config, found.config["cost"]
    yield (
        f"Cards reach {cost['utilisation']:.0%} of their peak in bf16, fp16 or TF32 and "
        f"{cost['utilisation_fp32']:.0%} of their fp32 peak (`cost` in config.yaml, docs/cost.md). Small batches "
        "do not fill an H100: take its hours of fine-tuning for the least."
    )
    names, made = images.datasets(config), images.made(config, found.results)
    unknown = [name for name in names if images.of_dataset(config, found.results, name) is None]
    if len(made) < len(names):
        yield (
            f"Images: {len(made)} of {len(names)} data sets as their manifests say, the others as the paper and the "
            "archives' authors state; `snakemake manifests` counts them."
        )
    if unknown:
        yield f"Nobody states how many images these have, so none is counted before `manifests`: {', '.join(unknown)}."
    if not planning(config):
        yield "Counted is what can be made here; everything: --config data_root=NOWHERE."
    yield (
        f"Not counted: forward passes of probes, attention and embeddings (below 1 %); the loader; waiting. Of "
        f"fine-tuning's epochs {training.BEST} % are taken to be the best so far, which predict the test part too."
    )
    yield from limits(
        found, "pretrain", "pre-training runs", [found.of_card(run.work) / found.gpus for run in found.runs]
    )
    yield from limits(found, "finetune", "fine-tuning cells", [found.of_card(cell.work) for cell in found.cells])


def limits(found: Estimate, section: str, what: str, needs: list[float]) -> Iterator[str]:
    """A sentence if jobs take longer than the time limit of their first attempt."""
    limit = found.config["resources"][section]["minutes"] / 60
    longer = [need for need in needs if need > limit]
    if longer:
        attempts = math.ceil((math.sqrt(1 + 8 * max(longer) / limit) - 1) / 2)  # the n-th has n times the limit
        yield (
            f"Time limit: of {len(needs)} {what} {len(longer)} take longer on {found.card.title} than "
            f"resources.{section}.minutes, {amount(limit)} h: up to {amount(max(longer))} h. They go on where they "
            f"stopped: with retries {attempts - 1} all end."
        )


def amount(number: float) -> str:
    """Three digits at most where they say something: 0.4, 12, 1,101."""
    return f"{number:,.0f}" if number >= 9.95 or number == 0 else f"{number:.1f}" if number >= 0.095 else "<0.1"


def flop(work: Work) -> str:
    return f"{sum(work.values()):.1e}".replace("e+", "e") if work.total() else "–"


def aligned(table: Table) -> Iterator[str]:
    """A table for a terminal."""
    lines: list[Sequence[str]] = [table.columns, *table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    right = [column in table.numbers for column in table.columns]
    yield f"{table.name}: {table.title}"
    for line in lines:
        cells_ = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        )
        yield f"  {'  '.join(cells_)}".rstrip()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Say what the configuration costs as it is.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(CostSettings.model_fields))
    parser.add_argument("--results", type=Path, default=Path("results"), help="where manifests are, and cost/ will be")
    arguments = parser.parse_args()
    config = parse_settings(CostSettings, arguments.settings).model_dump()
    say("Counting what each network computes: half a minute")
    found = estimate(config, arguments.results)
    said = list(notes(found))
    for name, table in tables(found).items():
        write_table(arguments.results / "cost" / name, replace(table, notes=said))
        if name != "cells":
            for line in aligned(table):
                say(line)
            say("")
    for note in said:
        for line in wrap(note, terminal_width(), 0):
            say(line)
    say(f"Tables, with a row a cell of fine-tuning: {arguments.results / 'cost'}")


if __name__ == "__main__":
    run(main)
