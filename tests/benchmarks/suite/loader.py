"""Training crops of 224 and 128 pixels from a store, as pre-training loads them, beside other loaders of the files.

Ours is `load_steps`, with the noise that masks each image, and the normalisation that training does on its device.
`bare gather and crop` is what ours cannot do without: the same images of the same store, cropped and resized by the
same function, the boxes drawn beforehand; no loader, no draws, no mask, not normalised. It is beside ours without
normalisation, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

import torch
from urfm.config.pretraining import PretrainSettings
from urfm.data.images.store import ImageStore
from urfm.data.streams import Stream, generator
from urfm.data.views import draw_view, take_view
from urfm.models.normalisation import normalise
from urfm.training.distributed import Processes
from urfm.training.pretrain.samples import Samples, batches_of, load_steps

from tests.benchmarks.suite import peers
from tests.benchmarks.suite.harness import Result, Side, take_turns
from tests.benchmarks.suite.peers import BATCH
from tests.benchmarks.suite.pictures import Bench, entries, make_store, pretraining, table

JOB = Processes(0, 1, torch.device("cpu"))
BARS = {"MAE's recipe, ImageFolder": 20.0}


def epochs(samples: Samples, batch: int, normalised: bool) -> Side:
    """One epoch after another of what a step of training begins with."""
    settings, numbers = samples.settings, count()
    steps = len(samples) // batch
    patches = (settings.input_size // 16) ** 2

    def epoch() -> None:
        first, seen = next(numbers) * steps, 0
        for parts in load_steps(samples, batches_of(samples, batch, JOB, first, first + steps), batch, patches, 0):
            for part in parts:
                seen += len(part["student"])
                if normalised:
                    normalise(part["student"], *settings.colours)
        if seen != len(samples):
            raise RuntimeError(f"{seen} images in an epoch of {len(samples)}")

    return epoch


def bare(store: ImageStore, settings: PretrainSettings, batch: int) -> Side:
    """The same crops as those of one epoch."""
    views = []
    for row in range(len(store)):
        height, width = store.read_row(row).shape[:2]
        random = generator(Stream.CROP, settings.seed, 0, row)
        views.append((row, draw_view(random, height, width, settings.crop_scale, settings.flip)))

    def epoch() -> None:
        for first in range(0, len(views), batch):
            rows = views[first : first + batch]
            torch.stack([take_view(store.read_row(row), view, settings.input_size) for row, view in rows])

    return epoch


def results(bench: Bench) -> Iterator[Result]:
    torch.set_num_threads(1)
    for title, paths in bench.sets.items():
        batch = min(BATCH, len(paths))
        home = bench.folder / title.split()[0]
        store = make_store(entries(paths), home / "set")
        folder = peers.class_folder(paths, home / "folder")
        for size in (224, 128):
            settings = pretraining("mim_us", input_size=size)
            samples = Samples(settings, table(store), [store], [])
            transform = peers.mae_transform(size)
            others = {
                "MAE's recipe, ImageFolder": peers.image_folder(folder, transform, batch),
                "MAE's recipe, webdataset": peers.webdataset(paths, home / f"{size}.tar", transform, batch),
                "MAE's recipe, litdata": peers.litdata(paths, home / f"litdata-{size}", transform, batch),
            }
            sides: dict[str, Side] = {"urfm": epochs(samples, batch, normalised=True)}
            sides |= {name: partial(peers.consume, other, len(paths), size) for name, other in others.items()}
            amounts = take_turns(sides, bench.rounds(9))
            yield Result(f"crops of {size} pixels", title, "images/s", amounts, len(paths), BARS)
            sides = {
                "urfm": epochs(samples, batch, normalised=False),
                "bare gather and crop": bare(store, settings, batch),
            }
            amounts = take_turns(sides, bench.rounds(15))
            bars = {"bare gather and crop": 0.91}
            yield Result(f"crops of {size} pixels, uint8", title, "images/s", amounts, len(paths), bars)
