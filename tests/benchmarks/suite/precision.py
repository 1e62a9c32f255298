"""A step of pre-training in bf16 beside fp32, where this processor computes in bf16."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from urfm.core.progress import warn
from urfm.training import optimisation

from tests.benchmarks.suite.harness import Result, take_turns
from tests.benchmarks.suite.networks import BASE, CPU, TINY, engine_step, settings
from tests.benchmarks.suite.pictures import Bench

CASES = [
    ("ViT-B/16, 224 pixels", BASE, 224, 4, 4),
    ("ViT-Ti/16, 224 pixels", TINY, 224, 8, 7),
    ("ViT-Ti/16, 128 pixels", TINY, 128, 32, 7),
]


def results(bench: Bench) -> Iterator[Result]:
    torch.set_num_threads(1)
    if not optimisation.computes_in_bf16(CPU):
        warn("this processor has no instructions for bf16: precision auto is fp32, and there is nothing to compare")
        return
    for on, architecture, side, size, rounds in CASES:
        chosen = {
            precision: settings(architecture, bench.quick, input_size=side, batch_size=size, precision=precision)
            for precision in ("bf16", "fp32")
        }
        sides = {"urfm, bf16": engine_step(chosen["bf16"]), "fp32": engine_step(chosen["fp32"])}
        yield Result("step of pre-training", on, "images/s", take_turns(sides, bench.rounds(rounds)), size)
