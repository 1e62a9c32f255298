"""What figures over models and tasks read: settings of a comparison, and the numbers of its statistics, in percent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, field_validator

from urfm.core.cli import Ordered, Settings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.figures import style
from urfm.figures.style import Unavailable
from urfm.metrics import METRICS
from urfm.statistics.stored import TOO_FEW, read_statistics, strongest

TABLES = ("scores", "differences", "curves", "classes", "average_scores", "average_differences", "lines")


@dataclass(frozen=True)
class Uncertainty:
    """What takes other patients into account.

    Attributes
    ----------
    name
        What a note calls the test.
    score, difference
        Columns of the two tables of the statistics: all that is drawn.
    low, high
        Columns of the interval of a score.
    p, p_holm
        Columns of the P that is printed, and of the same after Holm's correction.
    """

    name: str
    score: list[str]
    difference: list[str]
    low: str
    high: str
    p: str
    p_holm: str


PATIENTS = Uncertainty(
    name="models exchanged patient by patient",
    score=["mean", "ci_low", "ci_high", "boot_low", "boot_high"],
    difference=["difference", "boot_low", "boot_high", "perm_p", "perm_p_holm", "t_p", "t_p_holm", "detectable"],
    low="boot_low",
    high="boot_high",
    p="perm_p",
    p_holm="perm_p_holm",
)
RESPLITS = Uncertainty(
    name="Nadeau-Bengio corrected, over re-splits",
    score=["mean", "ci_low", "ci_high", "nb_low", "nb_high"],
    difference=["difference", "nb_low", "nb_high", "nb_p", "nb_p_holm", "t_p", "t_p_holm", "detectable"],
    low="nb_low",
    high="nb_high",
    p="nb_p_holm",
    p_holm="nb_p_holm",
)


def uncertainty(scores: pd.DataFrame) -> Uncertainty:
    """Over patients; with a split per seed, whose test parts differ, Nadeau and Bengio's correction."""
    return RESPLITS if scores["resplit"].all() else PATIENTS


class Task(Settings):
    """A task as a figure names it."""

    title: str
    group: str


class Comparison(Settings):
    """Models on tasks, as one entry of the configuration's `comparisons` compares them."""

    models: Ordered[str] = Field(description="[name, title] of each model, in the order of the bars")
    lines: Ordered[str] = Field(default={}, description="[name, title] of each model that is a line across the bars")
    reference: str = Field(description="model that P values compare with others")
    against: list[str] = Field(default=[], description="models whose strongest P values name; empty: all others")
    tasks: dict[str, Task] = Field(description="[name, title, group] of each task, in order")
    classes: dict[str, dict[str, str]] = Field(
        default={}, description="of each task: label value and printed name of each class; left out: the label value"
    )
    unavailable: list[Unavailable] = Field(default=[], description="tasks and models not available, with the reason")
    notes: list[str] = Field(default=[], description="sentences for the foot of the figure")

    @field_validator("tasks", mode="before")
    @classmethod
    def _ordered_tasks(cls, tasks: Any) -> Any:
        if not isinstance(tasks, list):
            return tasks
        return {name: {"title": title, "group": group} for name, title, group in tasks}


class FigureSettings(Settings):
    """Settings of figures 3, 4, 5 and 8, which draw several comparisons."""

    comparisons: Ordered[Comparison] = Field(min_length=1, description="[name, what can be drawn of it] in order")
    confidence: float = Field(gt=0, lt=1)
    dpi: int = Field(ge=72, description="resolution of the PNG")


