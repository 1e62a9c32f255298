"""Ten seeds of a small fine-tuning in one job, beside ten processes of one seed each.

Sixty pictures of 32 pixels, a network of two blocks, two epochs: what remains is what starting costs. Seconds of CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import count

from tests.benchmarks.suite.harness import Result, take_turns
from tests.benchmarks.suite.pictures import HOME, Bench

sys.path[:0] = [str(HOME / "tests" / name) for name in ("", "unit/training")]

from test_finetune import TINY, arguments, make_task  # noqa: E402 (the tests' own small task)

PROCESSES = "a process each"


def stage(module: str, *options: str) -> None:
    """Run a stage as a rule does."""
    subprocess.run([sys.executable, "-m", f"urfm.{module}", *options], check=True, capture_output=True)


def results(bench: Bench) -> Iterator[Result]:
    folder, runs, seeds = bench.folder, count(), list(range(2 if bench.quick else 10))
    make_task(folder, {"across": (22, 8, 10), "down": (22, 8, 10)})
    random = {"format": "random", "architecture": "vit_tiny_patch16_224", "model_args": TINY, "input_size": 32}
    told = json.dumps({"model": "tiny", "checkpoint": random})
    stage("models.encoders", "--settings", told, "--output", str(folder / "encoder"))

    def job(chosen: list[int]) -> None:
        stage("training.finetune.stage", *arguments(folder, f"out-{next(runs)}", {"seeds": chosen}))

    sides = {"urfm, one job": lambda: job(seeds), PROCESSES: lambda: [job([seed]) for seed in seeds]}
    amounts = take_turns(sides, bench.rounds(2), warm_up=0)
    yield Result("fine-tuning of a small task", f"{len(seeds)} seeds", "seeds/s", amounts, len(seeds), {PROCESSES: 5.0})
