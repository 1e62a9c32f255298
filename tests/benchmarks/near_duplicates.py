"""Near duplicates among a million images: seconds of one core and the most memory held (docs/benchmarks.md).

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/near_duplicates.py [IMAGES]

Hashes are random, with a thousand planted neighbours 0 to 8 bits away, all of which must be found: first one 64-bit
hash an image (`near_pairs`), then four windows of 192 bits an image (`near_images`, which the audit calls). Linux only.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time

import numpy as np
from urfm.data.leakage.near_duplicates import near_images, near_pairs

PLANTED = 1000


def changed(words: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Copies that differ in 0 to 8 bits."""
    copies = words.copy()
    for number in range(len(copies)):
        for bit in random.choice(64, number % 9, replace=False):
            copies[number] ^= np.uint64(1) << np.uint64(bit)
    return copies


def hashes(images: int) -> None:
    random = np.random.default_rng(0)
    words = random.integers(0, 2**64, images, dtype=np.uint64)
    words[:PLANTED] = changed(words[-PLANTED:], random)
    report("one 64-bit hash an image", images, near_pairs(words, 8))


def windows(images: int) -> None:
    random = np.random.default_rng(0)
    words = random.integers(0, 2**64, (images, 4, 3), dtype=np.uint64)
    words[:PLANTED, 2] = words[-PLANTED:, 0]
    words[:PLANTED, 2, 0] = changed(words[-PLANTED:, 0, 0], random)
    report("four windows of 192 bits an image", images, near_images(words, 36))


def report(what: str, images: int, blocks: object) -> None:
    before, start = peak(), time.process_time()
    found: set[tuple[int, int]] = set()
    for first, second, *_ in blocks:  # type: ignore[attr-defined]
        found.update(zip(first.tolist(), second.tolist(), strict=True))
    seconds = time.process_time() - start
    planted = {(number, images - PLANTED + number) for number in range(PLANTED)}
    print(
        f"| {what} | {images:,} | {len(planted & found):,} of {PLANTED:,} | {seconds:.1f} | {before:,} | {peak():,} |"
    )


def peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print("| hashes | images | planted pairs found | s | MB before | MB at most |\n|---|---:|---:|---:|---:|---:|")
    for measure in (hashes, windows):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(number,))
        process.start()
        process.join()
