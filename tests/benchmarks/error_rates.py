"""How often two equally good models are called different, from one patient a class to a hundred (docs/statistics.md).

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/error_rates.py [STUDIES]

Percent of studies in which P is below 0.05, and in which the 95 % interval over patients leaves out 0, beside the plain
percentile interval that it replaces. The standard error of 2,000 studies is 0.5.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "statistics"))

import numpy as np
from equal_models import GRID, METRICS, findings, percentiles


def percent(values: list[bool | None]) -> str:
    return "-" if None in values else f"{100 * np.mean(np.array(values, float)):.1f}"


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| classes | patients of each | images of a patient | P: ACC, F1, AUC | interval | plain percentiles |")
    print("|---:|---:|---:|---|---|---|")
    for design in GRID:
        found = [{**findings(design, number), "plain": percentiles(design, number)} for number in range(studies)]
        columns = [
            ", ".join(percent([one[way][m] for one in found]) for m in METRICS) for way in ("P", "interval", "plain")
        ]
        print("| " + " | ".join([*map(str, design), *columns]) + " |", flush=True)


if __name__ == "__main__":
    main()
