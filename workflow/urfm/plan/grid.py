"""Which runs the chosen figures and tables need, and what of them cannot be had here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from urfm.plan.availability import (
    Config,
    Missing,
    available_datasets,
    data_root,
    is_frozen,
    missing_decoder,
    missing_images,
    missing_model,
    missing_part,
    missing_run,
    organs_of,
    planning,
    pretraining_settings,
    wanted_datasets,
)

Item = TypeVar("Item")


# The figures of the paper whose panels draw a comparison each; their entries under `figures` name it for each panel.
COMPARING = ("figure_2", "figure_3", "figure_4", "figure_5", "figure_8")
SCALING = ("data", "model_size")  # panels of figure 8 with a size on the axis: one model alone says nothing there


class Cell(NamedTuple):
    """One job: a model on a task with a share (percent) of its training part, all seeds together."""

    model: str
    task: str
    share: int


def available_models(config: Config, comparison: str) -> list[str]:
    return [model for model in config["comparisons"][comparison]["models"] if missing_model(config, model) is None]


def available_lines(config: Config, comparison: str) -> list[str]:
    """The models that are drawn as lines across the bars of the others; none where there are no others."""
    lines = config["comparisons"][comparison].get("lines", [])
    there = [model for model in lines if missing_model(config, model) is None]
    return there if available_models(config, comparison) else []


def scored_models(config: Config, comparison: str) -> list[str]:
    """All models that a comparison scores: bars and lines."""
    return [*available_models(config, comparison), *available_lines(config, comparison)]


def wanted_models(item: Config) -> list[str]:
    """The same, whether they can be had here or not."""
    return [*item.get("models", []), *item.get("lines", [])]


def available_tasks(config: Config, item: dict[str, Any]) -> list[str]:
    """The tasks of a comparison, figure or table that have data, in the configured order."""
    return [task for task in item["tasks"] if missing_part(config, task, subset_of(item)) is None]


def subset_of(item: dict[str, Any]) -> str:
    """Which images a comparison scores: `test`, or `external`, those of a set that the models predict unchanged."""
    return str(item.get("subset", "test"))


def external_task(config: Config, task: str) -> str | None:
    """The task whose images the models of `task` predict too, if they are here."""
    return None if missing_part(config, task, "external") else str(config["tasks"][task]["external"])


def cells(config: Config, comparison: str) -> list[Cell]:
    """The fine-tuning cells of a comparison that can be had here."""
    item = config["comparisons"][comparison]
    found = [
        Cell(model, task, share)
        for task in available_tasks(config, item)
        for share in item["shares"]
        for model in scored_models(config, comparison)
    ]
    return _borrowed(config, found, item["reference"]) if item.get("claims_only") else found


def _borrowed(config: Config, cells: Sequence[Cell], reference: str) -> list[Cell]:
    """Those that other comparisons train, where there are some of the reference and of another model to compare."""
    trained_anyway = set(all_cells(config))
    there = [cell for cell in cells if cell in trained_anyway]
    own = {cell[1:] for cell in there if cell.model == reference}
    others = {cell[1:] for cell in there if cell.model != reference}
    return [cell for cell in there if cell[1:] in own & others]


def trained(config: Config) -> Config:
    """The comparisons for which cells are trained: all but those that only the claims read."""
    return {name: item for name, item in config["comparisons"].items() if not item.get("claims_only")}


def comparisons(config: Config) -> list[str]:
    """The comparisons that have cells here."""
    return [name for name in config["comparisons"] if cells(config, name)]


def stated(config: Config, table: str) -> list[str]:
    """The comparisons with something to draw that comparison_with_paper or claims speak of."""
    item = config["tables"][table]
    entries = item["paper"] if table == "comparison_with_paper" else item
    named = {entry.get("comparison") for entry in entries}
    return [name for name in comparisons(config) if name in named]


def converging_cells(config: Config) -> list[Cell]:
    """The cells whose histories the claims of faster convergence read: those of the largest share."""
    claims = config["tables"]["claims"]
    named = _unique(claim["comparison"] for claim in claims if claim.get("kind") == "faster")
    return _unique(
        cell
        for name in named
        for cell in cells(config, name)
        if cell.share == max(config["comparisons"][name]["shares"])
    )


def drawn(config: Config, figure: str) -> list[str]:
    """The comparisons with something to draw that make up a figure, in the order of its panels."""
    return [
        name
        for panel, name in config["figures"][figure].items()
        if cells(config, name) and len(available_models(config, name)) >= (2 if panel in SCALING else 1)
    ]


def figure_of(config: Config, comparison: str) -> str | None:
    """The figure of the paper that draws a comparison in a panel; None for a comparison of one's own."""
    return next((name for name in COMPARING if comparison in config["figures"][name].values()), None)


def targets(config: Config) -> list[str]:
    """The comparisons that are targets by their names: all but those named as a figure, which is the target then."""
    return [name for name in trained(config) if name not in COMPARING]


