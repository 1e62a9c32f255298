"""A million images split, chosen and sampled: seconds of one core, and the most memory held (docs/benchmarks.md).

    PYTHONPATH=workflow python tests/benchmarks/million_rows.py [ROWS]

Each step runs in a process of its own, which first does it with 2,000 rows, so that imports do not count; "before" is
the most it has held until then, with the step's columns of the table. The table is synthetic: ten data sets, sixteen
organs in proportion to Table 1, patients of 1 to 13 images. Linux only.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from urfm.config import parts
from urfm.data.pretrain_set import CorpusSettings, select
from urfm.data.splits.shares import take_share
from urfm.data.splits.stage import make_split

PAPER = parts.load(Path(__file__).parents[2])["tables"]["table_1"]["paper"]
DATASETS = [f"set_{number}" for number in range(10)]


def make_table(rows: int) -> pd.DataFrame:
    """The manifest's columns that the steps read."""
    random = np.random.default_rng(0)
    images = pd.Series({organ: sum(sources.values()) for organ, sources in PAPER.items()})
    numbers = np.arange(rows)
    patients = np.repeat(numbers, random.integers(1, 14, rows))[:rows]
    digests = random.bytes(32 * rows).hex()
    dataset = pd.Series(DATASETS).take(patients % len(DATASETS)).reset_index(drop=True)
    table = pd.DataFrame({
        "image_id": dataset + "/images/" + pd.Series(numbers).astype(str).str.zfill(8) + ".png",
        "dataset": dataset,
        "organ": random.choice(images.index, rows, p=images / images.sum()),
        "source": "source of " + dataset,
        "patient_id": dataset + "/patient-" + pd.Series(patients).astype(str).str.zfill(8),
        "label": random.choice(["benign", "malignant", "normal"], rows, p=[0.6, 0.3, 0.1]),
        "sha256": [digests[start : start + 64] for start in range(0, len(digests), 64)],
        "excluded_reason": "",
    })  # fmt: skip
    return table.assign(pixel_sha256=table["sha256"].str[::-1])


def choice(**changes: object) -> CorpusSettings:
    default = {
        "run": "benchmark", "organs": [], "share": 100, "max_images": 0, "exclude_downstream_test": False, "seed": 0,
        "dataset_organs": {name: list(PAPER) for name in DATASETS}, "tasks_not_here": [],
    }  # fmt: skip
    return CorpusSettings.model_validate(default | changes)


SPLIT = ["image_id", "patient_id", "label"]
LIST = ["image_id", "dataset", "organ", "source", "excluded_reason"]
HELD_OUT = [*LIST, "patient_id", "sha256", "pixel_sha256"]


def leave_out(table: pd.DataFrame) -> int:
    """One of the ten data sets is also a task's; its validation and test patients go."""
    task = table[table["dataset"] == DATASETS[0]]
    split = task[["image_id"]].assign(subset=np.where(task["patient_id"].str[-1].isin(["0", "5"]), "test", "train"))
    return len(select(table, choice(exclude_downstream_test=True), [("task", task, split)])[0])


def draw(table: pd.DataFrame, balanced: bool) -> int:
    from urfm.training.sampling import epoch_places  # imports torch, which the other steps do without

    organs = pd.factorize(table["organ"], sort=True)[0].astype(np.uint8)
    return len(epoch_places(0, 3, len(table), organs if balanced else None))


Step = Callable[[pd.DataFrame], int]
STEPS: list[tuple[str, list[str], Step]] = [
    ("split 3:1:1, one image a patient", SPLIT, lambda t: len(make_split(t.assign(patient_id=t["image_id"])))),
    ("split 3:1:1, patients of several images", SPLIT, lambda t: len(make_split(t))),
    ("10 % of a training part, by patient", SPLIT, lambda t: len(take_share(t, 10))),
    ("pre-training set: all", LIST, lambda t: len(select(t, choice())[0])),
    ("pre-training set: one organ", LIST, lambda t: len(select(t, choice(organs=["liver"]))[0])),
    ("pre-training set: 10 %", LIST, lambda t: len(select(t, choice(share=10))[0])),
    ("pre-training set: thyroid, 89,985 at most", LIST,
     lambda t: len(select(t, choice(organs=["thyroid"], max_images=89985))[0])),
    ("pre-training set: no test patients", HELD_OUT, leave_out),
    ("an epoch's order, natural", ["organ"], lambda t: draw(t, balanced=False)),
    ("an epoch's order, organs balanced", ["organ"], lambda t: draw(t, balanced=True)),
]  # fmt: skip


def megabytes() -> float:
    """The most memory this process has held."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def measure(number: int, path: Path, results: multiprocessing.Queue) -> None:
    name, columns, step = STEPS[number]
    table = pd.read_parquet(path, columns=columns)
    step(table.head(2000))
    before, started = megabytes(), time.process_time()
    rows = step(table)
    results.put((name, rows, time.process_time() - started, before, megabytes()))


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    print(f"{rows:,} rows\n\n| step | rows out | s | MB before | MB at most |\n|---|---:|---:|---:|---:|")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        make_table(rows).to_parquet(path, index=False)
        for number in range(len(STEPS)):
            child = context.Process(target=measure, args=(number, path, results))
            child.start()
            name, found, seconds, before, most = results.get(timeout=3600)
            child.join()
            print(f"| {name} | {found:,} | {seconds:.1f} | {before:,.0f} | {most:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
