"""Samples a second of one core that Deblur-MIM's loader makes, before and after its blur was stored, beside others.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/deblur_loader.py --data FOLDER

FOLDER holds BUSBRA and AUL. A sample is a crop of 224 pixels of the blurred image and the same one of the sharp image.

- before: the stored image is blurred in the loader, as a whole, by scipy, sigma scaled to its size;
- after: the crop is taken from the stores of sharp and of blurred images;
- MIM-US: what a run without blur takes, one crop;
- files, one crop: as MAE's loader, a file decoded by Pillow, RandomResizedCrop, mirrored;
- files, blurred: the same with OpenCV's blur of the whole file and both crops, as Deblur-MIM's authors do.

All five run in turns, 64 samples each; ratios are those of the medians of their CPU time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import ndimage
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional
from urfm.config import parts
from urfm.config.pretraining import PretrainSettings
from urfm.data.images.blur import blur
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import Pixels, pixel_sha256
from urfm.data.images.store import ImageStore
from urfm.data.streams import Stream, generator
from urfm.data.views import draw_view, take_view
from urfm.plan import completion, settings
from urfm.training.pretrain.samples import Samples

SIGMA, LONG_SIDE, IMAGES, ROUNDS = 1.1, 512, 64, 15
FOLDERS = {"BUS-BRA": "BUSBRA/Images/*.png", "Liver735": "AUL/**/*.jpg"}


def blurred_in_the_loader(image: Pixels, sigma: float) -> Pixels:
    """As it was done before."""
    radius = (round(6 * sigma + 1) | 1) // 2
    grey = (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    channels = image[..., :1] if grey else image
    soft = ndimage.gaussian_filter(channels.astype(np.float32), (sigma, sigma, 0), mode="mirror", radius=radius)
    return np.broadcast_to(np.rint(soft).astype(np.uint8), image.shape).copy()


def before(store: ImageStore, native: list[int], chosen: PretrainSettings, row: int) -> None:
    image = store.read_row(row)
    random = generator(Stream.CROP, 0, 0, row)
    view = draw_view(random, image.shape[0], image.shape[1], chosen.crop_scale, chosen.flip)
    take_view(image, view, chosen.input_size)
    soft = blurred_in_the_loader(store.read_row(row), SIGMA * max(image.shape[:2]) / native[row])
    take_view(soft, view, chosen.input_size)


def from_file(path: Path, blurs: bool, chosen: PretrainSettings) -> None:
    sharp = Image.open(path).convert("RGB")
    seen = [Image.fromarray(cv2.GaussianBlur(np.asarray(sharp), (0, 0), SIGMA)), sharp] if blurs else [sharp]
    box = RandomResizedCrop.get_params(sharp, list(chosen.crop_scale), [3 / 4, 4 / 3])
    size, mirrored = [chosen.input_size] * 2, bool(torch.rand(1) < 0.5)
    for image in seen:
        crop = functional.resized_crop(image, *box, size, InterpolationMode.BICUBIC)
        functional.pil_to_tensor(functional.hflip(crop) if mirrored else crop)


def sides(paths: list[Path], folder: Path, config: dict[str, Any]) -> dict[str, Callable[[int], object]]:
    """What makes the sample of a row, by name."""
    chosen = {
        run: PretrainSettings.model_validate(settings.pretraining.pretraining(config, run) | {"run": run})
        for run in ("deblur_mim", "mim_us")
    }
    decoded = [decode(path) for path in paths]
    entries = [
        Entry(f"{row:03}", path, pixel_sha256(image))
        for row, (path, image) in enumerate(zip(paths, decoded, strict=True))
    ]
    origin = {"manifest_sha256": "", "simulated": False}
    write_store(entries, folder / "sharp" / "set", LONG_SIDE, 1, origin)
    through = partial(blur, sigma=SIGMA)
    write_store(entries, folder / "soft" / "set", LONG_SIDE, 1, origin | {"blur_sigma": SIGMA}, through=through)
    sharp, soft = (ImageStore(folder / kind / "set") for kind in ("sharp", "soft"))
    table = pd.DataFrame({"image_id": sharp.image_ids, "dataset": "set", "organ": "one"})
    deblurring = Samples(chosen["deblur_mim"], table, [sharp], [], [soft])
    plain = Samples(chosen["mim_us"], table, [sharp], [])
    native = [max(image.shape[:2]) for image in decoded]
    return {
        "before": lambda row: before(sharp, native, chosen["deblur_mim"], row),
        "after": lambda row: deblurring[0, row],
        "MIM-US": lambda row: plain[0, row],
        "files, one crop": lambda row: from_file(paths[row], False, chosen["mim_us"]),
        "files, blurred": lambda row: from_file(paths[row], True, chosen["deblur_mim"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    config = parts.load(Path(__file__).resolve().parents[2])
    completion.complete(config)
    for title, pattern in FOLDERS.items():
        files = sorted(data.glob(pattern))
        paths = files[:: max(1, len(files) // IMAGES)][:IMAGES]
        with tempfile.TemporaryDirectory() as folder:
            makers = sides(paths, Path(folder), config)
            seconds: dict[str, list[float]] = {name: [] for name in makers}
            for turn in range(ROUNDS + 2):
                for name, make in makers.items():
                    start = time.process_time()
                    for row in range(len(paths)):
                        make(row)
                    if turn >= 2:
                        seconds[name].append(time.process_time() - start)
        rates = {name: len(paths) / median(times) for name, times in seconds.items()}
        cells = [f"{rate:,.0f}" for rate in rates.values()]
        after = rates["after"]
        ratios = [f"{after / rates[name]:.2f}" for name in ("before", "files, one crop", "files, blurred")]
        print(f"| {title} | {' | '.join(cells)} | {' | '.join(ratios)} |", flush=True)


if __name__ == "__main__":
    main()
