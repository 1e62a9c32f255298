"""Memory of a process that loads crops of 1,000,000 images, beside 10,000: the most that was resident, MB.

The store has an index of so many rows that all point at one picture, so that pixels, which are mapped from the file and
belong to nobody, do not count. Each measurement is a process of its own: it opens the store and the list of images as
pre-training does, orders an epoch and loads some batches.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from urfm.core.files import sha256, write_parquet, write_record
from urfm.data.images.store import INDEX

from tests.benchmarks.suite.harness import Result, take_turns
from tests.benchmarks.suite.pictures import Bench, pretraining

SIDE, BATCH, STEPS = 64, 64, 4


def make(folder: Path, images: int) -> Path:
    """A store and a list of its images."""
    store = folder / "set"
    store.mkdir(parents=True)
    (store / "pixels.bin").write_bytes(bytes(SIDE * SIDE))
    ids = [f"set/radiology/{number:07}.png" for number in range(images)]
    same = {"offset": 0, "height": SIDE, "width": SIDE, "channels": 1}
    columns = [pa.array(ids), *(np.full(images, value) for value in same.values())]
    pq.write_table(pa.table(columns, names=INDEX.names).cast(INDEX), store / "index.parquet")
    hashes = {"sha256": sha256(store / "pixels.bin"), "index_sha256": sha256(store / "index.parquet")}
    write_record(store / "store.json", {"images": images, "bytes": SIDE * SIDE, "long_side": SIDE, **hashes})
    listed = pa.table({"image_id": ids, "dataset": ["set"] * images, "organ": ["thyroid"] * images}).to_pandas()
    write_parquet(folder / "list.parquet", listed)
    write_record(folder / "list.json", {"sha256": sha256(folder / "list.parquet")})
    return folder


def load(folder: Path) -> None:
    """What is measured."""
    import torch
    from urfm.training.distributed import Processes
    from urfm.training.pretrain.samples import Samples, batches_of, load_steps, open_data, open_pretrain_set

    torch.set_num_threads(1)
    chosen = pretraining("mim_us")
    _, images = open_pretrain_set(folder / "list.parquet")
    stores, targets = open_data(chosen, {"set"}, [folder / "set"], [], verify=False)
    samples = Samples(chosen, images, stores, targets)
    del images
    batches = batches_of(samples, BATCH, Processes(0, 1, torch.device("cpu")), 0, STEPS)
    for _ in load_steps(samples, batches, BATCH, 196, 0):
        pass


def peak(folder: Path) -> float:
    """MB at most of a process that loads."""
    command = [sys.executable, "-m", "tests.benchmarks.suite.memory", str(folder)]
    return float(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def results(bench: Bench) -> Iterator[Result]:
    sizes = (1_000, 10_000) if bench.quick else (10_000, 1_000_000)
    few, many = (make(bench.folder / str(images), images) for images in sizes)
    names = [f"{images:,} images" for images in sizes]
    sides = {names[1]: partial(peak, many), names[0]: partial(peak, few)}
    amounts = take_turns(sides, bench.rounds(3), warm_up=0, measure=lambda side: side())
    yield Result("loading crops", f"{sizes[1]:,} images", "MB", amounts, bars={names[0]: 1.1})


if __name__ == "__main__":
    load(Path(sys.argv[1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
