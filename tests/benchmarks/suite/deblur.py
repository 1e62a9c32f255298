"""Samples that Deblur-MIM's loader makes, before and after its blur was stored (D99), beside others.

A sample is a crop of 224 pixels of the blurred image and the same one of the sharp image.

- urfm: the crops are taken from the stores of sharp and of blurred images;
- before D99: the stored image is blurred in the loader, as a whole, by scipy, sigma scaled to its size;
- MIM-US: what a run without blur takes, one crop;
- files, one crop: as MAE's loader, a file decoded by Pillow, RandomResizedCrop, mirrored;
- files, blurred: the same with OpenCV's blur of the whole file and both crops, as Deblur-MIM's authors do.

Image by image, without collation.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torchvision.transforms import InterpolationMode, RandomResizedCrop, functional
from urfm.config.pretraining import PretrainSettings
from urfm.data.images.blur import blur
from urfm.data.images.decode import decode
from urfm.data.images.pixels import Pixels
from urfm.data.images.store import ImageStore
from urfm.data.streams import Stream, generator
from urfm.data.views import draw_view, take_view
from urfm.training.pretrain.samples import Samples

from tests.benchmarks.suite.harness import Result, Side, take_turns
from tests.benchmarks.suite.pictures import Bench, entries, make_store, pretraining, table

SIGMA = 1.1


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


def sides(paths: list[Path], folder: Path) -> dict[str, Side]:
    """What makes the samples of all files, by name."""
    chosen = {run: pretraining(run) for run in ("deblur_mim", "mim_us")}
    listed, rows = entries(paths), range(len(paths))
    sharp = make_store(listed, folder / "sharp" / "set")
    soft = make_store(listed, folder / "soft" / "set", through=partial(blur, sigma=SIGMA), blur_sigma=SIGMA)
    deblurring = Samples(chosen["deblur_mim"], table(sharp), [sharp], [], [soft])
    plain = Samples(chosen["mim_us"], table(sharp), [sharp], [])
    native = [max(decode(path).shape[:2]) for path in paths]
    return {
        "urfm": lambda: [deblurring[0, row] for row in rows],
        "before D99": lambda: [before(sharp, native, chosen["deblur_mim"], row) for row in rows],
        "MIM-US": lambda: [plain[0, row] for row in rows],
        "files, one crop": lambda: [from_file(path, False, chosen["mim_us"]) for path in paths],
        "files, blurred": lambda: [from_file(path, True, chosen["deblur_mim"]) for path in paths],
    }


def results(bench: Bench) -> Iterator[Result]:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for title, paths in bench.sets.items():
        amounts = take_turns(sides(paths, bench.folder / title.split()[0]), bench.rounds(9))
        yield Result("two crops of 224 pixels", title, "images/s", amounts, len(paths), {"files, one crop": 4.0})
