"""Deblur-MIM's blur against OpenCV's, at the size of the file, in stores of files of several sizes."""

from __future__ import annotations

import multiprocessing
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from urfm.core.code import code_digests, definitions
from urfm.core.errors import UrfmError
from urfm.data.images.blur import blur
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import Pixels, pixel_sha256
from urfm.data.images.store import ImageStore

SIGMA = 1.1
LONG_SIDE = 512


def scan(width: int, height: int, colour: bool) -> Image.Image:
    """Speckle of the file's own grain, a dark border, and sharp text as scanners burn it in."""
    random = np.random.default_rng(width)
    speckle = cv2.GaussianBlur(random.rayleigh(60, (height, width)).astype(np.float32), (0, 0), 1.0)
    image = Image.fromarray(np.clip(speckle, 0, 255).astype(np.uint8)).convert("RGB" if colour else "L")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 10, height), fill=0)
    draw.text((width // 2, 10), "+ 23 mm", fill=(255, 200, 0) if colour else 255)
    return image


def stores(paths: list[Path], folder: Path) -> tuple[ImageStore, ImageStore]:
    """A store of the files as they are, and of the same, blurred; ids are the files' names."""
    entries = [Entry(path.name, path, pixel_sha256(decode(path))) for path in paths]
    origin = {"manifest_sha256": "", "simulated": False}
    write_store(entries, folder / "sharp", LONG_SIDE, 1, origin)
    through = partial(blur, sigma=SIGMA)
    write_store(entries, folder / "soft", LONG_SIDE, 1, origin | {"blur_sigma": SIGMA}, through=through)
    return ImageStore(folder / "sharp", verify=True), ImageStore(folder / "soft", verify=True)


def opencvs(path: Path, size: tuple[int, int]) -> Pixels:
    """A file as the authors blur it, shrunk by Pillow to `size` (height, width)."""
    rgb = np.asarray(Image.open(path).convert("RGB"))
    soft = Image.fromarray(cv2.GaussianBlur(rgb, (0, 0), SIGMA))
    return np.asarray(soft if rgb.shape[:2] == size else soft.resize(size[::-1], Image.Resampling.BICUBIC))


def difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other).max())


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.3, 0.55, 0.8, 1.1, 1.5, 2.5, 4.0, 7.3, 20.0])
def test_blur_is_opencvs_to_the_bit(sigma: float) -> None:
    random = np.random.default_rng(0)
    for shape in ((40, 50, 3), (333, 512, 1), (1, 30, 1), (30, 1, 3), (2, 3, 1)):
        image = random.integers(0, 256, shape, dtype=np.uint8)
        np.testing.assert_array_equal(blur(image, sigma), cv2.GaussianBlur(image, (0, 0), sigma).reshape(shape))


def test_no_blur_changes_nothing() -> None:
    image = np.asarray(scan(60, 40, colour=True))
    assert blur(image, 0.0) is image


@pytest.mark.parametrize("colour", [False, True])
def test_every_stored_pixel_is_as_if_opencv_had_blurred_the_file(colour: bool, tmp_path: Path) -> None:
    """Files of four sizes and shapes, three of which are reduced to 512 pixels."""
    sizes = [(400, 320), (800, 600), (1260, 910), (513, 1030)]
    paths = [tmp_path / f"{width}x{height}.png" for width, height in sizes]
    for path, size in zip(paths, sizes, strict=True):
        scan(*size, colour).save(path)
    sharp, soft = stores(paths, tmp_path)
    for path in paths:
        image, clear = soft.read(path.name), sharp.read(path.name)
        assert difference(image, opencvs(path, image.shape[:2])) <= 1
        if max(Image.open(path).size) > LONG_SIDE:
            # What was tried before, another sigma on the reduced image, is another picture.
            reduced = blur(clear, SIGMA * LONG_SIDE / max(Image.open(path).size))
            assert difference(reduced, opencvs(path, image.shape[:2])) > 1
        assert clear.shape == image.shape
        assert difference(image, clear) > 20
    sharp.check_twin(soft)