@dataclass(frozen=True)
class Numbers:
    """What is drawn of a comparison: scores and rates in percent, P values as they are.

    Attributes
    ----------
    scores
        model, task, share, metric, the columns of `over.score`, seeds, images, patients (NaN: not known), simulated.
    differences
        task, share, metric, model and the columns of `over.difference`: the reference minus the model.
    comparisons
        Those rows of `differences` that name the strongest other model.
    curves
        model, task, share, positive (a class of two, or empty), fpr, tpr, auroc.
    common
        Metric to the tasks where every model has it.
    means
        Index model, a column per metric, over the tasks in `common`.
    average
        As `comparisons`, of the mean over the tasks that all models have; empty where the statistics hold none.
    lines
        As `scores`, of the models that are lines across the bars.
    line_means
        As `means`, of these.
    stand_ins
        Models that stand in for a checkpoint.
    absent
        Task to the classes that no test image of the largest share has, in which case AUROC is undefined.
    deterministic
        Models with the same predictions for every seed.
    warnings
        Of the cells that are drawn: model, task, share, seeds, of, words (`urfm.statistics.stage.warnings_of`).
    """

    scores: pd.DataFrame
    differences: pd.DataFrame
    comparisons: pd.DataFrame
    curves: pd.DataFrame
    means: pd.DataFrame
    average: pd.DataFrame
    lines: pd.DataFrame
    line_means: pd.DataFrame
    common: dict[str, list[str]]
    models: list[str]
    tasks: list[str]
    simulated: bool
    absent: dict[str, list[str]]
    stand_ins: list[str]
    deterministic: list[str]
    warnings: list[dict[str, Any]]
    t_test: str
    resamples: int
    draws: int
    over: Uncertainty


def read_comparisons(folders: Sequence[Path], settings: FigureSettings) -> dict[str, Numbers]:
    """The numbers of each comparison, by name in the settings' order; UrfmError for statistics of another figure."""
    found: dict[str, Numbers] = {}
    for folder in folders:
        name = read_json(folder / "statistics.json")["settings"]["comparison"]
        if name not in settings.comparisons:
            raise UrfmError(
                f"{folder}: statistics of {name}, but --settings describe {', '.join(settings.comparisons)}; "
                "give the folders of these"
            )
        found[name] = read_numbers(folder, settings.comparisons[name], every_share=True)
    return {name: found[name] for name in settings.comparisons if name in found}


def read_numbers(folder: Path, settings: Comparison, every_share: bool = False) -> Numbers:
    """Read the statistics that a figure draws; UrfmError when they are changed or hold none of its tasks.

    Without `every_share` only the largest share of the training part is kept.
    """
    stored = read_statistics(folder / "statistics.json", TABLES)
    scores, differences, curves, classes, lines = (
        table[table["model"].isin(models) & table["task"].isin(settings.tasks)].copy()
        for models, table in (
            (settings.lines if name == "lines" else settings.models, stored.tables[name])
            for name in ("scores", "differences", "curves", "classes", "lines")
        )
    )
    if scores.empty:
        raise UrfmError(
            f"{folder}: holds no score of this figure's tasks ({', '.join(settings.tasks)}) and models "
            f"({', '.join(settings.models)}); the first lines of every run say what is available"
        )
    if not every_share:
        largest = scores["share"].max()
        scores, differences, curves, lines = (
            table[table["share"] == largest].copy() for table in (scores, differences, curves, lines)
        )
    over = uncertainty(scores)
    for table in (scores, lines):
        table[over.score] *= 100
        table["patients"] = table["patients"].astype("float64")
    average = stored.tables["average_differences"]
    for table in (differences, average):
        table[points(over)] *= 100
    curves[["fpr", "tpr", "auroc"]] *= 100
    cells = set(zip(scores["model"], scores["task"], scores["share"], strict=True))
    models = [model for model in settings.models if model in set(scores["model"])]
    across = [model for model in settings.lines if model in set(lines["model"])]
    tasks = [task for task in settings.tasks if task in set(scores["task"])]
    whole = scores[scores["share"] == scores["share"].max()]
    complete = whole.pivot_table(index=["metric", "task"], columns="model", values="mean", dropna=False).notna()
    found = complete.all(axis=1).to_dict()
    common = {metric: [task for task in tasks if found.get((metric, task), False)] for metric in METRICS}
    empty = classes[(classes["images"] == 0) & (classes["share"] == scores["share"].max())]
    return Numbers(
        scores=scores,
        differences=differences,
        comparisons=to_strongest(scores, differences, settings.reference, settings.against),
        curves=curves,
        means=means_over(whole, common, models),
        average=to_strongest(stored.tables["average_scores"], average, settings.reference, settings.against),
        lines=lines,
        line_means=means_over(lines[lines["share"] == scores["share"].max()], common, across),
        common=common,
        models=models,
        tasks=tasks,
        simulated=bool(scores["simulated"].any()),
        absent={str(task): list(rows["class"].unique()) for task, rows in empty.groupby("task")},
        stand_ins=[model for model in [*models, *across] if model in stored.stand_ins],
        deterministic=[model for model in models if model in stored.deterministic],
        warnings=[row for row in stored.warnings if (row["model"], row["task"], row["share"]) in cells],
        t_test=stored.t_test,
        resamples=stored.resamples,
        draws=stored.draws,
        over=over,
    )


