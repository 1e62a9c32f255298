"""Fine-tuning an encoder on a task: Table 5 of the paper, on MAE's recipe (facebookresearch/mae, main_finetune.py).

A cell (model, task, share of the training part) is one job with all its seeds. A seed fixes everything: the new
layers, the order of the images, their augmentation, mixing and drop path are functions of (seed, epoch, image) or
(seed, step) and of nothing that ran before. So a seed that was killed goes on from its last checkpoint, in the
middle of an epoch too, to the same predictions, bit for bit on one CPU thread, whatever the number of workers.

The result are the predictions of each seed's best epoch (`urfm.training.finetune.loop`). With `keep_weights` the first
seed's network of that epoch is a result too. Images of another set (`external`) are predicted at the same epochs as
the test part.

State: `<state>/<fingerprint>/<code>/seed-<n>/` (`urfm.training.lineage`), the fingerprint without the list of seeds:
`finished.pt` of a seed that is done stays, so that another seed trains alone. Where each seed has its own split, each
has its own fingerprint. Where weights are wanted and a seed has none, it trains again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from urfm.config.finetuning import FinetuneSettings
from urfm.core.cli import parse_settings, run
from urfm.core.code import definitions
from urfm.core.files import read_json, sha256
from urfm.core.lock import lock
from urfm.core.progress import say, warn
from urfm.core.provenance import fingerprint
from urfm.data.images.store import ImageStore
from urfm.models.device import own_device
from urfm.models.weights import write_file
from urfm.training import lineage, optimisation
from urfm.training.finetune.cell import add_arguments, checked, prediction_table, read_sources, write_cell
from urfm.training.finetune.images import prepared, read_parts
from urfm.training.finetune.learnt import warnings
from urfm.training.finetune.loop import Cell, train_seed

CHOICES = {"SELECTION": "selection_metric"}  # of urfm.core.code


def predictions(cell: Cell, seed: int, done: dict[str, Any]) -> pd.DataFrame:
    """Those of a seed's best epoch: the softmax in float64 of all parts but train."""
    names = [name for name in cell.parts if name != "train"]
    rows = {name: cell.parts[name].rows for name in names}
    probabilities = {name: done["best"][name].double().softmax(1).numpy() for name in names}
    return prediction_table(rows, probabilities, seed, cell.settings.classes)


def identity(
    settings: FinetuneSettings, record: dict[str, Any], origins: list[tuple[dict[str, Any], ImageStore]]
) -> list[Any]:
    """What a seed's result depends on, the seed and the code apart.

    Parameters
    ----------
    record
        Of the encoder.
    origins
        Summary of the split, and the store of its images; the other set's too, if one is predicted.
    """
    # A random encoder has no weights to hash: what it is stands in its record.
    encoder = ("architecture", "model_args", "input_size", "mean", "std", "weights", "sha256")
    return [
        settings.model_dump(exclude={"seeds", "split", "keep_weights"}),
        [[summary["sha256"], store.record["sha256"], store.record["index_sha256"]] for summary, store in origins],
        {key: record[key] for key in encoder},
    ]


def write_weights(settings: FinetuneSettings, best: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write the network of the first seed's best epoch; returns what cell.json says of it."""
    write_file(path, best["weights"])
    form = settings.model_dump(include={"pooling", "evaluation_resize"})
    return {"seed": settings.seeds[0], "epoch": best["epoch"], "sha256": sha256(path), **form}


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Fine-tune an encoder on a task with all its seeds.")
    add_arguments(parser, FinetuneSettings)
    parser.add_argument("--encoder", type=Path, required=True, help="json file, the safetensors beside it")
    parser.add_argument("--state", type=Path, required=True, help="folder that survives kills and repeats")
    parser.add_argument("--keep-state", action="store_true", help="go on from the state of other code: it is as good")
    parser.add_argument("--workers", type=int, default=0, help="processes that augment; 0: none beside this one")
    parser.add_argument("--save-seconds", type=float, default=60, help="least time between two checkpoints")
    arguments = parser.parse_args()
    settings = parse_settings(FinetuneSettings, arguments.settings)

    torch.set_num_threads(1)  # two threads are slower than two processes, and their number changes bits
    device = own_device()
    precision = optimisation.choose_precision(settings.precision, device)
    if device.type == "cuda" and precision != "fp32":
        # Evaluation is in fp32: some 55 % of the time, if its products are. TF32's keep 10 of 23 bits of what is
        # multiplied, more than the bf16 of training, and all 23 of the sums, so that no two logits become equal.
        torch.set_float32_matmul_precision("high")
    settings = settings.model_copy(update={"precision": precision})
    sources = read_sources(arguments, settings)
    store, other = sources.store, sources.other
    record = read_json(arguments.encoder)
    code = definitions("urfm.training.finetune.stage", settings.model_dump())
    records: dict[int, dict[str, Any]] = {}
    tables, counts = [], []
    accepted: list[str] = []
    warned: dict[str, list[str]] = {}
    for summary, split, seeds in sources.folds:
        parts = read_parts(split, store, settings, record)
        if other:
            rows = checked(other.rows, other.store, settings)
            parts["external"] = prepared(rows, other.store, settings, record, prepare=True)
        cell = Cell(
            settings, store, arguments.encoder, record, parts, device, arguments.workers, arguments.save_seconds
        )
        counts.append({subset: len(part.rows) for subset, part in parts.items()})
        say(
            f"{settings.model} on {settings.task} ({settings.share} %), split {summary['split']}: {counts[-1]}, "
            f"{len(seeds)} seeds, {device}"
        )
        origins = [(summary, store), *([(other.summary, other.store)] if other else [])]
        folder = lineage.folder_of(arguments.state, fingerprint(*identity(settings, record, origins)), code)
        lineage.prepare(folder, code, arguments.keep_state)
        with lock(folder):
            for seed in seeds:
                records[seed] = done = train_seed(cell, seed, folder / f"seed-{seed}")
                say(
                    f"seed {seed}: best of {len(done['history'])} epochs is {done['best']['epoch']}, validation "
                    f"{settings.selection_metric} {done['best']['score']:.3f}, {done['seconds']:.0f} s"
                )
                if found := warnings(cell, done):
                    warned[str(seed)] = found
                    warn(f"{settings.model} on {settings.task}, seed {seed}: {'; '.join(found)}")
        lineage.forget_others(folder)
        accepted += lineage.accepted_changes(folder)
        tables += [predictions(cell, seed, records[seed]) for seed in seeds]

    more: dict[str, Any] = {}
    if settings.keep_weights:
        best = records[settings.seeds[0]]["best"]
        more["weights"] = write_weights(settings, best, arguments.output / "weights.safetensors")
    more |= {
        "images": counts[0],  # of the first seed, where each has its own split
        "selected_epochs": {str(seed): done["best"]["epoch"] for seed, done in records.items()},
        "warnings": warned,
        "accepted_code_changes": sorted(set(accepted)),
        "seconds": sum(done["seconds"] for done in records.values()),
    }
    histories = {seed: done["history"] for seed, done in records.items()}
    write_cell(arguments.output, settings, sources, tables, histories, record, more)


if __name__ == "__main__":
    run(main)
