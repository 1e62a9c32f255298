"""Does time follow the FLOP that `snakemake cost` counts? Seconds of CPU a step at several sizes, beside their FLOP.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/flop_scaling.py [--rounds 3]

ViT-Ti, -S and -B at 224 pixels, one thread, fp32, batches of four: prediction, a step of fine-tuning, and one of masked
pre-training with the decoder of config.yaml, in turns. For each kind of work it prints how many times as much the
larger networks need, in FLOP and in seconds, and the exponent between them: 1 where time is FLOP. Two minutes of CPU;
nothing is asserted; the table of docs/cost.md.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from urfm.cost import flops
from urfm.models.classifier import build
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.training import optimisation

NETWORKS = ("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224")
BATCH = 4
DECODER = {"width": 768, "depth": 8, "heads": 16}


def works(name: str) -> dict[str, tuple[int, Callable[[], object]]]:
    """Kind of work -> FLOP of a batch, and the work."""
    shape = flops.shape(name, {}, 224)
    counted = flops.classifier(shape)
    images = torch.rand(BATCH, 3, 224, 224)
    model = build(name, {}, 224)
    masked = MaskedAutoencoder(build_encoder(name, {}, 224), 768, **DECODER)  # type: ignore[arg-type]
    target, noise = torch.rand(BATCH, 196, 768), torch.rand(BATCH, 196)
    for network in (model, masked):
        optimisation.suit(network, torch.device("cpu"))
    pretraining, _ = flops.autoencoder(shape, 768, tuple(DECODER.items()), 0.75)

    def predict() -> None:
        with torch.inference_mode():
            model.eval()(images)

    def step(network: nn.Module, *inputs: torch.Tensor) -> None:
        network.train()(*inputs).sum().backward()
        network.zero_grad(set_to_none=True)

    return {
        "prediction": (BATCH * counted.forward, predict),
        "fine-tuning": (BATCH * counted.step, lambda: step(model, images)),
        "pre-training": (BATCH * pretraining, lambda: step(masked, images, target, noise)),
    }


def seconds(run: Callable[[], object]) -> float:
    """Of CPU, of this process."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time of steps beside the FLOP that are counted of them.")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    jobs = {(kind, name): work for name in NETWORKS for kind, work in works(name).items()}
    for _, run in jobs.values():
        run()
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in jobs}
    for _ in range(arguments.rounds):
        for key, (_, run) in jobs.items():
            taken[key].append(seconds(run))
    print("| work | network | GFLOP an image | s an image | times FLOP | times time | exponent |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for kind in ("prediction", "fine-tuning", "pre-training"):
        flops_ = [jobs[kind, name][0] / BATCH for name in NETWORKS]
        times = [median(taken[kind, name]) / BATCH for name in NETWORKS]
        for name, flop, time_ in zip(NETWORKS, flops_, times, strict=True):
            more, longer = flop / flops_[0], time_ / times[0]
            exponent = f"{math.log(longer) / math.log(more):.2f}" if more > 1 else ""
            row = f"{flop / 1e9:.1f} | {time_:.3f} | {more:.1f} | {longer:.1f} | {exponent}"
            print(f"| {kind} | {name} | {row} |")


if __name__ == "__main__":
    main()
