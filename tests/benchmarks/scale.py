"""Peak memory and time of manifests, image stores and the order of pre-training at up to a million images.

    PYTHONPATH=workflow python tests/benchmarks/scale.py [--rows 10000 100000 1000000]

prints the table of docs/benchmarks.md. Decoding is left out: stand-ins take its place in the same child processes.
Every measurement is a process of its own; its peak of resident memory stands beside how much of it came on top of what
importing the modules takes. Nothing is asserted: tests/unit/data/test_scale.py holds how memory grows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import Process
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from urfm.data import manifest, records
from urfm.data.datasets import READERS, Reader
from urfm.data.datasets.common import Record
from urfm.data.images import build
from urfm.data.images.build import Entry
from urfm.data.images.pixels import Pixels
from urfm.data.images.store import ImageStore
from urfm.data.records import Candidate

DECODERS = 2  # child processes
BATCH = 1024


def write_manifest(folder: Path, rows: int) -> Callable[[], object]:
    """Three images a patient, 15 labels, names in no order."""
    root = folder / "data"
    (root / "Set").mkdir(parents=True)

    def read(_: Path) -> Iterator[Record]:
        for number in range(rows):
            name = f"radiology/{number * 7919 % rows:07}-{number % 15}.png"
            yield Record(
                path=root / "Set" / name,
                name=name,
                label=f"label {number % 15}",
                patient_id=f"patient-{number // 3}",
                patient_source="metadata",
                size=(640, 480),
            )

    READERS["synthetic"] = Reader(read)
    manifest.inspect = describe
    settings = records.ManifestSettings(dataset="set", reader="synthetic", folder="Set", organ="thyroid")
    files = folder / "set.parquet", folder / "set.rejected.csv"
    return lambda: manifest.write_manifest(root, settings, DECODERS, *files)


def describe(candidate: Candidate, **_: object) -> manifest.Content:
    """Stands for decoding a file to describe it."""
    digest = hashlib.sha256(candidate[0].name.encode()).hexdigest()
    return manifest.Content(digest, digest, digest[:16], 640, 480)


def write_store(folder: Path, rows: int) -> Callable[[], object]:
    """One pixel an image."""
    build._load = load
    entries = (
        Entry(f"set/radiology/{number * 7919 % rows:07}.png", Path(f"Set/radiology/{number}.png"), f"{number:064}")
        for number in range(rows)
    )
    origin = {"manifest_sha256": "", "simulated": True}
    return lambda: build.write_store(entries, folder / "store", 512, DECODERS, origin)


def load(entry: Entry, **_: object) -> Pixels:
    """Stands for decoding a file to store it."""
    return np.zeros((1, 1, 1), np.uint8)


def open_store(folder: Path, rows: int) -> Callable[[], object]:
    """With one image read by its id."""
    return lambda: ImageStore(folder / "store").read("set/radiology/0000007.png")


def order_epoch(folder: Path, rows: int) -> Callable[[], object]:
    """What pre-training holds of the images, and an epoch of batches."""
    import pandas as pd
    import torch
    from urfm.training.distributed import Processes
    from urfm.training.pretrain.samples import Batches, list_images

    store = ImageStore(folder / "store")
    job = Processes(0, 1, torch.device("cpu"))
    pretrain_set = pd.DataFrame({"image_id": store.ids.to_pandas(), "dataset": "store"})
    return lambda: (list_images(pretrain_set, [store]), [None for _ in Batches(rows, BATCH, job, 0, 0, rows // BATCH)])


PARTS = {part.__name__: part for part in (write_manifest, write_store, open_store, order_epoch)}


def measure(part: str, rows: int) -> tuple[float, float, float]:
    """Run one part in this process: seconds of CPU (child processes too), peak memory and its rise in MB."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        if part in ("open_store", "order_epoch"):
            child = Process(target=lambda: write_store(folder, rows)())
            child.start()
            child.join()
        run = PARTS[part](folder, rows)
        before, start = peak(), cpu()
        run()
        return cpu() - start, peak(), peak() - before


def cpu() -> float:
    """Seconds of CPU of this process and its finished children: other work on the machine disturbs them least."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak() -> float:
    """Most resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure everything, each part in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description="Memory and time at up to a million images.")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--part", choices=PARTS, help="one part alone, in this process; prints JSON")
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(measure(arguments.part, arguments.rows[0])))
        return
    print("| what | images | CPU s | peak MB | rise MB |\n|---|---:|---:|---:|---:|")
    for part in PARTS:
        for rows in arguments.rows:
            command = [sys.executable, __file__, "--part", part, "--rows", str(rows)]
            output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            seconds, most, rise = json.loads(output.splitlines()[-1])
            print(f"| {part.replace('_', ' ')} | {rows:,} | {seconds:.1f} | {most:.0f} | {rise:.0f} |", flush=True)


if __name__ == "__main__":
    main()
