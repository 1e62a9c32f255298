"""What fine-tuning sees: the parts of a split, prepared for evaluation, and augmented training images in batches.

What is drawn for a training image is a function of (seed, epoch, image) and of nothing that ran before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.transforms import functional

from urfm.config.finetuning import FinetuneSettings
from urfm.core.errors import UrfmError
from urfm.data.images.store import ImageStore
from urfm.data.views import draw_view, take_view
from urfm.metrics import SELECTION
from urfm.models.normalisation import normalise_for
from urfm.training import optimisation
from urfm.training.finetune.cell import rows_of

EVALUATION_BATCH = 64

# First number of every seed, so that streams never meet.
ORDER, AUGMENTATION, STEP = range(3)


@dataclass(frozen=True)
class Part:
    """Images of one part of a split, or of another set (`external`), in the order of image_id."""

    rows: pd.DataFrame  # image_id, patient_id, label
    labels: npt.NDArray[np.int64]  # index into the classes
    pixels: torch.Tensor  # uint8 (images, 3, size, size), prepared for evaluation; empty for the training part


def read_parts(
    split: pd.DataFrame, store: ImageStore, settings: FinetuneSettings, record: dict[str, Any]
) -> dict[str, Part]:
    """The three parts of a split, the training part cut to the share, with everything checked before training."""
    rows = rows_of(split, store, settings)
    parts = {name: prepared(part, store, settings, record, prepare=name != "train") for name, part in rows.items()}
    labels, classes = parts["val"].labels, len(settings.classes)
    if np.isnan(SELECTION[settings.selection_metric](labels, np.full((len(labels), classes), 1 / classes))):
        raise UrfmError(
            f"{settings.task}: the validation part holds one class only, so there is no {settings.selection_metric} to "
            "select by; set finetuning.selection_metric to accuracy"
        )
    return parts


def prepared(
    rows: pd.DataFrame, store: ImageStore, settings: FinetuneSettings, record: dict[str, Any], *, prepare: bool
) -> Part:
    """The images of checked rows, as the encoder that `record` describes sees them."""
    labels = rows["label"].map(settings.classes.index).to_numpy(np.int64, copy=True)
    transform = evaluation_transform(record["input_size"], settings.evaluation_resize)
    squares = [transform(open_image(store, name, record)) for name in rows["image_id"] if prepare]
    return Part(rows, labels, torch.stack(squares) if squares else torch.empty(0))


def open_image(store: ImageStore, image_id: str, record: dict[str, Any]) -> Image.Image:
    """A stored image as an encoder sees it, from a store that is blurred if its json says so (Deblur-MIM)."""
    store.check_blur(record.get("blur_sigma", 0.0))
    return Image.fromarray(store.read(image_id))


def evaluation_transform(size: int, resize: str) -> transforms.Compose:
    """`squash`: the whole scan, its borders kept, whatever its aspect; `crop`: MAE's, the centre 224 of 256."""
    bicubic = transforms.InterpolationMode.BICUBIC
    if resize == "squash":
        return transforms.Compose([transforms.Resize((size, size), bicubic), transforms.PILToTensor()])
    return transforms.Compose(
        [
            transforms.Resize(size * 256 // 224, bicubic),
            transforms.CenterCrop(size),
            transforms.PILToTensor(),
        ]
    )


def normalise(pixels: torch.Tensor, record: dict[str, Any], device: torch.device) -> torch.Tensor:
    """uint8 (B, 3, size, size) as the encoder expects it: float, normalised, channels last (faster convolutions)."""
    images = normalise_for(record, pixels.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)


def seed_everything(*numbers: int) -> None:
    """Set the generators of Python, NumPy and torch from the numbers; timm draws from the global ones."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    optimisation.seed_torch(seed)


def keep_a_bit(bits: Callable[..., tuple[int]], *level: Any) -> tuple[int]:
    """At least one bit for timm's posterising: at full strength it asks for none, a black image; Pillow refuses."""
    return (max(1, *bits(*level)),)


class TrainingImages(Dataset[tuple[torch.Tensor, int]]):
    """Augmented images: item (epoch, index) is uint8 (3, size, size) and its label, the same whenever it is asked for.

    The crop and its mirroring are those of pre-training (`urfm.data.views`); RandAugment after it is timm's, as in MAE,
    and fills with the mean colour. The store is memory-mapped: the page cache keeps a set that fits in RAM there,
    decoded, for all processes.
    """

    def __init__(
        self, settings: FinetuneSettings, store: ImageStore, part: Part, record: dict[str, Any], seed: int
    ) -> None:
        self.store, self.seed, self.settings, self.size = store, seed, settings, record["input_size"]
        self.image_ids = part.rows["image_id"].tolist()
        self.labels = part.labels.tolist()
        self.randaugment: RandAugment | None = None
        if settings.randaugment:
            self.randaugment = randaugment(settings.randaugment, self.size, record["mean"])

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key
        draws = np.random.default_rng([AUGMENTATION, self.seed, epoch, index])
        image = self.store.read(self.image_ids[index])
        view = draw_view(draws, image.shape[0], image.shape[1], self.settings.crop_scale, self.settings.flip)
        pixels = take_view(image, view, self.size)
        if self.randaugment:
            seed_everything(AUGMENTATION, self.seed, epoch, index)
            pixels = functional.pil_to_tensor(self.randaugment(functional.to_pil_image(pixels)))
        return pixels, self.labels[index]


def randaugment(name: str, size: int, mean: list[float] | None) -> RandAugment:
    """timm's RandAugment for images of `size` pixels; what it moves into the picture has the `mean` colour, or grey."""
    colour = tuple(min(255, round(255 * value)) for value in mean or (0.5, 0.5, 0.5))
    options = {"translate_const": int(size * 0.45), "img_mean": colour, "interpolation": Image.Resampling.BICUBIC}
    augment = rand_augment_transform(name, options)  # as timm's create_transform calls it
    for operation in augment.ops:
        if operation.name.startswith("Posterize"):
            operation.level_fn = partial(keep_a_bit, operation.level_fn)
    return augment


def batches(images: int, batch: int, seed: int, first: int, last: int) -> Iterator[list[tuple[int, int]]]:
    """Keys (epoch, index) of the batches of steps `first` to `last` - 1; every epoch is shuffled, the rest dropped."""
    steps = images // batch
    for epoch in range(first // steps, -(-last // steps)):
        order = np.random.default_rng([ORDER, seed, epoch]).permutation(images).tolist()
        for step in range(steps):
            if first <= epoch * steps + step < last:
                yield [(epoch, index) for index in order[step * batch : (step + 1) * batch]]


def batch_size_for(images: int, settings: FinetuneSettings) -> int:
    """Images a step: the configured number, fewer if there are fewer, even where images are mixed in pairs."""
    batch = min(settings.batch_size, images)
    batch -= batch % 2 if settings.mixes else 0
    if batch == 0:
        raise UrfmError(
            f"{settings.task}: {images} training images and batch_size {settings.batch_size} leave no pair to mix; "
            "use at least 2 of both, or set mixup and cutmix to 0"
        )
    return batch
