"""Augmented training images of fine-tuning, beside timm's loader and its transform over ImageFolder.

The recipe of config.yaml on all sides: a crop of 224 pixels, mirrored, RandAugment; ours normalises as training does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

import numpy as np
import pandas as pd
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.transforms_factory import create_transform
from torch.utils.data import DataLoader
from urfm.config.finetuning import FinetuneSettings
from urfm.data.images.store import ImageStore
from urfm.plan import settings
from urfm.training.finetune.images import Part, TrainingImages, batches, normalise

from tests.benchmarks.suite import peers
from tests.benchmarks.suite.harness import Result, Side, take_turns
from tests.benchmarks.suite.peers import BATCH
from tests.benchmarks.suite.pictures import Bench, configuration, entries, make_store

SIZE = 224
RECORD = {"input_size": SIZE, "mean": list(IMAGENET_DEFAULT_MEAN), "std": list(IMAGENET_DEFAULT_STD)}


def epochs(store: ImageStore, recipe: FinetuneSettings, batch: int) -> Side:
    """One epoch after another, as the loop of fine-tuning loads them without workers."""
    rows = pd.DataFrame({"image_id": store.image_ids, "label": recipe.classes[0]})
    part = Part(rows, np.zeros(len(rows), np.int64), torch.empty(0))
    images, numbers = TrainingImages(recipe, store, part, RECORD, seed=0), count()
    steps = len(rows) // batch

    def epoch() -> None:
        first = next(numbers) * steps
        for pixels, _ in DataLoader(images, batch_sampler=batches(len(rows), batch, 0, first, first + steps)):
            normalise(pixels, RECORD, torch.device("cpu"))

    return epoch


def results(bench: Bench) -> Iterator[Result]:
    torch.set_num_threads(1)
    told = settings.models.finetuning(configuration(), "urfm", "breast_tumor", 100)
    recipe = FinetuneSettings.model_validate(told)
    same = {"scale": tuple(recipe.crop_scale), "auto_augment": recipe.randaugment, "interpolation": "bicubic"}
    for title, paths in bench.sets.items():
        batch = min(BATCH, len(paths))
        home = bench.folder / title.split()[0]
        store = make_store(entries(paths), home / "set")
        folder = peers.class_folder(paths, home / "folder")
        transform = create_transform(SIZE, is_training=True, color_jitter=None, **same)
        others = {
            "ImageFolder, timm's create_transform": peers.image_folder(folder, transform, batch),
            "timm's create_loader": peers.timm_loader(folder, SIZE, {"color_jitter": None, **same}, batch),
        }
        sides: dict[str, Side] = {"urfm": epochs(store, recipe, batch)}
        sides |= {name: partial(peers.consume, other, len(paths), SIZE) for name, other in others.items()}
        amounts = take_turns(sides, bench.rounds(9))
        bars = dict.fromkeys(others, 4.0)
        yield Result("augmented images of 224 pixels", title, "images/s", amounts, len(paths), bars)
