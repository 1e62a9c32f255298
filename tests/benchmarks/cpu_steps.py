"""Images a second of one core, before and after: steps of pre-training and fine-tuning, and an image's augmentation.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/cpu_steps.py

The networks of the profile `pocket` on random pictures. Each pair runs in turns, step by step, and its ratio is that of
the medians, so that a machine which others use does not favour one side. `before` is fp32 with timm's fused attention,
and timm's transform on Pillow images; `after` is what `precision: auto` and the workflow do on this processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import nn
from urfm.data.views import draw_view, take_view
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.training import optimisation

BATCH, SIZE, ROUNDS = 64, 128, 15
CPU = torch.device("cpu")


def stepper(model: nn.Module, loss: Callable[[nn.Module], torch.Tensor], precision: str) -> Callable[[], None]:
    """One step of training."""
    optimiser = optimisation.adamw([{"params": [p for p in model.parameters() if p.requires_grad]}], (0.9, 0.95), CPU)

    def step() -> None:
        with optimisation.autocast(precision, CPU):  # type: ignore[arg-type]
            value = loss(model)
        value.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def masked() -> nn.Module:
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 6}, SIZE)
    sizes = {"width": 192, "depth": 2, "heads": 3}
    return MaskedAutoencoder(encoder, 112, **sizes, mask_ratio=0.5, target_norm="layernorm", loss_on="all")


def classifier() -> nn.Module:
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", depth=6, img_size=SIZE, num_classes=2, global_pool="avg", drop_path_rate=0.1
    )
    return model


def ratio(name: str, before: Callable[[], None], after: Callable[[], None], images: int) -> None:
    """Run both in turns and print images per second of CPU time."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 2):
        for run, times in zip((before, after), seconds, strict=True):
            start = time.process_time()
            run()
            if turn >= 2:
                times.append(time.process_time() - start)
    old, new = (images / median(times) for times in seconds)
    print(f"| {name} | {old:,.0f} | {new:,.0f} | {new / old:.2f} |", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels, tokens = torch.randn(BATCH, 3, SIZE, SIZE), torch.randn(BATCH, (SIZE // 16) ** 2, 112)
    noise, labels = torch.rand(tokens.shape[:2]), torch.randint(0, 2, (BATCH,))
    now = optimisation.choose_precision("auto", CPU)
    print(f"| one core, {now} after | before, images/s | after, images/s | ratio |\n|---|---:|---:|---:|")
    for name, make, loss in (
        ("step of pre-training", masked, lambda model: model(pixels, tokens, noise)),
        ("step of fine-tuning", classifier, lambda model: nn.functional.cross_entropy(model(pixels).float(), labels)),
    ):
        old, new = make(), make()
        optimisation.suit(new, CPU)
        ratio(name, stepper(old, loss, "fp32"), stepper(new, loss, now), BATCH)

    picture = np.random.default_rng(0).integers(0, 256, (370, 280, 3), dtype=np.uint8)
    whole = create_transform(SIZE, is_training=True, scale=(0.5, 1.0), color_jitter=0.0, auto_augment=None,
                             interpolation="bicubic", use_prefetcher=True)  # fmt: skip

    def transform() -> None:
        for _ in range(BATCH):
            whole(Image.fromarray(picture))

    def views() -> None:
        for number in range(BATCH):
            draws = np.random.default_rng([0, number])
            take_view(picture, draw_view(draws, *picture.shape[:2], (0.5, 1.0), True), SIZE)

    ratio("crop and mirror an image of 370 x 280", transform, views, BATCH)


if __name__ == "__main__":
    main()