def positive_name(settings: Comparison, numbers: Numbers, task: str) -> str:
    """Printed name of the class that is positive in a task's ROC curves; empty where each class is in its turn."""
    curves = numbers.curves[numbers.curves["task"] == task]
    label = str(curves["positive"].iloc[0]) if len(curves) else ""
    return settings.classes.get(task, {}).get(label, label)


def means_over(scores: pd.DataFrame, common: Mapping[str, list[str]], models: list[str]) -> pd.DataFrame:
    """Index model, a column per metric: the unweighted mean over the metric's tasks; NaN without any."""
    pairs = pd.DataFrame(
        [(metric, task) for metric, tasks in common.items() for task in tasks], columns=["metric", "task"]
    )
    rows = scores.merge(pairs, on=["metric", "task"])
    return rows.pivot_table(index="model", columns="metric", values="mean").reindex(index=models, columns=[*METRICS])


def points(over: Uncertainty) -> list[str]:
    """Columns of differences that are scores, no P values."""
    return [name for name in over.difference if "_p" not in name]


def to_strongest(
    scores: pd.DataFrame, differences: pd.DataFrame, reference: str, against: Sequence[str] = ()
) -> pd.DataFrame:
    """The difference to the strongest other model (of `against`, if any), a row per task, share and metric."""
    others = scores[scores["model"].isin(against)] if against else scores
    return strongest(others, reference).merge(differences, on=["task", "share", "metric", "model"])


def p_words(row: Mapping[Any, Any], over: Uncertainty) -> str:
    """The P of a comparison, or that there are too few patients for one."""
    p = float(row[over.p])
    return TOO_FEW if math.isnan(p) and row["few_patients"] else style.format_p(p)


def records(table: pd.DataFrame, *keys: str) -> dict[Any, dict[str, Any]]:
    """Rows of a table by the value of a column, or by the values of several."""
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    return {row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys): row for row in rows}


def unavailable(settings: Comparison, numbers: Numbers | None) -> list[Unavailable]:
    """What the comparison lacks: known beforehand, or not in its statistics."""
    known = {(entry.kind, entry.name) for entry in settings.unavailable}
    if numbers is None:
        return settings.unavailable
    drawn = {"model": [*numbers.models, *numbers.line_means.index], "task": numbers.tasks}
    wanted = [("model", name, title) for name, title in (settings.models | settings.lines).items()]
    wanted += [("task", name, task.title) for name, task in settings.tasks.items()]
    return settings.unavailable + [
        Unavailable.model_validate(
            {"kind": kind, "name": name, "title": title, "reason": "no result in the statistics"}
        )
        for kind, name, title in wanted
        if name not in drawn[kind] and (kind, name) not in known
    ]


def absence(settings: Comparison) -> str:
    """Why nothing of a comparison is drawn."""
    if settings.tasks and settings.models:  # a panel of figure 8
        return f"Needs two models; here is {', '.join(settings.models.values())}."
    if settings.tasks or settings.unavailable:
        return "Nothing of it is available here: see the last lines."
    return "Left out of this configuration."
