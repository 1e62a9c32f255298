"""A real step of pre-training of ViT-B/16, ViT-L/16 and ViT-H/14 at 224 pixels on a CPU: seconds and peak memory.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/model_steps.py [--models vit_base_patch16_224 ...]

Through the workflow's own engine: pixels as targets, the decoder of config.yaml, AdamW, mask ratio 0.75, on random
pictures. Each model is a process of its own. Nothing is asserted; the table of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from PIL import Image
from urfm.config.models import TeacherSettings
from urfm.config.pretraining import DecoderSettings, PretrainSettings
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.images.store import ImageStore
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.models.teachers import load_teacher
from urfm.training.distributed import Processes
from urfm.training.pretrain.loop import train
from urfm.training.pretrain.samples import Samples

MODELS = ["vit_base_patch16_224", "vit_large_patch16_224", "vit_huge_patch14_224"]


def picture_store(folder: Path, count: int) -> ImageStore:
    """Random pictures of 256 pixels."""
    entries = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (256, 256), dtype=np.uint8)).save(path)
        entries.append(Entry(f"noise/{number:03}", path, pixel_sha256(decode(path))))
    write_store(entries, folder / "noise", 512, 1, {"manifest_sha256": "", "simulated": True})
    return ImageStore(folder / "noise")


def steps(architecture: str, batch_size: int, count: int, folder: Path) -> str:
    """Train for `count` steps; a row of the table."""
    teacher_settings = TeacherSettings(name="pixels", kind="pixels")
    settings = PretrainSettings(
        run=architecture,
        architecture=architecture,
        model_args={},
        input_size=224,
        decoder=DecoderSettings(width=768, depth=8, heads=16),
        teacher=teacher_settings,
        targets="online",
        target_norm="none",
        loss_on="masked",
        blur_sigma=0,
        mask_ratio=0.75,
        epochs=count,
        warmup_epochs=0,
        batch_size=batch_size,
        base_lr=1.5e-4,
        min_lr=0,
        weight_decay=0.05,
        betas=(0.9, 0.95),
        crop_scale=(0.2, 1.0),
        flip=True,
        normalisation="imagenet",
        precision="fp32",
        ema_decay=0,
        sampling="natural",
        seed=0,
    )
    store = picture_store(folder, batch_size)
    encoder = build_encoder(architecture, {}, 224)
    patch_size = 224 // encoder.patch_embed.grid_size[0]
    teacher = load_teacher(teacher_settings, folder, 224, patch_size=patch_size)
    model = MaskedAutoencoder(encoder, teacher.dim, **settings.decoder.model_dump(), mask_ratio=0.75)
    parameters = [sum(values.numel() for values in part.parameters()) / 1e6 for part in (encoder, model)]
    pretrain_set = pd.DataFrame({"image_id": store.image_ids, "dataset": "noise", "organ": "none"})
    samples = Samples(settings, pretrain_set, [store], [])
    job = Processes(0, 1, torch.device("cpu"))
    wall, cpu = time.monotonic(), time.process_time()
    finished = train(settings, job, model, teacher, samples, folder / "state", checkpoint_minutes=1e9)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    losses = ", ".join(f"{row['loss']:.3f}" for row in finished["history"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    return (
        f"| {architecture} | {parameters[0]:.1f} | {parameters[1]:.1f} | {batch_size} | {count} | {cpu / count:.1f} | "
        f"{wall / count:.1f} | {peak:.1f} | {losses} |"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--here", action="store_true", help="one model, in this process")
    arguments = parser.parse_args()
    if not arguments.here:
        print(
            "| model | M parameters | M with decoder | batch | steps | s CPU a step | s a step | GB at most | losses |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|---:|---|", flush=True)
        for name in arguments.models:
            own = [sys.executable, __file__, "--here", "--models", name, "--batch-size", str(arguments.batch_size)]
            done = subprocess.run([*own, "--steps", str(arguments.steps)], check=True, text=True, capture_output=True)
            print(done.stdout.splitlines()[-1], flush=True)
        return
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        print(steps(arguments.models[0], arguments.batch_size, arguments.steps, Path(folder)))


if __name__ == "__main__":
    main()
