"""What this machine's card does with pre-training, on one page: sh envs/run bench gpu [--quick].

A step of ViT-B/16 at 224 pixels with the workflow's engine, its batch in memory: images a second and memory by batch,
in all precisions and compiled, with stored targets and with the teacher; how many images a second one core loads; and
what follows for `resources.pretrain.micro_batch` and `workers`. Written to results/bench-gpu.md and .json.

Without a card everything runs on the CPU in the same way (--quick: with small networks), so that whoever changes this
sees that it works. Utilisation is the FLOP of the model, as torch counts them, over the peak of the card's data sheet,
or over what its matrix products reach here where the sheet is not known.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from urfm.config.pretraining import PretrainSettings
from urfm.core.progress import say
from urfm.models.normalisation import normalise
from urfm.training import optimisation
from urfm.training.pretrain.samples import Samples

from tests.benchmarks.suite import loader
from tests.benchmarks.suite.harness import timed
from tests.benchmarks.suite.networks import BASE, CPU, DIM, batch, engine_step, network, online_teacher, settings
from tests.benchmarks.suite.pictures import HOME, Bench, entries, make_store, pretraining, table

# Dense matrix products in bf16 or fp16 with sums in fp32, FLOP/s, by the data sheets.
SHEETS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "RTX 4090": 165.2e12, "V100": 125e12}
CARDS = 8  # of a node whose loaders must keep up
NEAR = 0.97  # of the best rate: a larger batch is not worth its memory
SPARE = 1.25  # workers, so that a slow moment of one does not keep the card waiting

Row = dict[str, Any]


def synchronise(device: torch.device) -> None:
    """Wait for what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(step: Callable[[], object], device: torch.device, quick: bool) -> float:
    """Of one step on the clock, after three to warm up; as many as fill two seconds, three at least."""
    for _ in range(1 if quick else 3):
        step()
    synchronise(device)
    start, done = time.perf_counter(), 0
    while done < (1 if quick else 3) or (not quick and time.perf_counter() - start < 2):
        step()
        synchronise(device)
        done += 1
    return (time.perf_counter() - start) / done


def flop(run: Callable[[], object], images: int) -> float:
    """FLOP of one image while `run` handles so many: matrix products, two for each multiplication with addition."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / images


def flop_of_step(chosen: PretrainSettings) -> float:
    """Forward and backward of one image, without the teacher."""
    small = chosen.model_copy(update={"batch_size": 2})
    model, part = network(small), batch(small)
    pixels = normalise(part["student"], *small.colours)
    return flop(lambda: model(pixels, part["target"], part["noise"]).backward(), 2)


def matrix_peak(device: torch.device, dtype: torch.dtype, quick: bool) -> float:
    """FLOP/s of a large matrix product."""
    side = 256 if quick else 8192 if device.type == "cuda" else 2048
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: first @ second, device, quick)


def attempt(step: Callable[[], Callable[[], object]], images: int, device: torch.device, quick: bool) -> Row | None:
    """Images a second and GB at most; None where the memory does not suffice."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        taken = seconds(step(), device, quick)
    except torch.OutOfMemoryError:
        return None
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return {"batch": images, "images_per_second": images / taken, "gigabytes": memory}


def by_batch(chosen: PretrainSettings, device: torch.device, quick: bool) -> list[Row]:
    """Doubling the batch until the memory is full, or the rate falls."""
    rows: list[Row] = []
    sizes = [2, 4] if quick else [2**power for power in range(3, 13 if device.type == "cuda" else 5)]
    for size in sizes:
        own = chosen.model_copy(update={"batch_size": size})
        if (row := attempt(lambda own=own: engine_step(own, device=device), size, device, quick)) is None:
            break
        say(f"batch {size}: {row['images_per_second']:,.0f} images/s")
        rows.append(row)
        if row["images_per_second"] < 0.9 * max(known["images_per_second"] for known in rows):
            break
    return rows


def suggested_batch(rows: list[Row]) -> int:
    """The smallest batch that is nearly as fast as the fastest."""
    best = max(row["images_per_second"] for row in rows)
    return int(next(row["batch"] for row in rows if row["images_per_second"] >= NEAR * best))


def suggested_workers(images_per_second: float, of_a_core: float) -> int:
    """Loading processes of a card."""
    return math.ceil(SPARE * images_per_second / of_a_core)


