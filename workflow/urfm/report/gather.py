"""What the report says beside figures and tables: key numbers, what is there, cost, versions, provenance."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from urfm.core.files import read_json
from urfm.doctor.entries import entries
from urfm.doctor.lines import GLUE
from urfm.doctor.steps import how_to_get
from urfm.metrics import METRICS
from urfm.plan import grid
from urfm.plan.availability import Config, missing_model, missing_task
from urfm.report.contents import Table, make_table, read_table
from urfm.statistics.stored import AVERAGE, interval_words

PACKAGES = (
    "snakemake", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pandas",
    "pyarrow", "matplotlib", "pillow", "nibabel", "safetensors",
)  # fmt: skip


def records(results: Path, pattern: str) -> list[dict[str, Any]]:
    """All JSON sidecars of a stage, in order of their paths."""
    return [read_json(path) for path in sorted(results.glob(pattern))]


# --- Key numbers ------------------------------------------------------------------------------------------------


def comparisons(config: Config, results: Path) -> list[dict[str, Any]]:
    """Each comparison that has statistics, in order: its name, models, tasks, and what is shown of its tables."""
    found = []
    for name, item in in_order(config):
        folder = results / "statistics" / name
        if (folder / "scores.csv").is_file():
            scores = read_scores(folder)
            tasks = set(scores["task"]) - {AVERAGE}
            found.append(
                {
                    "name": name,
                    "title": grid.title_of(config, name),
                    "reference": config["models"][item["reference"]]["title"],
                    "has_reference": item["reference"] in set(scores["model"]),
                    "models": scores["model"].nunique(),
                    "tasks": len(tasks),
                    "leaders": leaders(config, scores, item),
                    "scores": read_table(folder / "scores.csv"),
                    "differences": read_table(folder / "differences.csv"),
                    "operating": read_table(folder / "operating_points.csv"),
                }
            )
    return found


def in_order(config: Config) -> list[tuple[str, Config]]:
    """Comparisons by name, those of the paper first."""
    own = grid.own_comparisons(config)
    return sorted(grid.trained(config).items(), key=lambda entry: (entry[0] in own, entry[0]))


def own_titles(config: Config) -> dict[str, str]:
    """Name and title of each comparison that no figure of the paper draws, in the configured order."""
    return {name: grid.title_of(config, name) for name in grid.own_comparisons(config)}


def unavailable(config: Config) -> dict[str, list[str]]:
    """What each of these asks for and does not get, with the reason."""
    missing = {}
    for name in grid.own_comparisons(config):
        item = config["comparisons"][name]
        entries = grid.unavailable(config, grid.wanted_models(item), item["tasks"], grid.subset_of(item))
        missing[name] = [f"{entry['kind']} {entry['title']} ({entry['reason']})" for entry in entries]
    return missing


def read_scores(folder: Path) -> pd.DataFrame:
    """Scores of the tasks and, where there are several, of their average."""
    files = [folder / f"{name}.csv" for name in ("scores", "average_scores")]
    tables = [pd.read_csv(file) for file in files if file.is_file()]
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def leaders(config: Config, scores: pd.DataFrame, item: Config) -> Table:
    """A row a model, a column a metric: the mean over tasks, in percent, of the scores at the largest share."""
    scores = scores[scores["share"] == max(scores["share"])]
    rows = []
    for model in (model for model in item["models"] if model in set(scores["model"])):
        own = scores[scores["model"] == model]
        rows.append([config["models"][model]["title"], *(cell_text(average(own, metric)) for metric in METRICS)])
    return make_table(["Model", *(metric.short for metric in METRICS.values())], rows)


def average(scores: pd.DataFrame, metric: str) -> tuple[float, str | None]:
    """The score of one model over tasks, from 0 to 1, and its interval in words, if the statistics have one."""
    own = scores[scores["metric"] == metric]
    low, high = ("nb_low", "nb_high") if own["resplit"].all() else ("boot_low", "boot_high")
    combined = own[own["task"] == AVERAGE]
    if len(own[own["task"] != AVERAGE]) == 1:
        combined = own
    if not len(combined):
        return float(own["mean"].mean()), None
    row = combined.iloc[0]
    return float(row["mean"]), interval_words(row[low], row[high], bool(row["few_patients"]))


def cell_text(score: tuple[float, str | None]) -> str:
    """86.35 (84.02 to 88.41), in percent."""
    value, interval = score
    if math.isnan(value):
        return "undefined"
    return f"{100 * value:.2f}" + (f" ({interval})" if interval else "")


def key_numbers(config: Config, results: Path) -> dict[str, Any] | None:
    """The reference model of the first comparison that has it: averages over tasks, and a row a task."""
    for name, item in in_order(config):
        path = results / "statistics" / name / "scores.csv"
        if not path.is_file():
            continue
        scores = read_scores(path.parent)
        own = scores[scores["model"] == item["reference"]]
        if own.empty:
            continue
        own = own[own["share"] == max(own["share"])]
        rows = []
        for task in (task for task in item["tasks"] if task in set(own["task"])):
            part = own[own["task"] == task]
            first = part.iloc[0]
            patients = "unknown" if pd.isna(first["patients"]) else f"{first['patients']:,.0f}"
            cells = [cell_text(average(part, metric)) for metric in METRICS]
            rows.append([config["tasks"][task]["title"], f"{first['images']:,.0f}", patients, *cells])
        columns = ["Task", "Test images", "Test patients", *(metric.short for metric in METRICS.values())]
        return {
            "model": config["models"][item["reference"]]["title"],
            "comparison": grid.title_of(config, name),
            "tasks": len(rows),
            "averages": {metric.short: average(own, name) for name, metric in METRICS.items()},
            "table": make_table(columns, rows),
        }
    return None


# --- Data -------------------------------------------------------------------------------------------------------


def status(config: Config, results: Path) -> dict[str, Any]:
    """What kind of run this is: simulated data sets, stand-in encoders, and tasks and models that are missing."""
    wanted = [item for item in grid.trained(config).values() if item["tasks"]]
    tasks = dict.fromkeys(task for item in wanted for task in item["tasks"])
    models = dict.fromkeys(model for item in wanted for model in grid.wanted_models(item))
    manifests = records(results, "manifests/*.json")
    encoders = records(results, "encoders/*.json")
    return {
        "simulated": sorted(record["dataset"] for record in manifests if record.get("simulated")),
        "datasets": len(manifests),
        "stand_ins": sorted(record["model"] for record in encoders if record.get("stand_in")),
        "tasks": [config["tasks"][task]["title"] for task in tasks],
        "models": [config["models"][model]["title"] for model in models],
        "missing": [
            *(("task", config["tasks"][task]["title"], gap) for task in tasks if (gap := missing_task(config, task))),
            *(
                ("model", config["models"][model]["title"], gap)
                for model in models
                if (gap := missing_model(config, model))
            ),
        ],
    }


def inventory(config: Config) -> Table:
    """What `snakemake doctor` says of every data set and checkpoint, a row each."""
    rows = [
        [
            entry.name,
            entry.state.word,
            "; ".join(entry.state.facts),
            entry.use or "nothing that is configured",
            entry.origin.get("licence", "not stated"),
            how_to_get(config, entry).replace(GLUE, " ")
            if entry.state.word in ("absent", "partial")
            else entry.origin.get("where", ""),
        ]
        for entry in entries(config)
    ]
    columns = ["Data set or checkpoint", "State", "Found", "For", "Licence", "Where, or how to get it"]
    return make_table(columns, rows)


# --- Cost, versions, provenance ---------------------------------------------------------------------------------


def cost(results: Path) -> tuple[Table, float]:
    """A row a pre-training run and a fine-tuned model, and the hours of all: training and validation alone."""
    rows: list[tuple[str, str, int, float]] = []
    for path in sorted(results.glob("pretrain/*/history.csv")):
        history = pd.read_csv(path)
        rows.append(("pre-training", path.parent.name, len(history), float(history["seconds"].iloc[-1])))
    cells = [record for record in records(results, "finetune/*/*/*/cell.json") if "seconds" in record]
    if cells:
        table = pd.DataFrame(cells).assign(trained=[len(cell["seeds"]) for cell in cells])
        for model, own in table.groupby("model"):
            rows.append(("fine-tuning", str(model), int(own["trained"].sum()), float(own["seconds"].sum())))
    columns = ["Stage", "Run or model", "Epochs, or networks trained", "Time"]
    lines = [[stage, name, f"{number:,}", duration(seconds)] for stage, name, number, seconds in rows]
    return make_table(columns, lines), sum(row[3] for row in rows) / 3600


def duration(seconds: float) -> str:
    """45 s, 12.5 min, 3.2 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def versions() -> Iterator[tuple[str, str]]:
    """Name and version of Python and of the packages that matter, where they are installed."""
    yield "Python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def commit(folder: Path) -> str:
    """The commit of the checkout that holds `folder`, and whether it was edited; empty without git."""
    command = ["git", "-C", str(folder)]
    try:
        found = subprocess.run([*command, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=30)
        edits = subprocess.run(
            [*command, "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip() + (", with uncommitted changes" if edits.stdout.strip() else "")
