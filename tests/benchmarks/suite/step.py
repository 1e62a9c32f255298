"""A step of pre-training inside the whole loop of the workflow, beside a bare loop over the same network.

Both have their pictures and stored targets in memory, since loading is measured by itself. Ours is the time between two
updates of the weights inside `urfm.training.pretrain.loop.train`; the bare loop is autocast, forward, backward, AdamW.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch
from urfm.config.pretraining import PretrainSettings
from urfm.training import optimisation
from urfm.training.distributed import Processes
from urfm.training.pretrain import loop

from tests.benchmarks.suite.harness import Result, Side, cpu_seconds, take_turns
from tests.benchmarks.suite.networks import BASE, CPU, DIM, TINY, Prepared, batch, network, settings
from tests.benchmarks.suite.pictures import Bench

BARE = "bare loop"
JOB = Processes(0, 1, CPU)


class Watched(loop.Training):
    """Notes when each update was done."""

    moments: list[float] = []  # noqa: RUF012 (the loop makes the objects)

    def update(self) -> None:
        super().update()
        self.moments.append(cpu_seconds())


def whole_loop(chosen: PretrainSettings, steps: int, bench: Bench, dim: int) -> Side:
    """Seconds of a step, the mean of all but the first of a run."""
    model, runs = network(chosen, dim), count()
    samples = Prepared(chosen, chosen.batch_size * (steps + 1), dim)

    def run() -> float:
        Watched.moments.clear()
        state = bench.folder / f"{chosen.run}-{next(runs)}"
        loop.train(chosen, JOB, model, None, samples, state, checkpoint_minutes=1e9)
        return (Watched.moments[-1] - Watched.moments[0]) / steps

    return run


def bare_loop(chosen: PretrainSettings, steps: int, dim: int) -> Side:
    """The same of a loop that does what it must."""
    model, part = network(chosen, dim), batch(chosen, dim)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in chosen.colours)

    def run() -> float:
        start = cpu_seconds()
        for _ in range(steps):
            with optimisation.autocast(chosen.precision, CPU):
                loss = model((part["student"].float() / 255 - mean) / std, part["target"], part["noise"])
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return (cpu_seconds() - start) / steps

    return run


def cases(quick: bool) -> Iterator[tuple[str, PretrainSettings, int, int, float, int]]:
    """Words, settings, steps a round, channels of a target, bar, rounds."""
    for precision in ("fp32", "bf16") if optimisation.computes_in_bf16(CPU) else ("fp32",):
        paper = settings(BASE, quick, batch_size=4, precision=precision)
        yield f"ViT-B/16, 224 pixels, {precision}, batches of 4", paper, 2, DIM, 0.98, 4
    tiny = settings(TINY, quick, input_size=128, batch_size=32, precision="fp32")
    yield "ViT-Ti/16, 128 pixels, fp32, batches of 32", tiny, 4, DIM, 0.98, 7
    yield "the demo's network and batches", settings(TINY, quick, "demo"), 20, 112, 0.9, 9


def results(bench: Bench) -> Iterator[Result]:
    torch.set_num_threads(1)
    loop.Training = Watched
    for on, chosen, steps, dim, bar, rounds in cases(bench.quick):
        sides = {"urfm": whole_loop(chosen, steps, bench, dim), BARE: bare_loop(chosen, steps, dim)}
        amounts = take_turns(sides, bench.rounds(rounds), measure=lambda side: side())
        yield Result("step of pre-training", on, "images/s", amounts, chosen.batch_size, {BARE: bar})
