"""What any model should beat: the majority class, thumbnails, and a classifier on an encoder that is not trained.

A cell as fine-tuning writes it (`urfm.training.finetune.cell`), on the same parts of the same splits. The training part
fits the classifier, the validation part chooses the penalty of logistic regression and nothing else.

Nothing here has a seed but the weights of a random encoder. So what is fitted on a split stands for every seed that has
this split; where all have one, cell.json says `deterministic`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.metrics import log_loss

from urfm.config.fields import Count, Pooling, Positive, Resize
from urfm.config.finetuning import CellSettings
from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.core.progress import say
from urfm.data.images.store import ImageStore
from urfm.metrics import FloatArray, IntArray, validation_f1
from urfm.training.finetune.cell import (
    add_arguments,
    checked,
    prediction_table,
    read_sources,
    rows_of,
    write_cell,
)
from urfm.training.frozen.probes import knn_probabilities, linear_probe

THUMBNAIL = 32  # pixels a side, grey
CHOICES = {"METHODS": "method"}  # of urfm.core.code


class FrozenSettings(CellSettings):
    """Settings of the stage: which cell it is, the method, and what that method reads."""

    method: Literal["majority", "thumbnails", "linear_probe", "knn"]
    pooling: Pooling = "mean"
    evaluation_resize: Resize = "squash"
    neighbours: Count = 20
    temperature: Positive = 0.07


Images = Sequence[tuple[ImageStore, str]]


class Known(NamedTuple):
    """Features and class numbers of the training and the validation part."""

    train: FloatArray
    labels: IntArray
    validation: FloatArray
    validation_labels: IntArray


def nothing(images: Images, settings: FrozenSettings, encoder: Path | None, seed: int) -> FloatArray:
    """No feature."""
    return np.empty((len(images), 0))


def thumbnails(images: Images, settings: FrozenSettings, encoder: Path | None, seed: int) -> FloatArray:
    """The whole image squashed to THUMBNAIL pixels a side, grey."""
    size = (THUMBNAIL, THUMBNAIL)
    small = [
        Image.fromarray(store.read(name)).convert("L").resize(size, Image.Resampling.BICUBIC) for store, name in images
    ]
    return np.stack([np.asarray(image, dtype=np.float64).ravel() for image in small])


def embedded(images: Images, settings: FrozenSettings, encoder: Path | None, seed: int) -> FloatArray:
    """Features of the encoder."""
    from urfm.training.frozen.features import encoder_features  # the baselines need no torch

    if encoder is None:
        raise UrfmError(f"method {settings.method}: needs --encoder")
    classes = len(settings.classes)
    return encoder_features(images, encoder, classes, settings.pooling, settings.evaluation_resize, seed)


Guess = tuple[FloatArray, dict[str, float]]  # probabilities (images, classes), and what history.csv notes


def frequencies(known: Known, features: FloatArray, settings: FrozenSettings) -> Guess:
    """For every image how frequent each class is in the training part."""
    counts = np.bincount(known.labels, minlength=len(settings.classes))
    return np.tile(counts / counts.sum(), (len(features), 1)), {}


def linear(known: Known, features: FloatArray, settings: FrozenSettings) -> Guess:
    """Logistic regression, its penalty chosen on the validation part."""
    if len(set(known.labels.tolist())) < 2:
        raise UrfmError(f"{settings.task}: {settings.share} % of the training part hold one class; nothing to fit")
    probe = linear_probe(*known, len(settings.classes))
    return probe.probabilities(features), {"c": probe.strength}


def neighbours(known: Known, features: FloatArray, settings: FrozenSettings) -> Guess:
    """Weighted votes of the nearest training images."""
    votes = settings.neighbours, settings.temperature
    return knn_probabilities(known.train, known.labels, features, len(settings.classes), *votes), {}


class Method(NamedTuple):
    """What is made of an image, and what is made of that."""

    features: Callable[[Images, FrozenSettings, Path | None, int], FloatArray]
    classify: Callable[[Known, FloatArray, FrozenSettings], Guess]


METHODS = {
    "majority": Method(nothing, frequencies),
    "thumbnails": Method(thumbnails, linear),
    "linear_probe": Method(embedded, linear),
    "knn": Method(embedded, neighbours),
}


def predict(
    rows: Mapping[str, pd.DataFrame],
    stores: Mapping[str, ImageStore],
    settings: FrozenSettings,
    encoder: Path | None,
    seed: int,
) -> tuple[dict[str, FloatArray], dict[str, float]]:
    """Probabilities (images, classes) of every part but `train`, and the row of history.csv.

    Parameters
    ----------
    rows
        Of each part, `train` and `val` among them: image_id and label.
    stores
        Where the images of each part are.
    """
    begun = time.monotonic()
    method = METHODS[settings.method]
    images = [(stores[part], str(name)) for part, table in rows.items() for name in table["image_id"]]
    ends = np.cumsum([len(table) for table in rows.values()])[:-1]
    features = dict(zip(rows, np.split(method.features(images, settings, encoder, seed), ends), strict=True))
    labels = {
        part: table["label"].map(settings.classes.index).to_numpy(np.int64, copy=True) for part, table in rows.items()
    }
    known = Known(features["train"], labels["train"], features["val"], labels["val"])
    others = [part for part in rows if part != "train"]
    guess, noted = method.classify(known, np.concatenate([features[part] for part in others]), settings)
    ends = np.cumsum([len(rows[part]) for part in others])[:-1]
    probabilities = dict(zip(others, np.split(guess, ends), strict=True))
    validation = probabilities["val"]
    return probabilities, {
        "epoch": 1,
        "val_loss": float(log_loss(labels["val"], validation, labels=range(len(settings.classes)))),
        "val_f1_macro": validation_f1(labels["val"], validation),
        **noted,
        "seconds": time.monotonic() - begun,
    }


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Fit a classifier on features that are not trained.")
    add_arguments(parser, FrozenSettings)
    parser.add_argument("--encoder", type=Path, help="json file, the safetensors beside it; for linear_probe and knn")
    arguments = parser.parse_args()
    settings = parse_settings(FrozenSettings, arguments.settings)
    sources = read_sources(arguments, settings)
    encoder = read_json(arguments.encoder) if arguments.encoder else None
    random = encoder is not None and encoder["weights"] == "random"
    tables, counts = [], []
    histories: dict[int, list[dict[str, Any]]] = {}
    for summary, split, seeds in sources.folds:
        rows = rows_of(split, sources.store, settings)
        stores = dict.fromkeys(rows, sources.store)
        if sources.other:
            rows["external"] = checked(sources.other.rows, sources.other.store, settings)
            stores["external"] = sources.other.store
        counts.append({part: len(table) for part, table in rows.items()})
        say(f"{settings.model} on {settings.task} ({settings.share} %), split {summary['split']}: {counts[-1]}")
        for seed in seeds:
            if random or seed == seeds[0]:
                probabilities, row = predict(rows, stores, settings, arguments.encoder, seed)
            tables.append(prediction_table(rows, probabilities, seed, settings.classes))
            histories[seed] = [row]
    more = {
        "images": counts[0],  # of the first seed, where each has its own split
        "method": settings.method,
        "deterministic": settings.split != "per_seed" and not random,
    }
    write_cell(arguments.output, settings, sources, tables, histories, encoder, more)


if __name__ == "__main__":
    run(main)