def own_comparisons(config: Config) -> list[str]:
    """The comparisons that no figure of the paper draws."""
    return [
        name for name in targets(config) if config["comparisons"][name]["tasks"] and figure_of(config, name) is None
    ]


def two_class_tasks(config: Config, comparison: str) -> list[str]:
    """The tasks of a comparison that decision curves and operating points can be had of."""
    wanted = dict.fromkeys(cell.task for cell in cells(config, comparison))
    return [task for task in wanted if len(config["tasks"][task]["classes"]) == 2]


def title_of(config: Config, comparison: str) -> str:
    """What is printed for a comparison: its title, or its name in words."""
    return str(config["comparisons"][comparison].get("title", comparison.replace("_", " ").capitalize()))


def pictured_tasks(config: Config, figure: str) -> list[str]:
    """The tasks of figure 6 or 7 that have data, if the model they look at can be had."""
    model = config["figures"]["model"]
    missing = missing_model(config, model) or (missing_decoder(config, model) if figure == "figure_6" else None)
    return [] if missing else available_tasks(config, config["figures"][figure])


def embedded_models(config: Config) -> dict[str, str]:
    """`before` and `after`: the encoders whose embeddings figure 7 shows; none where there are no two data sets."""
    item = config["figures"]["figure_7"]
    names = {"before": item["before"], "after": config["figures"]["model"]}
    several = len(available_tasks(config, item)) > 1
    return {place: model for place, model in names.items() if several and missing_model(config, model) is None}


def own_tasks(config: Config, comparison: str, model: str) -> list[str]:
    """The tasks of a model that is pre-trained on one organ: those of this organ; none of any other model."""
    run = config["models"][model].get("pretraining")
    organs = pretraining_settings(config, run)["organs"] if run else []
    tasks = config["comparisons"][comparison]["tasks"]
    return [task for task in tasks if organ_of(config, task) == organs[0]] if len(organs) == 1 else []


def organ_of(config: Config, task: str) -> str:
    """The organ of a task's data set; empty where it holds several."""
    organs = organs_of(config, config["tasks"][task]["dataset"])
    return organs[0] if len(organs) == 1 else ""


def kept_tasks(config: Config) -> list[str]:
    """The tasks whose first fine-tuned seed of the pictured model keeps its weights."""
    return _unique(task for figure in ("figure_6", "figure_7") for task in config["figures"][figure]["tasks"])


def all_cells(config: Config) -> list[Cell]:
    """The cells of all comparisons, each once."""
    return _unique(cell for name in trained(config) for cell in cells(config, name))


def models(config: Config) -> list[str]:
    """The models of all comparisons that can be had here, each once."""
    wanted = [name for name, item in trained(config).items() if item["tasks"]]
    return _unique(model for name in wanted for model in scored_models(config, name))


def encoders(config: Config) -> list[str]:
    """Those of them that have an encoder."""
    return [model for model in models(config) if "baseline" not in config["models"][model]]


def exported(config: Config) -> list[str]:
    """Those of them that are pre-trained and fine-tuned here."""
    return [
        name for name in encoders(config) if "pretraining" in config["models"][name] and not is_frozen(config, name)
    ]


def tasks(config: Config) -> list[str]:
    """The tasks of all comparisons and tables that have data, each once."""
    items = [*trained(config).values(), config["tables"]["table_2"]]
    return _unique(task for item in items for task in available_tasks(config, item))


def splits(config: Config) -> list[str]:
    """The splits that a cell is trained and tested on: one for all seeds or, with `per_seed`, one for each in order."""
    split = config["finetuning"]["split"]
    return [f"seed-{seed}" for seed in config["seeds"]] if split == "per_seed" else [split]


def shown_split(config: Config) -> str:
    """The one split that table 2, the audit and figures 1 and 7 show: the paper's where each seed has one (D31)."""
    split = str(config["finetuning"]["split"])
    return "paper" if split == "per_seed" else split


def runs(config: Config) -> list[str]:
    """The pre-training runs that the models need, each once."""
    records = [config["models"][model] for model in models(config)]
    return _unique(record["pretraining"] for record in records if "pretraining" in record)


def trainable_runs(config: Config) -> list[str]:
    """All configured pre-training runs that have data and a teacher here, whether a figure needs them or not."""
    return [run for run in config["pretraining"]["runs"] if missing_run(config, run) is None]


def table_runs(config: Config, table: str) -> list[str]:
    """The pre-training runs whose images table 1 or 3 counts and that have any here."""
    item = config["tables"][table]
    names = [item["run"]] if table == "table_1" else item["paper"]
    return [run for run in names if missing_images(config, run) is None]


def pretrain_sets(config: Config) -> list[str]:
    """The runs whose images are chosen, for training or for a table, each once."""
    return _unique([*runs(config), *table_runs(config, "table_1"), *table_runs(config, "table_3")])


