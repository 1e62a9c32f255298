"""What each figure needs to say anything, and which of them are left out here.

`missing` answers None for a figure that can be drawn, as the functions `missing_…` of `urfm.plan.availability` do.
Tables need nothing: they name what is not there row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from urfm.plan import grid
from urfm.plan.availability import Config, Missing, missing_images, missing_model

UNWANTED = "left out of this configuration"


def missing(config: Config, product: str) -> Missing | None:
    """Why a figure, the audit, or a comparison of one's own cannot be made here."""
    return NEEDS[product](config) if product in NEEDS else _scores(config, [product])


def left_out(config: Config) -> dict[str, Missing]:
    """All that cannot be made here, by name."""
    found = {name: missing(config, name) for name in [*NEEDS, *grid.own_comparisons(config)]}
    return {name: gap for name, gap in found.items() if gap}


def summary(config: Config) -> list[str]:
    """Lines for a person: what is left out although it is configured, those of one reason together."""
    names: dict[Missing, list[str]] = {}
    for name, gap in left_out(config).items():
        names.setdefault(gap, []).append(name)
    return [
        f"left out: {', '.join(together)}: {gap.reason} ({gap.detail})"
        for gap, together in names.items()
        if gap.reason != UNWANTED
    ]


def _scores(config: Config, comparisons: list[str]) -> Missing | None:
    """Any model on any task of any of these comparisons."""
    if any(grid.cells(config, name) for name in comparisons):
        return None
    return _unless_wanted(any(config["comparisons"][name]["tasks"] for name in comparisons))


def _unless_wanted(wanted: bool) -> Missing:
    return (
        Missing("none of its models and tasks is here", "see above")
        if wanted
        else Missing(UNWANTED, "it names no task")
    )


def _panels(figure: str, config: Config) -> Missing | None:
    return _scores(config, list(config["figures"][figure].values()))


def _figure_1(config: Config) -> Missing | None:
    item = config["figures"]["figure_1"]
    if grid.cells(config, item["comparison"]) or missing_images(config, item["run"]) is None:
        return None
    return Missing("needs scores, or images of a pre-training run", f"{item['comparison']}, {item['run']}")


def _figure_5(config: Config) -> Missing | None:
    """Panel A draws a model of an organ on a task of its organ, B and C its difference from the reference."""
    name = config["figures"]["figure_5"]["comparison"]
    item, models = config["comparisons"][name], grid.available_models(config, name)
    if gap := _scores(config, [name]):
        return gap
    tasks = grid.available_tasks(config, item)
    own = any(task in tasks for model in models for task in grid.own_tasks(config, name, model))
    if own or (item["reference"] in models and len(models) > 1):
        return None
    return Missing("needs a model of an organ, and the reference or a task of that organ", _counted(models, tasks))


def _figure_6(config: Config) -> Missing | None:
    return None if grid.pictured_tasks(config, "figure_6") else _pictured(config, "figure_6")


def _figure_7(config: Config) -> Missing | None:
    """Data sets are told apart above, classes below."""
    if grid.embedded_models(config) or grid.pictured_tasks(config, "figure_7"):
        return None
    return _pictured(config, "figure_7")


def _pictured(config: Config, figure: str) -> Missing:
    model, tasks = config["figures"]["model"], config["figures"][figure]["tasks"]
    gap = missing_model(config, model)
    if not tasks or not gap:
        return _unless_wanted(bool(tasks))
    return Missing(f"needs the model {model}", gap.reason)


def _figure_8(config: Config) -> Missing | None:
    panels = config["figures"]["figure_8"]
    if grid.drawn(config, "figure_8"):
        return None
    return _scores(config, list(panels.values())) or Missing("needs two models that differ in size", "here: one")


def _ranks(config: Config) -> Missing | None:
    name = config["figures"]["figure_2"]["comparison"]
    models, tasks = grid.available_models(config, name), grid.available_tasks(config, config["comparisons"][name])
    if len(models) > 1 and len(tasks) > 1:
        return None
    return _scores(config, [name]) or Missing("needs two models and two tasks", _counted(models, tasks))


def _two_classes(config: Config) -> Missing | None:
    name = config["figures"]["figure_2"]["comparison"]
    if grid.two_class_tasks(config, name):
        return None
    return _scores(config, [name]) or Missing("needs a task of two classes", "all here have more")


def _counted(models: list[str], tasks: list[str]) -> str:
    return "here: " + ", ".join(
        f"{len(names)} {kind}{'s' * (len(names) != 1)}" for kind, names in (("model", models), ("task", tasks))
    )


def _probes(config: Config) -> Missing | None:
    if grid.probed_runs(config) and grid.probed_tasks(config):
        return None
    wanted = config["probes"]["runs"] and config["probes"]["tasks"]
    if not wanted:
        return Missing(UNWANTED, "it names no run or no task")
    return Missing(
        "needs a run of `probes.runs` and a task of `probes.tasks`", "those that are not here are named above"
    )


def _losses(config: Config) -> Missing | None:
    return None if grid.curve_runs(config) else Missing("needs a pre-training run", "none can be trained here")


def _audit(config: Config) -> Missing | None:
    return None if grid.datasets(config) else Missing("needs images", "no data set of a task or a run is here")


NEEDS: dict[str, Callable[[Config], Missing | None]] = {
    "figure_1": _figure_1,
    "figure_2": partial(_panels, "figure_2"),
    "figure_3": partial(_panels, "figure_3"),
    "figure_4": partial(_panels, "figure_4"),
    "figure_5": _figure_5,
    "figure_6": _figure_6,
    "figure_7": _figure_7,
    "figure_8": _figure_8,
    "critical_difference": _ranks,
    "calibration": partial(_panels, "figure_2"),
    "decision_curves": _two_classes,
    "operating_points": _two_classes,
    "probe_curves": _probes,
    "loss_curves": _losses,
    "audit": _audit,
    "duplicates_sheet": _audit,
}
