"""How many jobs a run of everything has, stage by stage: as `snakemake all` plans them, which a test compares."""

from __future__ import annotations

from urfm.cost import images
from urfm.plan import grid, products
from urfm.plan.availability import (
    Config,
    available_datasets,
    blur_of_model,
    blur_of_run,
    is_frozen,
    is_simulated,
    pretraining_settings,
    stand_ins,
)
from urfm.plan.settings.pretraining import uses_cache

TABLES = 7  # tables 1 to 5, comparison_with_paper, claims


def count(config: Config) -> dict[str, tuple[str, int]]:
    """Stage -> key of `resources` that its jobs have, and their number."""
    runs, cells = grid.curve_runs(config), grid.all_cells(config)
    frozen = sum(is_frozen(config, cell.model) for cell in cells)
    figures = len(products.NEEDS) - sum(name in products.NEEDS for name in products.left_out(config))
    drawn = figures + TABLES + len(grid.reconstructed_runs(config)) + 2 * len(_drawn_comparisons(config))
    wanted = dict.fromkeys(
        [*grid.encoders(config), *grid.probed_models(config), *grid.embedded_models(config).values()]
    )
    splits, datasets = images.splits(config), images.datasets(config)
    decoded = {config["tasks"][task]["dataset"] for task, _ in splits}
    decoded |= {name for run in runs for name in available_datasets(config, run)}
    stored = {
        (pretraining_settings(config, run)["teacher"], name)
        for run in runs
        if uses_cache(config, run)
        for name in available_datasets(config, run)
    }
    folders = {config["datasets"][name]["folder"] for name in datasets if is_simulated(config, name)}
    records = [config["models"][model].get("checkpoint", {}) for model in wanted]
    records += [config["teachers"][pretraining_settings(config, run)["teacher"]] for run in runs]
    random = {record.get("file") for record in records} & stand_ins(config).keys()
    pictured = [len(grid.pictured_tasks(config, figure)) for figure in ("figure_6", "figure_7")]
    found = {
        "simulated archives and stand-ins": ("small", len(folders) + len(random)),
        "manifests": ("manifest", len(datasets)),
        "image stores": ("images", len(decoded) + len(blurred_stores(config))),
        "splits and lists of images": (
            "small",
            len(splits) + len({*grid.pretrain_sets(config), *runs}),
        ),
        "stored targets": ("targets", len(stored)),
        "pre-training": ("pretrain", len(runs)),
        "encoders": ("small", len(wanted)),
        "fine-tuning": ("finetune", len(cells) - frozen),
        "baselines and frozen encoders": ("probe", frozen),
        "probes and reconstructions": (
            "probe",
            (len(grid.probed_runs(config)) + len(grid.probed_models(config))) * len(grid.probed_tasks(config))
            + len(grid.reconstructed_runs(config)),
        ),
        "attention and embeddings": ("finetune", sum(pictured) + len(grid.embedded_models(config))),
        "statistics": ("small", len(grid.comparisons(config))),
        "figures, tables, report": ("small", drawn + 1),
    }
    return {stage: entry for stage, entry in found.items() if entry[1]}


def blurred_stores(config: Config) -> list[tuple[float, str]]:
    """Sigma and data set of each second store, of blurred images."""
    seen = {
        (blur_of_run(config, run), name) for run in grid.curve_runs(config) for name in available_datasets(config, run)
    }
    for cell in grid.all_cells(config):
        tasks = filter(None, (cell.task, grid.external_task(config, cell.task)))
        seen |= {(blur_of_model(config, cell.model), config["tasks"][task]["dataset"]) for task in tasks}
    return sorted((sigma, name) for sigma, name in seen if sigma)


def _drawn_comparisons(config: Config) -> list[str]:
    return [name for name in grid.own_comparisons(config) if grid.cells(config, name)]
