"""What figures over models and tasks read: settings of a comparison, and the numbers of its statistics, in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, field_validator

from urfm.core.cli import Settings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.figures.style import Unavailable

METRICS = {"accuracy": "ACC", "f1_macro": "F1", "auroc": "AUC"}


@dataclass(frozen=True)
class Uncertainty:
    """What takes other patients into account: the columns of the statistics that are drawn, and its name in a note.

    score, difference: columns of the two tables, all that is drawn. low, high: interval of a score. p: what is printed;
    p_holm: the same after Holm's correction.
    """

    name: str
    score: list[str]
    difference: list[str]
    low: str
    high: str
    p: str
    p_holm: str


BOOTSTRAP = Uncertainty(
    name="bootstrap over patients",
    score=["mean", "ci_low", "ci_high", "ensemble", "boot_low", "boot_high"],
    difference=[
        "difference", "boot_difference", "boot_low", "boot_high", "boot_p", "boot_p_holm", "t_p", "t_p_holm",
    ],
    low="boot_low",
    high="boot_high",
    p="boot_p",
    p_holm="boot_p_holm",
)  # fmt: skip
RESPLITS = Uncertainty(
    name="Nadeau-Bengio corrected, over re-splits",
    score=["mean", "ci_low", "ci_high", "nb_low", "nb_high"],
    difference=["difference", "nb_low", "nb_high", "nb_p", "nb_p_holm", "t_p", "t_p_holm"],
    low="nb_low",
    high="nb_high",
    p="nb_p_holm",
    p_holm="nb_p_holm",
)


def uncertainty(scores: pd.DataFrame) -> Uncertainty:
    """The bootstrap, or with a split a seed, which has no seed-averaged predictions, Nadeau and Bengio's correction."""
    return RESPLITS if scores["ensemble"].isna().all() else BOOTSTRAP


class Task(Settings):
    """A task as a figure names it."""

    title: str
    group: str


class Comparison(Settings):
    """Models on tasks, as one entry of the configuration's `comparisons` compares them."""

    models: dict[str, str] = Field(description="[name, title] of each model, in the order of the bars")
    reference: str = Field(description="model that P values compare with others")
    against: list[str] = Field(default=[], description="models whose strongest P values name; empty: all others")
    tasks: dict[str, Task] = Field(description="[name, title, group] of each task, in order")
    unavailable: list[Unavailable] = Field(default=[], description="tasks and models not available, with the reason")
    notes: list[str] = Field(default=[], description="sentences for the foot of the figure")

    @field_validator("models", mode="before")
    @classmethod
    def _ordered_models(cls, models: Any) -> Any:
        # Canonical JSON sorts the keys of objects, so what has an order comes as a list.
        return dict(models) if isinstance(models, list) else models

    @field_validator("tasks", mode="before")
    @classmethod
    def _ordered_tasks(cls, tasks: Any) -> Any:
        if not isinstance(tasks, list):
            return tasks
        return {name: {"title": title, "group": group} for name, title, group in tasks}


class FigureSettings(Settings):
    """Settings of figures 3, 4, 5 and 8, which draw several comparisons."""

    comparisons: dict[str, Comparison] = Field(min_length=1, description="[name, what can be drawn of it] in order")
    confidence: float = Field(gt=0, lt=1)
    dpi: int = Field(ge=72, description="resolution of the PNG")

    @field_validator("comparisons", mode="before")
    @classmethod
    def _ordered_comparisons(cls, comparisons: Any) -> Any:
        return dict(comparisons) if isinstance(comparisons, list) else comparisons


