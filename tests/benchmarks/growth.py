"""How time and memory grow with images, models, tasks and seeds: three sizes of each, and the exponent between them.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/growth.py [--part images] [--small]

Each measurement is a process of its own: seconds of CPU of the work alone, and how much the most resident memory rose
over what imports take (of planning, which is Snakemake's process, all of it). The exponent is the slope of a line
through the logarithms: 1 where twice as much takes twice as long. About eight minutes of CPU, --small two. Nothing is
asserted; the table of docs/benchmarks.md. tests/benchmarks/scale.py goes to a million images.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

HOME = Path(__file__).parents[2]
sys.path[:0] = [str(HOME / "tests" / "unit" / "statistics"), str(Path(__file__).parent)]

# What grows -> what is measured of it, and its sizes; a quarter of them with --small.
PARTS: dict[str, tuple[tuple[str, ...], tuple[int, int, int]]] = {
    "images": (("write_manifest", "write_store", "order_epoch"), (8_000, 32_000, 128_000)),
    "models": (("statistics", "plan"), (8, 16, 32)),
    "tasks": (("statistics", "plan"), (8, 16, 32)),
    "seeds": (("statistics",), (8, 16, 32)),
}
USUAL = {"models": 4, "tasks": 4, "seeds": 4}  # of what does not grow
RESAMPLES, TEST_IMAGES, CLASSES = 500, 300, ("benign", "malignant")


def statistics(folder: Path, models: int, tasks: int, seeds: int) -> Callable[[], object]:
    """A comparison, from predictions to its tables."""
    from synthetic_cells import predictions, write_cell
    from urfm.statistics.predictions import read_cell
    from urfm.statistics.stage import StatisticsSettings, compute

    paths = []
    for task in range(tasks):
        for model in range(models):
            table = predictions(1.5, CLASSES, TEST_IMAGES, seeds=range(seeds), task_seed=task, model_seed=model)
            paths.append(write_cell(folder, f"m{model}", f"t{task}", table, list(CLASSES)))
    settings = StatisticsSettings(
        comparison="c", reference="m0", confidence=0.95, t_test="welch", bootstrap_resamples=RESAMPLES,
        permutations=1000, bootstrap_seed=0, margin=0.02, threshold="youden", specificity=0.9, calibration_bins=10,
    )  # fmt: skip
    return lambda: compute([read_cell(path) for path in paths], settings)


def plan(folder: Path, models: int, tasks: int, seeds: int) -> Callable[[], object]:
    """A dry run of a comparison of one's own: four fine-tuning jobs a model and task, beside Snakemake's start."""
    random = {"format": "random", "architecture": "vit_tiny_patch16_224"}
    task = {"title": "T", "dataset": "busbra", "group": "other", "classes": {"benign": "B", "malignant": "M"}}
    item = {"reference": "m0", "models": [f"m{n}" for n in range(models)], "tasks": [f"t{n}" for n in range(tasks)]}
    overlay = {
        "models": {name: {"title": name, "checkpoint": random} for name in item["models"]},
        "tasks": dict.fromkeys(item["tasks"], task),
        "comparisons": {"mine": {**item, "shares": [25, 50, 75, 100]}},
    }
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "mine", "--dry-run", "--quiet", "all"]
    command += ["--configfile", "overlay.yaml"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return lambda: subprocess.run(command, cwd=folder, check=True, **quiet)  # type: ignore[call-overload]


def measure(axis: str, part: str, size: int) -> tuple[float, float]:
    """Seconds of CPU and MB of one measurement, in this process."""
    import scale  # of this folder

    if axis == "images":
        seconds, _, rise = scale.measure(part, size)
        return seconds, rise
    with TemporaryDirectory() as name:
        run = {"statistics": statistics, "plan": plan}[part](Path(name), **USUAL | {axis: size})
        before, start = scale.peak(), scale.cpu()
        run()
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        return scale.cpu() - start, children if part == "plan" else scale.peak() - before


def slope(sizes: list[int], values: list[float]) -> str:
    """The exponent with which values grow."""
    if min(values) <= 0:
        return "–"
    return f"{np.polyfit(np.log(sizes), np.log(values), 1)[0]:.2f}"


def main() -> None:
    """Measure everything, each in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description="How time and memory grow.")
    parser.add_argument("--part", choices=PARTS, nargs="+", default=list(PARTS), help="what grows")
    parser.add_argument("--small", action="store_true", help="a quarter of each size")
    parser.add_argument("--here", nargs=3, metavar=("AXIS", "PART", "SIZE"), help="one measurement; prints JSON")
    arguments = parser.parse_args()
    if arguments.here:
        axis, part, size = arguments.here
        print(json.dumps(measure(axis, part, int(size))))
        return
    began = time.monotonic()
    print("| what | grows | sizes | s of CPU | exponent | MB | exponent |\n|---|---|---|---|---:|---|---:|")
    for axis in arguments.part:
        parts, sizes_ = PARTS[axis]
        sizes = [size // (4 if arguments.small else 1) for size in sizes_]
        for part in parts:
            found = []
            for size in sizes:
                command = [sys.executable, __file__, "--here", axis, part, str(size)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
                found.append(json.loads(done.stdout.splitlines()[-1]))
            seconds, memory = zip(*found, strict=True)
            cells = [
                part.replace("_", " "),
                axis,
                ", ".join(f"{size:,}" for size in sizes),
                ", ".join(f"{value:.1f}" for value in seconds),
                slope(sizes, list(seconds)),
                ", ".join(f"{value:.0f}" for value in memory),
                slope(sizes, list(memory)),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s by the clock")


if __name__ == "__main__":
    main()
