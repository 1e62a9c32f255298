"""Table 2: tasks, data sets, classes and images, as found beside the paper's counts (stage `table_2`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from urfm.config.data import Expected
from urfm.core.cli import Ordered, Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.core.progress import say
from urfm.tables.render import NONE, SIMULATED, Table, arguments, count, write_table

COLUMNS = [
    "Application", "Dataset", "Classes (images)", "Images", "Images in the paper", "Patients",
    "Train", "Validation", "Test", "Note",
]  # fmt: skip
OURS = ("paper", "re-split")  # kinds of split that the workflow makes itself


class Task(Settings):
    """A task as the table names it; `classes` are [label value, name], in order."""

    title: str
    dataset_title: str
    classes: Ordered[str]
    expected: Expected = Expected()


class Missing(Settings):
    """A task whose data are not available."""

    kind: Literal["task", "model"] = "task"
    name: str
    title: str
    reason: str


class Table2Settings(Settings):
    """Settings of the stage."""

    tasks: Ordered[Task] = Field(description="[name, what is printed] of each task, in the order of the rows")
    unavailable: list[Missing] = Field(default=[], description="tasks without data, with the reason")
    notes: list[str] = Field(default=[], description="what explains differences from the paper")


def task_row(task: Task, split: dict[str, Any]) -> list[str]:
    """A task's row from the summary of its split."""
    labels = split["labels"]
    classes = ", ".join(f"{name} ({count(labels.get(label, 0))})" for label, name in task.classes.items())
    subsets = [count(split["subsets"][name]["images"]) for name in ("train", "val", "test")]
    notes = [] if task.expected.images in (None, split["images"]) else ["differs from the paper"]
    if split["simulated"]:
        notes.append("simulated data")
    patients = "unknown" if split["patients"] is None else count(split["patients"])
    return [
        task.title, task.dataset_title, classes, count(split["images"]), count(task.expected.images),
        patients, *subsets, "; ".join(notes),
    ]  # fmt: skip


def split_notes(split: dict[str, Any] | None) -> list[str]:
    """Sentences on a split that is not the paper's."""
    if split is None or split["kind"] == "paper":
        return []
    return [f"split {split['split']}", *([] if split["kind"] in OURS else [split["rule"], *split["notes"]])]


def missing_row(title: str, task: Task | None, reason: str) -> list[str]:
    """The row of a task without data: the paper's counts and why there are none of ours."""
    dataset = task.dataset_title if task else NONE
    classes = ", ".join(task.classes.values()) if task else NONE
    expected = count(task.expected.images) if task else NONE
    return [title, dataset, classes, NONE, expected, *[NONE] * 4, f"not available: {reason}"]


def table_2(settings: Table2Settings, splits: dict[str, dict[str, Any]]) -> Table:
    """The table from the summaries of the available splits (task name to split JSON)."""
    reasons = {entry.name: entry for entry in settings.unavailable if entry.kind == "task"}
    rows = []
    for name, task in settings.tasks.items():
        if name in splits:
            rows.append(task_row(task, splits[name]))
        else:
            reason = reasons[name].reason if name in reasons else "no split was made"
            rows.append(missing_row(task.title, task, reason))
    rows.extend(
        missing_row(entry.title, None, entry.reason) for name, entry in reasons.items() if name not in settings.tasks
    )
    notes = []
    if any(split["kind"] in OURS for split in splits.values()) or not splits:
        notes.append("Split 3:1:1 into train, validation and test; no patient is in two parts.")
    for name, task in settings.tasks.items():
        notes.extend(f"{task.title}: {sentence}." for sentence in split_notes(splits.get(name)))
        notes.extend(f"{task.title}: {sentence}" for sentence in splits.get(name, {}).get("differences", []))
    notes += settings.notes
    if any(split["simulated"] for split in splits.values()):
        notes.insert(0, SIMULATED)
    return Table(
        name="Table 2",
        title="Tasks, data sets, classes and number of images",
        columns=COLUMNS,
        rows=rows,
        notes=notes,
        numbers=["Images", "Images in the paper", "Patients", "Train", "Validation", "Test"],
    )


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Write Table 2 from the summaries of the splits.")
    parser.add_argument("--splits", type=Path, nargs="*", default=[], help="summary JSON of each available split")
    options = parser.parse_args()
    settings = parse_settings(Table2Settings, options.settings)
    splits = {}
    for path in options.splits:
        record = read_json(path)
        if record["task"] not in settings.tasks:
            raise UrfmError(f"{path}: is of task {record['task']}, which --settings do not list; add it to `tasks`")
        splits[record["task"]] = record
    table = table_2(settings, splits)
    write_table(options.output, table)
    say(f"table 2: {len(splits)} of {len(table.rows)} tasks available; written to {options.output}.csv, .md and .tex")


if __name__ == "__main__":
    run(main)