def audited_runs(config: Config) -> list[str]:
    """The runs whose images count as seen in the leakage audit: those of the figures, or of the tables if none."""
    return runs(config) or pretrain_sets(config)


def probed_runs(config: Config) -> list[str]:
    """The runs whose snapshots are probed and that can be trained here, in the configured order."""
    return _unique(run for line in config["probes"]["runs"] for run in line if missing_run(config, run) is None)


def probed_models(config: Config) -> list[str]:
    return [model for model in config["probes"]["models"] if missing_model(config, model) is None]


def probed_tasks(config: Config) -> list[str]:
    return available_tasks(config, config["probes"])


def reconstructed_runs(config: Config) -> list[str]:
    return [run for run in config["reconstructions"]["runs"] if missing_run(config, run) is None]


def curve_runs(config: Config) -> list[str]:
    """The runs whose loss is drawn: those that figures, probes and reconstructions train anyway."""
    return _unique([*runs(config), *probed_runs(config), *reconstructed_runs(config)])


def run_notes(config: Config, runs: Iterable[str]) -> list[str]:
    """A sentence a run that cannot be trained here, or only on a part of its data sets."""
    sentences = []
    for run in runs:
        title = config["pretraining"]["runs"][run]["title"]
        if missing := missing_run(config, run):
            sentences.append(f"Not available: {title} ({missing.reason}).")
        else:
            sentences += partial_run(config, run, title)
    return sentences


def datasets(config: Config) -> list[str]:
    """The data sets that the tasks, the pre-training runs and the tables need and that are there, each once."""
    return _unique(
        [
            *(config["tasks"][task]["dataset"] for task in tasks(config)),
            *(dataset for run in pretrain_sets(config) for dataset in available_datasets(config, run)),
        ]
    )


def unavailable(
    config: Config, models: Sequence[str], tasks: Sequence[str], subset: str = "test"
) -> list[dict[str, str]]:
    """What a figure or table asks for and does not get: kind, name, title and reason of each."""
    return [
        {"kind": kind, "name": name, "title": config[f"{kind}s"][name]["title"], "reason": missing.reason}
        for kind, name, missing in _missing(config, models, tasks, subset)
    ]


def _missing(
    config: Config, models: Sequence[str], tasks: Sequence[str], subset: str
) -> Iterator[tuple[str, str, Missing]]:
    for task in tasks:
        if missing := missing_part(config, task, subset):
            yield "task", task, missing
    for model in models:
        if missing := missing_model(config, model):
            yield "model", model, missing


def partial_pretraining(config: Config, models: Sequence[str]) -> list[str]:
    """A sentence a model that is pre-trained here on a part of its data sets only, because others are not there."""
    records = [config["models"][model] for model in models]
    return [
        sentence
        for record in records
        if "pretraining" in record
        for sentence in partial_run(config, record["pretraining"], record["title"])
    ]


def partial_run(config: Config, run: str, title: str) -> list[str]:
    """A sentence if some data sets of a run are not there."""
    wanted, there = wanted_datasets(config, run), available_datasets(config, run)
    names = ", ".join(config["datasets"][name]["folder"] for name in there)
    sentence = f"{title}: pre-trained on {len(there)} of {len(wanted)} data sets ({names})."
    return [sentence] if len(there) < len(wanted) else []


def split_note(config: Config) -> list[str]:
    """A sentence where the models are fine-tuned and tested on another split than the paper's."""
    split = config["finetuning"]["split"]
    if split == "per_seed":
        return ["Each seed trained and tested on a split of its own, not on the paper's one."]
    return [] if split == "paper" else [f"Trained and tested on the split {split!r}, not on the paper's."]


def summary(config: Config) -> list[str]:
    """Lines for a person: what will be drawn, and what is missing and why."""
    lines = [f"{data_root(config)} is not there yet: this is the plan for all data"] if planning(config) else []
    if names := [*config["stand_ins"]["models"], *config["stand_ins"]["teachers"]]:
        lines.append(f"stand-ins with random weights, for demonstration only: {', '.join(names)}")
    wanted = {name: item for name, item in sorted(trained(config).items()) if item["tasks"]}
    absent: dict[str, list[str]] = {}
    for name, item in wanted.items():
        lines.append(
            f"{name}: {len(available_models(config, name))} of {len(item['models'])} models on "
            f"{len(available_tasks(config, item))} of {len(item['tasks'])} tasks"
        )
        for kind, absentee, missing in _missing(config, wanted_models(item), item["tasks"], subset_of(item)):
            absent.setdefault(f"{kind} {absentee}: {missing.reason} ({missing.detail})", []).append(name)
    lines += [f"not available: {what}, wanted by {', '.join(names)}" for what, names in absent.items()]
    return lines + split_note(config) + partial_pretraining(config, models(config))


def _unique(items: Iterable[Item]) -> list[Item]:
    return list(dict.fromkeys(items))
