"""What a cell reads and writes, whether its encoder is fine-tuned or frozen. No torch.

A cell is a model on a task with a share of the training part: predictions.parquet, history.csv and cell.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from urfm.config.finetuning import CellSettings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, verify_sha256, write_csv, write_parquet, write_record
from urfm.core.progress import say
from urfm.data.images.store import ImageStore
from urfm.data.splits.shares import take_share
from urfm.metrics import FloatArray


class Fold(NamedTuple):
    """A split, and the seeds that are trained and tested on it."""

    summary: dict[str, Any]
    table: pd.DataFrame
    seeds: list[int]


class Other(NamedTuple):
    """Images of another set, all of which are predicted unchanged (`external`)."""

    store: ImageStore
    summary: dict[str, Any]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Sources:
    """What a cell is trained and tested on."""

    store: ImageStore
    folds: list[Fold]
    other: Other | None


def add_arguments(parser: argparse.ArgumentParser, settings: type[CellSettings]) -> None:
    """The arguments that `read_sources` and `write_cell` need."""
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(settings.model_fields))
    parser.add_argument("--images", type=Path, required=True, help="folder of the image store")
    parser.add_argument(
        "--split", type=Path, nargs="+", required=True, help="summary (.json) beside its table; per_seed: each seed's"
    )
    parser.add_argument(
        "--external-images", type=Path, help="image store of another set, all of which is predicted too"
    )
    parser.add_argument("--external-split", type=Path, help="a split of that set (.json); its parts do not count")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")


def read_sources(arguments: argparse.Namespace, settings: CellSettings) -> Sources:
    """The stores and splits of the command line, verified."""
    other = None
    if arguments.external_images:
        other = Other(ImageStore(arguments.external_images, verify=True), *read_split(arguments.external_split))
    return Sources(ImageStore(arguments.images, verify=True), read_folds(arguments.split, settings), other)


def read_split(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Summary (.json) and table of a split, whose hash the summary holds."""
    summary: dict[str, Any] = read_json(path.with_suffix(".json"))
    verify_sha256(path.with_suffix(".parquet"), summary["sha256"])
    return summary, pd.read_parquet(path.with_suffix(".parquet"))


def read_folds(paths: Sequence[Path], settings: CellSettings) -> list[Fold]:
    """Each split with the seeds that it is for: one for all or, with `per_seed`, one each."""
    per_seed = settings.split == "per_seed"
    wanted = {f"seed-{seed}": [seed] for seed in settings.seeds} if per_seed else {settings.split: settings.seeds}
    splits = [read_split(path) for path in paths]
    if (found := [summary["split"] for summary, _ in splits]) != list(wanted):
        raise UrfmError(f"--split: {', '.join(found)}; with split {settings.split} expected {', '.join(wanted)}")
    return [Fold(summary, table, seeds) for (summary, table), seeds in zip(splits, wanted.values(), strict=True)]


def rows_of(split: pd.DataFrame, store: ImageStore, settings: CellSettings) -> dict[str, pd.DataFrame]:
    """Checked rows of the three parts of a split, the training part cut to the share."""
    parts = {}
    for subset in ("train", "val", "test"):
        rows = split[split["subset"] == subset]
        if subset == "train":
            rows = take_share(rows, settings.share)
        if rows.empty:
            raise UrfmError(f"{settings.task}: the split has no {subset} images; nothing can be trained or scored")
        parts[subset] = checked(rows, store, settings)
    return parts


def checked(rows: pd.DataFrame, store: ImageStore, settings: CellSettings) -> pd.DataFrame:
    """image_id, patient_id and label in the order of image_id; an UrfmError for another label or an absent image."""
    unknown = rows[~rows["label"].isin(settings.classes)]
    if len(unknown):
        row = unknown.iloc[0]
        raise UrfmError(
            f"{settings.task}: image {row['image_id']!r} has the label {row['label']!r}, not one of "
            f"{', '.join(settings.classes)}; rebuild the split from the task's present classes"
        )
    if absent := [name for name in rows["image_id"] if name not in store]:
        raise UrfmError(
            f"{store.folder}: {len(absent)} images of {settings.task} are not in the store, {absent[0]!r} among them; "
            "delete the store and the split and run the workflow again"
        )
    return rows.sort_values("image_id", ignore_index=True)[["image_id", "patient_id", "label"]]


def prediction_table(
    rows: Mapping[str, pd.DataFrame], probabilities: Mapping[str, FloatArray], seed: int, classes: Sequence[str]
) -> pd.DataFrame:
    """One row an image of each part with probabilities: seed, identity, subset, label, p_<class>."""
    names = [f"p_{name}" for name in classes]
    tables = [
        pd.concat([rows[subset].assign(seed=seed, subset=subset), pd.DataFrame(values, columns=names)], axis=1)
        for subset, values in probabilities.items()
    ]
    return pd.concat(tables, ignore_index=True)[["seed", "image_id", "patient_id", "subset", "label", *names]]


def write_cell(
    folder: Path,
    settings: CellSettings,
    sources: Sources,
    predictions: Sequence[pd.DataFrame],
    histories: Mapping[int, Sequence[Mapping[str, Any]]],
    encoder: Mapping[str, Any] | None,
    more: Mapping[str, Any],
) -> None:
    """Write predictions.parquet, history.csv and cell.json.

    Parameters
    ----------
    predictions
        Tables as of `prediction_table`.
    histories
        Rows of each seed.
    encoder
        Its record; None for a model without one.
    more
        What else cell.json says.
    """
    write_parquet(folder / "predictions.parquet", pd.concat(predictions, ignore_index=True))
    history = pd.DataFrame([{"seed": seed, **row} for seed, rows in histories.items() for row in rows])
    write_csv(folder / "history.csv", history)
    summaries = [fold.summary for fold in sources.folds]
    trained = [*summaries, sources.store.record, *([encoder] if encoder else [])]
    external = {}
    if sources.other:
        external["external"] = {
            "task": sources.other.summary["task"],
            "patients_known": sources.other.summary["patients"] is not None,
            "simulated": any(origin["simulated"] for origin in (*trained, sources.other.store.record)),
        }
    write_record(
        folder / "cell.json",
        {
            **external,
            "model": settings.model,
            "task": settings.task,
            "share": settings.share,
            "classes": settings.classes,
            "seeds": settings.seeds,
            "split": settings.split,
            "patients_known": all(summary["patients"] is not None for summary in summaries),
            "simulated": any(origin["simulated"] for origin in trained),
            "stand_in": (encoder or {}).get("stand_in", False),
            "sha256": sha256(folder / "predictions.parquet"),
            **more,
        },
    )
    say(f"predictions in {folder / 'predictions.parquet'}")