@pytest.mark.data
def test_real_pictures_are_as_if_opencv_had_blurred_them(real_data: Path, tmp_path: Path) -> None:
    files = (
        sorted((real_data / "AUL").rglob("*.jpg"))[::8] + sorted((real_data / "BUSBRA" / "Images").glob("*.png"))[::80]
    )
    paths = [tmp_path / f"{number}{path.suffix}" for number, path in enumerate(files)]
    for path, file in zip(paths, files, strict=True):
        path.symlink_to(file)
    sizes = {Image.open(path).size for path in paths}
    assert min(map(max, sizes)) < LONG_SIDE < max(map(max, sizes))
    assert len(sizes) >= 3
    _, soft = stores(paths, tmp_path)
    for path in paths:
        image = soft.read(path.name)
        assert difference(image, opencvs(path, image.shape[:2])) <= 1


def test_the_other_store_is_refused(tmp_path: Path) -> None:
    for name, size in (("a", (60, 40)), ("b", (60, 41))):
        scan(*size, colour=False).save(tmp_path / f"{name}.png")
    sharp, soft = stores([tmp_path / "a.png"], tmp_path)
    sharp.check_blur(0)
    soft.check_blur(SIGMA)
    with pytest.raises(UrfmError, match=r"sharp: its images were blurred by 0 pixels, expected 1\.1"):
        sharp.check_blur(SIGMA)
    with pytest.raises(UrfmError, match=r"soft: its images were blurred by 1\.1 pixels, expected 0 \(0: sharp\)"):
        soft.check_blur(0)
    (tmp_path / "more").mkdir()
    other, more = stores([tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "more")
    other.check_twin(more)
    with pytest.raises(UrfmError, match=r"soft: not the images of .*more/sharp; delete both"):
        other.check_twin(soft)
    Image.open(tmp_path / "b.png").save(tmp_path / "a.png")
    (tmp_path / "taller").mkdir()
    taller, _ = stores([tmp_path / "a.png"], tmp_path / "taller")
    with pytest.raises(UrfmError, match="soft: not the images of"):
        taller.check_twin(soft)


def slow_blur(image: Pixels, folder: Path) -> Pixels:
    (folder / "begun").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return blur(image, SIGMA)


def test_two_builders_and_a_killed_one(tmp_path: Path) -> None:
    """As of sharp stores: the second is refused, and what one left that died goes with the next."""
    path = tmp_path / "a.png"
    scan(60, 40, colour=False).save(path)
    entry, folder = Entry("a", path, pixel_sha256(decode(path))), tmp_path / "soft"
    through = partial(slow_blur, folder=tmp_path)
    arguments = ([entry], folder, 512, 1, {}, 0, None, through)
    builder = multiprocessing.get_context("fork").Process(target=write_store, args=arguments)
    builder.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(UrfmError, match=rf"soft: another process is at work on it \(process {builder.pid} on"):
        write_store(*arguments)
    builder.kill()
    builder.join(120)
    assert list(folder.glob(".pixels.bin.*.tmp"))
    assert not (folder / "store.json").exists()
    (tmp_path / "go").touch()
    write_store(*arguments)
    assert {item.name for item in folder.iterdir()} == {"pixels.bin", "index.parquet", "store.json"}
    np.testing.assert_array_equal(ImageStore(folder, verify=True).read("a"), opencvs(path, (40, 60)))


def test_only_blurred_stores_depend_on_the_blur() -> None:
    """An edit of it makes no sharp store again, and no training that sees none but these."""
    entry, reached = "urfm.data.images.build", "urfm.data.images.blur@"
    assert not any(digest.startswith(reached) for digest in code_digests(entry, {"long_side": 512}))
    settings = {"long_side": 512, "filter": "blur", "blur_sigma": SIGMA}
    assert any(digest.startswith(reached) for digest in code_digests(entry, settings))
    for stage in ("urfm.training.pretrain.stage", "urfm.training.finetune.stage", "urfm.interpret.attention"):
        assert not any(name.startswith("urfm.data.images.blur:") for name in definitions(stage))