def loading(quick: bool) -> float:
    """Crops of 224 pixels that one core loads in a second of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), quick)
        paths = next(iter(bench.sets.values()))
        store = make_store(entries(paths), Path(folder) / "set")
        samples = Samples(pretraining("mim_us"), table(store), [store], [])
        epoch = loader.epochs(samples, min(32, len(paths)), normalised=False)
        epoch()
        return len(paths) / min(timed(epoch) for _ in range(2 if quick else 5))


def look(device: torch.device, quick: bool) -> dict[str, Any]:
    """Everything that is measured."""
    precision = optimisation.choose_precision("auto", device)
    chosen = settings(BASE, quick, precision=precision)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    sheet = next((value for key, value in SHEETS.items() if all(word in name for word in key.split())), None)
    found: dict[str, Any] = {"card": name, "torch": torch.__version__, "precision": precision, "quick": quick}
    found |= {"sheet": sheet, "matrix_products": matrix_peak(device, half, quick), "cores": os.cpu_count()}
    if device.type == "cuda":
        found["memory"] = torch.cuda.get_device_properties(device).total_memory / 1e9
    teacher = online_teacher(**({"depth": 1} if quick else {}))
    found["flop_step"] = flop_of_step(chosen)
    found["flop_teacher"] = flop(lambda: teacher.tokens(torch.zeros(1, 3, 224, 224)), 1)
    teacher.to(device)
    found["by_batch"] = by_batch(chosen, device, quick)
    best = suggested_batch(found["by_batch"])
    chosen = chosen.model_copy(update={"batch_size": best})
    trials: dict[str, Callable[[], Callable[[], object]]] = {
        f"{kind}, stored targets": lambda kind=kind: engine_step(
            chosen.model_copy(update={"precision": kind}), device=device
        )
        for kind in (["fp32", "fp16", "bf16"] if device.type == "cuda" else ["fp32", "bf16"])
        if kind != "bf16" or optimisation.computes_in_bf16(device)
    }
    trials[f"{precision}, compiled"] = lambda: engine_step(
        chosen, device=device, compiler="eager" if quick else "inductor"
    )
    trials[f"{precision}, with the teacher"] = lambda: engine_step(chosen, teacher, device=device)
    found["at_best"] = {words: attempt(trial, best, device, quick) for words, trial in trials.items()}
    for words, row in found["at_best"].items():
        say(f"{words}: " + (f"{row['images_per_second']:,.0f} images/s" if row else "out of memory"))
    found["loading"] = loading(quick)
    return found


def page(found: dict[str, Any]) -> str:
    """Markdown of one page."""
    peak = found["sheet"] or found["matrix_products"]
    whose = "of its data sheet" if found["sheet"] else "that its matrix products reach here"
    step, teacher = found["flop_step"], found["flop_teacher"]

    def line(first: str, row: Row | None, work: float = step) -> str:
        if row is None:
            return f"| {first} | out of memory | | |"
        rate, memory = row["images_per_second"], row["gigabytes"]
        told = "" if memory is None else f"{memory:.1f}"
        return f"| {first} | {rate:,.1f} | {100 * rate * work / peak:.1f} | {told} |"

    best = suggested_batch(found["by_batch"])
    rate = next(row["images_per_second"] for row in found["by_batch"] if row["batch"] == best)
    online = found["at_best"][f"{found['precision']}, with the teacher"]
    share = "" if online is None else f"{1 - online['images_per_second'] / rate:.0%}"
    workers, core = suggested_workers(rate, found["loading"]), found["loading"]
    headroom = core * found["cores"] / (CARDS * rate)
    head = ["images/s", "% of the peak", "GB at most"]
    lines = [
        f"# Pre-training on {found['card']}",
        *(["**A quick look: these numbers mean nothing.**"] if found["quick"] else []),
        f"ViT-B/16 at 224 pixels, decoder and mask of config.yaml, {DIM} channels of a target; torch {found['torch']}, "
        f"{found['precision']} where nothing else is said. A step is {step / 1e9:.1f} GFLOP an image, the teacher "
        f"{teacher / 1e9:.1f}. Peak: {peak / 1e12:,.1f} TFLOP/s, {whose}; its matrix products reach "
        f"{found['matrix_products'] / 1e12:,.1f}.",
        "\n".join([f"| batch | {' | '.join(head)} |", "|---:|---:|---:|---:|"]
                  + [line(str(row["batch"]), row) for row in found["by_batch"]]),
        "\n".join([f"| batches of {best} | {' | '.join(head)} |", "|---|---:|---:|---:|"]
                  + [line(words, row, step + teacher * ("teacher" in words))
                     for words, row in found["at_best"].items()]),
        f"Share of the teacher: {share or 'not measured'} of a step's time.",
        f"One core loads {core:,.0f} images a second, {found['cores']} cores {core * found['cores']:,.0f}. "
        f"{CARDS} such cards need {CARDS * rate:,.0f}: headroom {headroom:.2f} (above 1: the cores keep up).",
        f"Suggested: `resources.pretrain.micro_batch: {best}` (the smallest within {1 - NEAR:.0%} of the best rate), "
        f"and `workers: {workers}`, loading processes of a card.",
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def main(quick: bool) -> None:
    """Look, and write the page."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else CPU
    if device == CPU:
        torch.set_num_threads(1)
        say("There is no card that torch can use: this looks at the CPU, to see that it works")
    found = look(device, quick)
    place = HOME / "results" / "bench-gpu.md"
    place.parent.mkdir(exist_ok=True)
    place.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    place.write_text(page(found))
    say(f"\n{page(found)}\nWritten to {place}")
