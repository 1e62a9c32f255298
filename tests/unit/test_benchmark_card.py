"""`bench gpu` without a card: its sums against known ones, and the whole of it on the CPU with small networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from tests.benchmarks.suite import gpu
from tests.benchmarks.suite.networks import BASE, CPU, settings


def row(batch: int, rate: float) -> dict[str, Any]:
    return {"batch": batch, "images_per_second": rate, "gigabytes": batch / 2}


def test_flop_are_those_that_are_published() -> None:
    """ViT-B/16 at 224 pixels: 17.6 billion multiplications with addition."""
    with torch.device("meta"):
        model, images = timm.create_model(BASE, num_classes=0), torch.empty(2, 3, 224, 224)
    with torch.no_grad():
        assert gpu.flop(lambda: model(images), 2) == pytest.approx(2 * 17.56e9, rel=0.01)


def test_flop_of_a_step_are_three_times_those_of_forward() -> None:
    """By hand, one block: the patches' projection and 98 of 196 tokens with one of class, then all in the decoder."""
    changes = {"model_args": {"embed_dim": 48, "depth": 1, "num_heads": 2}, "mask_ratio": 0.5}
    decoder = {"width": 32, "depth": 1, "heads": 2}
    chosen = settings(BASE, False, decoder=decoder, precision="fp32", **changes)

    def block(tokens: int, width: int) -> int:
        return 2 * (tokens * width * width * (3 + 1 + 4 + 4) + 2 * tokens * tokens * width)

    embedding = 2 * 196 * 768 * 48
    rest = block(99, 48) + 2 * 99 * 48 * 32 + block(197, 32) + 2 * 197 * 32 * 768
    # Nobody wants the gradient of the pictures.
    assert gpu.flop_of_step(chosen) == pytest.approx(2 * embedding + 3 * rest, rel=1e-6)


def test_suggestions_by_hand() -> None:
    rows = [row(8, 500), row(16, 980), row(32, 1000), row(64, 960)]
    assert gpu.suggested_batch(rows) == 16  # 98 % of the best
    assert gpu.suggested_workers(980, of_a_core=500) == 3  # a quarter more than 1.96
    found = {
        "card": "Card", "torch": "2", "precision": "bf16", "quick": False, "cores": 16, "sheet": 100e12,
        "matrix_products": 80e12, "flop_step": 50e9, "flop_teacher": 30e9, "loading": 500, "by_batch": rows,
        "at_best": {"fp32, stored targets": None, "bf16, with the teacher": row(16, 490)},
    }  # fmt: skip
    page = gpu.page(found)
    assert "| 16 | 980.0 | 49.0 | 8.0 |" in page  # 980 x 50 GFLOP of 100 TFLOP
    assert "| bf16, with the teacher | 490.0 | 39.2 | 8.0 |" in page  # 490 x 80 GFLOP
    assert "| fp32, stored targets | out of memory | | |" in page
    assert "Share of the teacher: 50% of a step's time." in page
    assert "8 such cards need 7,840: headroom 1.02" in page
    assert "`resources.pretrain.micro_batch: 16`" in page
    assert "`workers: 3`" in page


def test_all_of_it_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "HOME", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main(quick=True)
    page = (tmp_path / "results" / "bench-gpu.md").read_text()
    assert "these numbers mean nothing" in page
    wanted = [
        "| 2 |",
        "| 4 |",
        "| fp32, stored targets |",
        "compiled |",
        "with the teacher |",
        "One core loads",
        "micro_batch",
    ]
    assert [words for words in wanted if words not in page] == []
    assert "out of memory" not in page


def test_a_full_memory_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(chosen: Any, **_: object) -> Any:
        if chosen.batch_size > 2:
            raise torch.OutOfMemoryError
        return lambda: None

    monkeypatch.setattr(gpu, "engine_step", step)
    assert [row["batch"] for row in gpu.by_batch(settings(BASE, True), CPU, quick=True)] == [2]
