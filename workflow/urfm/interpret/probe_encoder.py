"""Probe an encoder, or every snapshot of a pre-training run, on the split of a task (stage `probe`).

Features are those that fine-tuning starts from: the whole image squashed to a square, patch tokens averaged, or the
class token. The test part is predicted by a k-NN classifier and by logistic regression (`urfm.training.frozen.probes`);
the validation part chooses the penalty and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from pydantic import Field

from urfm.config.fields import AnySeeds
from urfm.config.statistics import Probing
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, verify_sha256, write_parquet, write_record
from urfm.core.progress import progress, say
from urfm.data.images.store import ImageStore
from urfm.interpret.snapshots import feature_network, read_snapshots
from urfm.metrics import FloatArray
from urfm.models.classifier import load_classifier
from urfm.models.device import own_device
from urfm.training.finetune.images import open_image
from urfm.training.frozen.features import embed
from urfm.training.frozen.probes import knn_probabilities, linear_probe


class ProbeSettings(Probing):
    """Settings of the stage: how to probe, and what."""

    name: str  # of the run or model
    task: str
    classes: list[str] = Field(min_length=2)
    random_seeds: AnySeeds = Field(default_factory=list)


class Candidate(NamedTuple):
    """An encoder to probe. `name` is `random` where it is untrained; `epoch` counts its pre-training, -1: not known."""

    name: str
    seed: int
    epoch: int
    model: Any


def candidates(settings: ProbeSettings, path: Path, snapshots: bool) -> tuple[int, Iterator[Candidate], dict[str, Any]]:
    """The number of encoders, the encoders one after another, and what normalises their images and whether simulated.

    `path` is the json of an encoder, or of a run's snapshots; with `random_seeds` untrained networks of the run's kind
    follow.
    """
    if not snapshots:
        record = read_json(path)
        model = load_classifier(path, 1, settings.pooling, drop_path=0.0, seed=0).eval()
        return 1, iter([Candidate(settings.name, 0, -1, model)]), record
    found = read_snapshots(path)

    def each() -> Iterator[Candidate]:
        for epoch in found.epochs:
            network = feature_network(found.network(epoch), found.settings, settings.pooling)
            yield Candidate(settings.name, found.settings.seed, epoch, network)
        for seed in settings.random_seeds:
            network = feature_network(found.untrained(seed), found.settings, settings.pooling)
            yield Candidate("random", seed, 0, network)

    mean, std = found.settings.colours
    record = {
        "input_size": found.settings.input_size,
        "mean": mean,
        "std": std,
        "blur_sigma": found.settings.blur_sigma,
        "simulated": found.simulated,
        "stand_in": found.target["stand_in"],  # taught by random weights
    }
    return len(found.epochs) + len(settings.random_seeds), each(), record


def read_split(path: Path, store: ImageStore, settings: ProbeSettings) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The split (image_id, patient_id, label, subset), sorted by image_id, and its summary."""
    summary = read_json(path.with_suffix(".json"))
    verify_sha256(path, summary["sha256"])
    split = pd.read_parquet(path).sort_values("image_id", ignore_index=True)
    if unknown := sorted(set(split["label"]) - set(settings.classes)):
        raise UrfmError(f"{path}: label {unknown[0]!r} is not one of {', '.join(settings.classes)}; rebuild the split")
    if absent := [name for name in split["image_id"] if name not in store]:
        raise UrfmError(f"{store.folder}: no image {absent[0]!r}, which is in {path}; rebuild the store and the split")
    for subset in ("train", "val", "test"):
        labels = split.loc[split["subset"] == subset, "label"]
        if labels.nunique() < (2 if subset == "train" else 1):
            raise UrfmError(f"{path}: too few images or classes in the {subset} part to train or score a probe")
    return split, summary


def squares(store: ImageStore, image_ids: list[str], record: dict[str, Any]) -> torch.Tensor:
    """uint8 (images, 3, size, size): whole images, as in fine-tuning's evaluation and `urfm.embed`."""
    size = record["input_size"]
    pixels = np.empty((len(image_ids), size, size, 3), np.uint8)
    for place, image_id in enumerate(image_ids):
        square = open_image(store, image_id, record).resize((size, size), Image.Resampling.BICUBIC)
        pixels[place] = np.asarray(square)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def probe(split: pd.DataFrame, features: FloatArray, settings: ProbeSettings) -> tuple[pd.DataFrame, float]:
    """Predictions of both probes for the test part: probe, image_id, patient_id, label, p_<class>; and the chosen C."""
    labels = split["label"].map(settings.classes.index).to_numpy(np.int64)
    train, val, test = ((split["subset"] == subset).to_numpy() for subset in ("train", "val", "test"))
    number = len(settings.classes)
    knn = knn_probabilities(
        features[train], labels[train], features[test], number, settings.neighbours, settings.temperature
    )
    probe = linear_probe(features[train], labels[train], features[val], labels[val], number)
    tables = []
    for name, probabilities in (("knn", knn), ("linear", probe.probabilities(features[test]))):
        columns = pd.DataFrame(probabilities, columns=[f"p_{label}" for label in settings.classes])
        rows = split.loc[test, ["image_id", "patient_id", "label"]].reset_index(drop=True)
        tables.append(pd.concat([rows.assign(probe=name), columns], axis=1))
    return pd.concat(tables, ignore_index=True), probe.strength


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="k-NN and linear probes of an encoder or of a run's snapshots.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(ProbeSettings.model_fields))
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--encoder", type=Path, help="json of an encoder, its safetensors beside it")
    what.add_argument("--snapshots", type=Path, help="snapshots.json of a pre-training run")
    parser.add_argument("--images", type=Path, required=True, help="folder of the image store")
    parser.add_argument("--split", type=Path, required=True, help="parquet file, its summary beside it as .json")
    parser.add_argument("--output", type=Path, required=True, help="parquet file to write, with a json beside it")
    arguments = parser.parse_args()
    settings = parse_settings(ProbeSettings, arguments.settings)
    torch.set_num_threads(1)  # their number changes bits
    device = own_device()
    store = ImageStore(arguments.images, verify=True)
    split, summary = read_split(arguments.split, store, settings)
    count, models, record = candidates(settings, arguments.encoder or arguments.snapshots, bool(arguments.snapshots))
    pixels = squares(store, split["image_id"].tolist(), record)
    tables, strengths = [], []
    for candidate in progress(models, f"{settings.name} on {settings.task}", count):
        features = embed(candidate.model, pixels, record, device)
        table, strength = probe(split, features, settings)
        identity: dict[str, Any] = {"encoder": candidate.name, "seed": candidate.seed, "epoch": candidate.epoch}
        tables.append(table.assign(**identity))
        strengths.append(identity | {"c": strength})
    write_parquet(arguments.output, pd.concat(tables, ignore_index=True))
    write_record(
        arguments.output.with_suffix(".json"),
        {
            "name": settings.name,
            "task": settings.task,
            "classes": settings.classes,
            "images": split["subset"].value_counts().to_dict(),
            "patients_known": summary["patients"] is not None,
            "penalties": strengths,
            "simulated": any(origin["simulated"] for origin in (summary, store.record, record)),
            "stand_in": record.get("stand_in", False),
            "sha256": sha256(arguments.output),
        },
    )
    say(f"predictions of {count} encoder(s) in {arguments.output}")


if __name__ == "__main__":
    run(main)