@dataclass(frozen=True)
class Numbers:
    """What is drawn of a comparison, in percent.

    scores: model, task, share, metric, the columns of `over`.score, seeds, images, patients (NaN: not known),
    simulated. differences: task, share, metric, model and the columns of `over`.difference (P values are not percent),
    the reference minus the model. comparisons: those rows of differences that name the strongest other model. curves:
    model, task, share, fpr, tpr, auroc. means: index model, a column a metric, over `common` tasks. average: as
    comparisons, of the mean over the tasks that all models have (empty where the statistics hold none). stand_ins:
    models that stand in for a checkpoint.
    """

    scores: pd.DataFrame
    differences: pd.DataFrame
    comparisons: pd.DataFrame
    curves: pd.DataFrame
    means: pd.DataFrame
    average: pd.DataFrame
    common: list[str]
    models: list[str]
    tasks: list[str]
    simulated: bool
    stand_ins: list[str]
    t_test: str
    resamples: int
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
    record = read_json(folder / "statistics.json")
    for name, digest in record["sha256"].items():
        verify_sha256(folder / name, digest)
    scores, differences, curves = (
        table[table["model"].isin(settings.models) & table["task"].isin(settings.tasks)].copy()
        for table in (pd.read_parquet(folder / f"{name}.parquet") for name in ("scores", "differences", "curves"))
    )
    if scores.empty:
        raise UrfmError(
            f"{folder}: holds no score of this figure's tasks ({', '.join(settings.tasks)}) and models "
            f"({', '.join(settings.models)}); the first lines of every run say what is available"
        )
    if not every_share:
        largest = scores["share"].max()
        scores, differences, curves = (table[table["share"] == largest] for table in (scores, differences, curves))
    over = uncertainty(scores)
    scores[over.score] *= 100
    scores["patients"] = scores["patients"].astype("float64")
    differences[points(over)] *= 100
    curves[["fpr", "tpr", "auroc"]] *= 100
    models = [model for model in settings.models if model in set(scores["model"])]
    tasks = [task for task in settings.tasks if task in set(scores["task"])]
    whole = scores[scores["share"] == scores["share"].max()]
    wide = whole.pivot_table(index=["task", "metric"], columns="model", values="mean", dropna=False)
    complete = wide.notna().all(axis=1).groupby("task").all()
    common = [task for task in tasks if complete.get(task, False)]
    rows = whole[whole["task"].isin(common)]
    means = rows.pivot_table(index="model", columns="metric", values="mean").reindex(index=models, columns=[*METRICS])
    return Numbers(
        scores=scores,
        differences=differences,
        comparisons=strongest(scores, differences, settings.reference, settings.against),
        curves=curves,
        means=means,
        average=read_average(folder, record, settings, over),
        common=common,
        models=models,
        tasks=tasks,
        simulated=bool(scores["simulated"].any()),
        stand_ins=[model for model in models if model in record.get("stand_ins", [])],
        t_test=record["settings"]["t_test"],
        resamples=record["settings"]["bootstrap_resamples"],
        over=over,
    )


def points(over: Uncertainty) -> list[str]:
    """Columns of differences that are scores, no P values."""
    return [name for name in over.difference if "_p" not in name]


def read_average(folder: Path, record: Mapping[str, Any], settings: Comparison, over: Uncertainty) -> pd.DataFrame:
    """Differences of the mean over tasks to the strongest other model; empty when the statistics have none."""
    names = ["average_scores.parquet", "average_differences.parquet"]
    if not set(names) <= set(record["sha256"]):
        return pd.DataFrame(columns=["task", "share", "metric", "model", *over.difference])
    scores, differences = (pd.read_parquet(folder / name) for name in names)
    differences[points(over)] *= 100
    return strongest(scores, differences, settings.reference, settings.against)


def strongest(
    scores: pd.DataFrame, differences: pd.DataFrame, reference: str, against: Sequence[str] = ()
) -> pd.DataFrame:
    """The difference to the strongest other model (highest mean over seeds), a row a task, share and metric."""
    others = scores[(scores["model"] != reference) & scores["mean"].notna()]
    if against:
        others = others[others["model"].isin(against)]
    key = ["task", "share", "metric"]
    best = others.loc[others.groupby(key)["mean"].idxmax(), [*key, "model"]]
    return best.merge(differences, on=[*key, "model"], how="inner")


def records(table: pd.DataFrame, *keys: str) -> dict[Any, dict[str, Any]]:
    """Rows of a table by the value of a column, or by the values of several."""
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    return {row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys): row for row in rows}


def unavailable(settings: Comparison, numbers: Numbers | None) -> list[Unavailable]:
    """What the comparison lacks: known beforehand, or not in its statistics."""
    known = {(entry.kind, entry.name) for entry in settings.unavailable}
    if numbers is None:
        return settings.unavailable
    drawn = {"model": numbers.models, "task": numbers.tasks}
    wanted = [("model", name, title) for name, title in settings.models.items()]
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
    if settings.tasks or settings.unavailable:
        return "Nothing of it is available here: see the last lines."
    return "Left out of this configuration."
