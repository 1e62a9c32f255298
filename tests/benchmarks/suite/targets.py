"""A step with stored targets beside one whose teacher, a ViT-B/16, looks at every crop; all of it in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from urfm.training import optimisation

from tests.benchmarks.suite.harness import Result, take_turns
from tests.benchmarks.suite.networks import BASE, CPU, TINY, engine_step, online_teacher, settings
from tests.benchmarks.suite.pictures import Bench

# Words, architecture, precision, batch, rounds, and at least so many times the rate.
CASES = [
    ("ViT-Ti/16, 224 pixels, fp32", TINY, "fp32", 8, 4, 2.8),
    ("ViT-Ti/16, 224 pixels, bf16", TINY, "bf16", 8, 5, 2.8),
    ("ViT-B/16, 224 pixels, bf16", BASE, "bf16", 4, 5, None),
]
ONLINE = "online targets"


def results(bench: Bench) -> Iterator[Result]:
    torch.set_num_threads(1)
    teacher = online_teacher(**({"depth": 1} if bench.quick else {}))
    for on, architecture, precision, size, rounds, bar in CASES:
        if precision == "bf16" and not optimisation.computes_in_bf16(CPU):
            continue
        chosen = settings(architecture, bench.quick, batch_size=size, precision=precision)
        sides = {"urfm, stored targets": engine_step(chosen), ONLINE: engine_step(chosen, teacher)}
        amounts = take_turns(sides, bench.rounds(rounds))
        yield Result("step of pre-training", on, "images/s", amounts, size, {ONLINE: bar} if bar else {})
