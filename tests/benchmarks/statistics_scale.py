"""Statistics of figure 2 at the paper's size: seconds of one core and the most memory held (docs/statistics.md).

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/statistics_scale.py [RESAMPLES]

Ten tasks with the paper's classes and test images, six models, ten seeds (600 runs), 2,000 resamples. Linux only.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "statistics"))

from synthetic_cells import predictions, write_cell
from urfm.statistics.predictions import read_cell
from urfm.statistics.stage import StatisticsSettings, compute, write

# Classes and test images of each task (a fifth of Table 2).
TASKS = {
    "thyroid_nodule": (2, 900), "breast_tumor": (2, 214), "liver_mass": (3, 147), "liver_mvi": (2, 303),
    "gallbladder_polyp": (2, 230), "pancreatic_cancer": (2, 700), "kidney_tumor": (2, 516),
    "uterine_fibroid": (2, 398), "ovarian_tumor": (8, 294), "fetal_plane": (6, 2480),
}  # fmt: skip
MODELS = ("sl_imagenet", "mim_imagenet", "mim_us", "deblur_mim", "usfm", "urfm")


def cells(folder: Path, tasks: dict[str, tuple[int, int]] = TASKS) -> list[Path]:
    paths = []
    for number, (task, (count, images)) in enumerate(tasks.items()):
        classes = [f"class_{c}" for c in range(count)]
        for place, model in enumerate(MODELS):
            table = predictions(1.5 + 0.1 * place, classes, images, seeds=range(10), task_seed=number, model_seed=place)
            paths.append(write_cell(folder, model, task, table, classes))
    return paths


def settings(resamples: int) -> StatisticsSettings:
    return StatisticsSettings(
        comparison="figure_2", reference="urfm", confidence=0.95, t_test="welch", bootstrap_resamples=resamples,
        permutations=10_000, bootstrap_seed=0, margin=0.02, threshold="youden", specificity=0.9, calibration_bins=10,
    )  # fmt: skip


def main() -> None:
    resamples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    told = settings(resamples)
    with tempfile.TemporaryDirectory() as folder:
        paths = cells(Path(folder) / "cells")
        start = time.process_time()
        read = [read_cell(path) for path in paths]
        loaded = time.process_time()
        tables = compute(read, told)
        computed = time.process_time()
        write(Path(folder) / "statistics", tables, told)
        written = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{len(paths)} cells of 10 seeds, {resamples} resamples: reading {loaded - start:.1f} s, computing "
        f"{computed - loaded:.1f} s, writing {written - computed:.1f} s of one core; {memory:.0f} MB"
    )


if __name__ == "__main__":
    main()
