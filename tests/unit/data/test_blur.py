"""Deblur-MIM's blur against OpenCV's, of files of several sizes, and whoever has to see it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw
from urfm.data.images.blur import blur
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.images.store import ImageStore
from urfm.data.views import View, take_view

SIGMA = 1.1


def scan(width: int, height: int) -> Image.Image:
    """Speckle of the file's own grain, a dark border, and sharp text as scanners burn it in."""
    random = np.random.default_rng(width)
    speckle = cv2.GaussianBlur(random.rayleigh(60, (height, width)).astype(np.float32), (0, 0), 1.0)
    image = Image.fromarray(np.clip(speckle, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 10, height), fill=0)
    draw.text((width // 2, 10), "+ 23 mm", fill=255)
    return image


def at_224(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """As a network sees the whole image."""
    return take_view(image, View(0, 0, *image.shape[:2], flip=False), 224).numpy().astype(np.int64)


@pytest.mark.parametrize("colour", [False, True])
def test_blur_is_opencvs(colour: bool) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    if not colour:
        image[:] = image[..., :1]
    # OpenCV works in fixed point on 8 bits.
    assert np.abs(blur(image, SIGMA).astype(int) - cv2.GaussianBlur(image, (0, 0), SIGMA).astype(int)).max() <= 1


@pytest.mark.parametrize("size", [(400, 320), (800, 600), (1260, 910)])
def test_a_store_blurs_as_if_the_file_had_been_blurred(size: tuple[int, int], tmp_path: Path) -> None:
    """At a network's input, one grey level, but where the store's own reduction is further from the file."""
    path = tmp_path / "scan.png"
    scan(*size).save(path)
    native = decode(path)
    entry = Entry("a", path, pixel_sha256(native))
    write_store([entry], tmp_path / "store", 512, 1, {"manifest_sha256": "", "simulated": True})
    store = ImageStore(tmp_path / "store")
    rgb = np.repeat(native, 3, axis=2)
    expected = at_224(cv2.GaussianBlur(rgb, (0, 0), SIGMA))
    off = np.abs(at_224(store.read("a", SIGMA)) - expected)
    reduced = np.abs(at_224(store.read("a")) - at_224(rgb))
    assert off.mean() < max(0.1, 1.3 * reduced.mean())
    assert (off <= 1).mean() > min(0.999, (reduced <= 1).mean())
    if max(size) > 512:  # a sigma in pixels of the store is another blur
        wrong = np.abs(at_224(blur(store.read("a"), SIGMA)) - expected)
        assert wrong.mean() > 3 * off.mean()
    else:
        assert off.max() <= 1


def test_no_blur_changes_nothing(tmp_path: Path) -> None:
    image = np.asarray(scan(60, 40).convert("RGB"))
    assert np.array_equal(blur(image, 0.0), image)
