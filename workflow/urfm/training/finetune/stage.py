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
from safetensors.torch import save_file

from urfm.config.finetuning import FinetuneSettings
from urfm.core.cli import parse_settings, run
from urfm.core.code import definitions
from urfm.core.files import atomic_path, read_json, sha256, write_csv, write_json, write_parquet
from urfm.core.progress import say, warn
from urfm.core.provenance import fingerprint
from urfm.data.images.store import ImageStore
from urfm.training import lineage, optimisation, state
from urfm.training.finetune.images import read_part, read_parts, read_split, read_splits
from urfm.training.finetune.learnt import warnings
from urfm.training.finetune.loop import Cell, train_seed

CHOICES = {"SELECTION": "selection_metric"}  # of urfm.core.code


def predictions(cell: Cell, records: dict[int, dict[str, Any]]) -> pd.DataFrame:
    """One row a seed and image of all parts but train: identity, label, and p_<class>, the softmax in float64."""
    tables = []
    for seed, record in records.items():
        for subset in [name for name in cell.parts if name != "train"]:
            table = cell.parts[subset].rows.assign(seed=seed, subset=subset)
            probabilities = record["best"][subset].double().softmax(1).numpy()
            for index, name in enumerate(cell.settings.classes):
                table[f"p_{name}"] = probabilities[:, index]
            tables.append(table)
    columns = ["seed", "image_id", "patient_id", "subset", "label", *(f"p_{name}" for name in cell.settings.classes)]
    return pd.concat(tables, ignore_index=True)[columns]


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
    with atomic_path(path) as temporary:
        save_file(best["weights"], temporary, metadata={"format": "pt"})
    form = settings.model_dump(include={"pooling", "evaluation_resize"})
    return {"seed": settings.seeds[0], "epoch": best["epoch"], "sha256": sha256(path), **form}


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Fine-tune an encoder on a task with all its seeds.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(FinetuneSettings.model_fields))
    parser.add_argument("--images", type=Path, required=True, help="folder of the image store")
    parser.add_argument(
        "--split", type=Path, nargs="+", required=True, help="summary (.json) beside its table; per_seed: each seed's"
    )
    parser.add_argument(
        "--external-images", type=Path, help="image store of another set, all of which is predicted too"
    )
    parser.add_argument("--external-split", type=Path, help="a split of that set (.json); its parts do not count")
    parser.add_argument("--encoder", type=Path, required=True, help="json file, the safetensors beside it")
    parser.add_argument("--state", type=Path, required=True, help="folder that survives kills and repeats")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--keep-state", action="store_true", help="go on from the state of other code: it is as good")
    parser.add_argument("--workers", type=int, default=0, help="processes that augment; 0: none beside this one")
    parser.add_argument("--save-seconds", type=float, default=60, help="least time between two checkpoints")
    arguments = parser.parse_args()
    settings = parse_settings(FinetuneSettings, arguments.settings)

    torch.set_num_threads(1)  # two threads are slower than two processes, and their number changes bits
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = optimisation.choose_precision(settings.precision, device)
    settings = settings.model_copy(update={"precision": precision})
    store = ImageStore(arguments.images, verify=True)
    record = read_json(arguments.encoder)
    other = ImageStore(arguments.external_images, verify=True) if arguments.external_images else None
    other_summary, other_rows = read_split(arguments.external_split) if other else ({}, pd.DataFrame())
    code = definitions("urfm.training.finetune.stage", settings.model_dump())
    splits = read_splits(arguments.split, settings)
    records: dict[int, dict[str, Any]] = {}
    tables, counts = [], []
    accepted: list[str] = []
    warned: dict[str, list[str]] = {}
    for summary, split, seeds in splits:
        parts = read_parts(split, store, settings, record["input_size"])
        if other:
            parts["external"] = read_part(other_rows, other, settings, record["input_size"], prepare=True)
        cell = Cell(
            settings, store, arguments.encoder, record, parts, device, arguments.workers, arguments.save_seconds
        )
        counts.append({subset: len(part.rows) for subset, part in parts.items()})
        say(
            f"{settings.model} on {settings.task} ({settings.share} %), split {summary['split']}: {counts[-1]}, "
            f"{len(seeds)} seeds, {device}"
        )
        origins = [(summary, store), *([(other_summary, other)] if other else [])]
        folder = lineage.folder_of(arguments.state, fingerprint(*identity(settings, record, origins)), code)
        lineage.prepare(folder, code, arguments.keep_state)
        with state.lock(folder):
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
        tables.append(predictions(cell, {seed: records[seed] for seed in seeds}))

    write_parquet(arguments.output / "predictions.parquet", pd.concat(tables, ignore_index=True))
    history = pd.DataFrame([{"seed": seed, **row} for seed, done in records.items() for row in done["history"]])
    write_csv(arguments.output / "history.csv", history)
    more: dict[str, Any] = {}
    if settings.keep_weights:
        best = records[settings.seeds[0]]["best"]
        more["weights"] = write_weights(settings, best, arguments.output / "weights.safetensors")
    summaries = [summary for summary, _, _ in splits]
    trained = [*summaries, store.record, record]
    if other:
        more["external"] = {
            "task": other_summary["task"],
            "patients_known": other_summary["patients"] is not None,
            "simulated": any(origin["simulated"] for origin in (*trained, other.record)),
        }
    write_json(
        arguments.output / "cell.json",
        {
            **more,
            "model": settings.model,
            "task": settings.task,
            "share": settings.share,
            "classes": settings.classes,
            "seeds": settings.seeds,
            "split": settings.split,
            "images": counts[0],  # of the first seed, where each has its own split
            "patients_known": all(summary["patients"] is not None for summary in summaries),
            "selected_epochs": {str(seed): done["best"]["epoch"] for seed, done in records.items()},
            "warnings": warned,
            "simulated": any(origin["simulated"] for origin in trained),
            "stand_in": record.get("stand_in", False),
            "sha256": sha256(arguments.output / "predictions.parquet"),
            "accepted_code_changes": sorted(set(accepted)),
            "seconds": sum(done["seconds"] for done in records.values()),
        },
    )
    say(f"predictions in {arguments.output / 'predictions.parquet'}")


if __name__ == "__main__":
    run(main)
