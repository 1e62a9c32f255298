"""What others load images with: torchvision, webdataset, litdata and timm themselves, and MAE's recipe on top of them.

facebookresearch/mae is a recipe, not a package: `mae_transform` is the one of its main_pretrain.py, word for word, on
Pillow images. All loaders work in this process, and give batches of normalised floats.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

BATCH = 32
Transform = Callable[[Image.Image], torch.Tensor]
Batches = Iterable[Any]


def mae_transform(size: int) -> Transform:
    """main_pretrain.py of facebookresearch/mae."""
    return transforms.Compose([
        transforms.RandomResizedCrop(size, scale=(0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
    ])  # fmt: skip


def class_folder(paths: list[Path], folder: Path) -> Path:
    """The files in the layout of ImageFolder, by links, in two classes."""
    for number, path in enumerate(paths):
        link = folder / f"class_{number % 2}" / f"{number:05}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


def image_folder(folder: Path, transform: Transform, batch: int = BATCH) -> Batches:
    """torchvision's ImageFolder in torch's DataLoader."""
    return DataLoader(ImageFolder(str(folder), transform), batch_size=batch, shuffle=True)


def webdataset(paths: list[Path], tar: Path, transform: Transform, batch: int = BATCH) -> Batches:
    """The files as they are in one shard of webdataset, shuffled as its pages advise."""
    import webdataset

    with tarfile.open(tar, "w") as shard:
        for number, path in enumerate(paths):
            shard.add(path.resolve(), f"{number:05}{path.suffix}")
    shards = webdataset.WebDataset(str(tar), shardshuffle=False)
    images = shards.shuffle(100).decode("pilrgb").to_tuple("png;jpg").map_tuple(transform)
    return webdataset.WebLoader(images.batched(batch), batch_size=None, num_workers=0)


def litdata(paths: list[Path], folder: Path, transform: Transform, batch: int = BATCH) -> Batches:
    """The files as they are in litdata's chunks, read by its StreamingDataLoader."""
    os.environ.setdefault("DATA_OPTIMIZER_DATA_CACHE_FOLDER", str(folder.parent / "litdata-cache"))
    import litdata as package
    from litdata.streaming.writer import BinaryWriter

    class Cropped(package.StreamingDataset):
        def __getitem__(self, index: Any) -> torch.Tensor:
            content = super().__getitem__(index)
            return transform(Image.open(io.BytesIO(content)).convert("RGB"))

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for number, path in enumerate(paths):
        writer[number] = path.read_bytes()
    writer.done()
    writer.merge()
    return package.StreamingDataLoader(Cropped(str(folder), shuffle=True), batch_size=batch, num_workers=0)


def timm_loader(folder: Path, size: int, recipe: dict[str, Any], batch: int = BATCH) -> Batches:
    """timm's create_loader over its own reader of folders: create_transform and its collation, without a GPU."""
    from timm.data import create_dataset, create_loader

    return create_loader(
        create_dataset("", root=str(folder)), (3, size, size), batch, is_training=True, use_prefetcher=False,
        num_workers=0, persistent_workers=False, device=torch.device("cpu"), **recipe,
    )  # fmt: skip


def consume(batches: Batches, images: int, size: int) -> None:
    """An epoch; an error if it was another one than ours."""
    seen = 0
    for batch in batches:
        pixels = batch if isinstance(batch, torch.Tensor) else batch[0]
        if pixels.dtype != torch.float32 or pixels.shape[1:] != (3, size, size):
            raise RuntimeError(
                f"batches of {pixels.dtype} {tuple(pixels.shape)}, not of normalised crops of {size} pixels"
            )
        seen += len(pixels)
    if seen != images:
        raise RuntimeError(f"{seen} images in an epoch of {images}")
