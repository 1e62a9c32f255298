"""Images a second of one core, before and after, of every stage that computes on images.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/cpu_steps.py

The networks of the profile `pocket` on random pictures. Each pair runs in turns, step by step, and its ratio is that of
the medians, so that a machine which others use does not favour one side. `before` is fp32 with timm's fused attention,
timm's transform on Pillow images, evaluation in the batches of training, and a teacher that sees whole batches; `after`
is what `precision: auto` and the workflow do on this processor. EfficientNet was trained in what `auto` stands for.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import timm
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import nn
from torch.nn import functional
from urfm.config.fields import Precision
from urfm.config.models import TeacherSettings
from urfm.data.views import draw_view, take_view
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.models.teachers import load_teacher
from urfm.training import optimisation

BATCH, SIZE, ROUNDS = 64, 128, 15
CPU = torch.device("cpu")
NOW = optimisation.choose_precision("auto", CPU)
Step = Callable[[], object]


def training(model: nn.Module, loss: Callable[[nn.Module], torch.Tensor], precision: Precision) -> Step:
    """One step of training."""
    optimiser = optimisation.adamw([{"params": [p for p in model.parameters() if p.requires_grad]}], (0.9, 0.95), CPU)

    def step() -> None:
        with optimisation.autocast(precision, CPU):
            value = loss(model)
        value.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def evaluation(model: nn.Module, pixels: torch.Tensor, batch: int, precision: Precision) -> Step:
    """Predictions of all pictures."""

    def step() -> None:
        with torch.inference_mode(), optimisation.autocast(precision, CPU):
            for part in pixels.split(batch):
                model(part)

    return step


def suited(model: nn.Module) -> nn.Module:
    """With timm's attention as the workflow has it on CPUs."""
    optimisation.suit(model, CPU)
    return model


def masked() -> nn.Module:
    encoder = build_encoder("vit_tiny_patch16_224", {"depth": 6}, SIZE)
    sizes = {"width": 192, "depth": 2, "heads": 3}
    return MaskedAutoencoder(encoder, 112, **sizes, mask_ratio=0.5, target_norm="layernorm", loss_on="all")


def classifier() -> nn.Module:
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", depth=6, img_size=SIZE, num_classes=2, global_pool="avg", drop_path_rate=0.1
    )
    return model


def convolutional() -> nn.Module:
    model: nn.Module = timm.create_model("tf_efficientnet_lite0", num_classes=2)
    return model.to(memory_format=torch.channels_last)


def pretraining_steps() -> tuple[Step, Step]:
    pixels, tokens = torch.randn(BATCH, 3, SIZE, SIZE), torch.randn(BATCH, (SIZE // 16) ** 2, 112)
    noise = torch.rand(tokens.shape[:2])

    def loss(model: nn.Module) -> torch.Tensor:
        value: torch.Tensor = model(pixels, tokens, noise)
        return value

    return training(masked(), loss, "fp32"), training(suited(masked()), loss, NOW)


def finetuning_steps(
    before: nn.Module, after: nn.Module, precisions: tuple[Precision, Precision], batch: int = BATCH
) -> tuple[Step, Step]:
    pixels = torch.randn(batch, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 2, (batch,))

    def loss(model: nn.Module) -> torch.Tensor:
        return functional.cross_entropy(model(pixels).float(), labels)

    return training(before, loss, precisions[0]), training(after, loss, precisions[1])


def evaluation_steps() -> tuple[Step, Step]:
    pixels = torch.randn(BATCH, 3, SIZE, SIZE)
    after = suited(classifier().eval())
    return evaluation(classifier().eval(), pixels, 16, "fp32"), evaluation(after, pixels, BATCH, NOW)


def crops() -> tuple[Step, Step]:
    picture = np.random.default_rng(0).integers(0, 256, (370, 280, 3), dtype=np.uint8)
    whole = create_transform(SIZE, is_training=True, scale=(0.5, 1.0), color_jitter=0.0, auto_augment=None,
                             interpolation="bicubic", use_prefetcher=True)  # fmt: skip

    def before() -> None:
        for _ in range(BATCH):
            whole(Image.fromarray(picture))

    def after() -> None:
        for number in range(BATCH):
            draws = np.random.default_rng([0, number])
            take_view(picture, draw_view(draws, *picture.shape[:2], (0.5, 1.0), True), SIZE)

    return before, after


def targets() -> tuple[Step, Step]:
    teacher = load_teacher(TeacherSettings(name="lite", kind="efficientnet_lite0"), Path(), SIZE)
    pictures = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
    plain = copy.deepcopy(teacher.network.layers).to(memory_format=torch.contiguous_format)

    def before() -> None:
        with torch.inference_mode():
            plain(pictures.float() / 127.5 - 1)

    return before, lambda: teacher.tokens(pictures)


def ratio(name: str, before: Step, after: Step, images: int = BATCH) -> None:
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
    print(f"| one core, {NOW} after | before, images/s | after, images/s | ratio |\n|---|---:|---:|---:|")
    ratio("targets of EfficientNet-Lite0", *targets())
    ratio("step of pre-training", *pretraining_steps())
    ratio("crop and mirror an image of 370 x 280", *crops())
    ratio("step of fine-tuning", *finetuning_steps(classifier(), suited(classifier()), ("fp32", NOW)))
    for batch in (16, 64):
        networks = convolutional(), convolutional()
        name = f"step of fine-tuning EfficientNet-Lite0 in batches of {batch}, {NOW} and fp32"
        ratio(name, *finetuning_steps(*networks, (NOW, "fp32"), batch), batch)
    ratio("evaluation", *evaluation_steps())


if __name__ == "__main__":
    main()
