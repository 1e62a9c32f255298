"""Pictures that look like tissue, and copies of pictures as people make them."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Pixels = np.ndarray


def picture(seed: int, height: int = 220, width: int = 280) -> Pixels:
    """Smooth structure of several sizes under speckle, grey, uint8 (height, width, 1)."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(3, height, width))
    scales = [ndimage.gaussian_filter(noise[number], sigma) for number, sigma in enumerate((18, 7, 1))]
    tissue = sum(weight * scale / scale.std() for weight, scale in zip((30, 20, 12), scales, strict=True))
    return np.clip(110 + tissue, 0, 255).astype(np.uint8)[..., None]


def resized(pixels: Pixels, factor: float) -> Pixels:
    height, width, channels = pixels.shape
    size = (round(width * factor), round(height * factor))
    return np.asarray(to_image(pixels).resize(size, Image.Resampling.BICUBIC)).reshape(size[1], size[0], channels)


def recompressed(pixels: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    to_image(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream)).reshape(pixels.shape)


def cropped(pixels: Pixels, left: float, top: float, right: float, bottom: float) -> Pixels:
    """Without these shares of its sides."""
    height, width = pixels.shape[:2]
    return pixels[
        round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)
    ]


def brightened(pixels: Pixels, add: float, contrast: float = 1.0) -> Pixels:
    return np.clip((pixels.astype(float) - 127) * contrast + 127 + add, 0, 255).astype(np.uint8)


def annotated(pixels: Pixels) -> Pixels:
    """With callipers, text and a scale, in colour."""
    image = to_image(pixels).convert("RGB")
    pen, (width, height) = ImageDraw.Draw(image), image.size
    for x, y in ((0.3, 0.4), (0.6, 0.45), (0.45, 0.3), (0.45, 0.6)):
        x, y, size = x * width, y * height, max(3, height // 60)
        pen.line((x - size, y, x + size, y), fill=(255, 255, 0))
        pen.line((x, y - size, x, y + size), fill=(255, 255, 0))
    pen.text((0.1 * width, 0.8 * height), "LEFT BREAST 12.3 mm", "white", ImageFont.load_default(max(9, height // 25)))
    for tick in range(12):
        pen.line((0, height * tick / 12, width // 60, height * tick / 12), fill="white")
    return np.asarray(image)


def on_screen(pixels: Pixels) -> Pixels:
    """On a scanner's screen: a black frame with text and a grey bar in it."""
    height, width = pixels.shape[:2]
    image = Image.new("RGB", (round(1.35 * width), round(1.25 * height)))
    image.paste(to_image(pixels).convert("RGB"), (round(0.1 * width), round(0.15 * height)))
    pen, (right, bottom) = ImageDraw.Draw(image), image.size
    font = ImageFont.load_default(max(9, bottom // 30))
    pen.text((2, 1), "HOSPITAL  ID 123456", (220, 220, 220), font)
    for line in range(5):
        pen.text((1, bottom * (0.3 + 0.1 * line)), f"{line * 7}", (180, 180, 180), font)
    for row in range(bottom // 3):
        pen.line(
            (right - 8, bottom // 4 + row, right - 2, bottom // 4 + row), fill=(255 - 255 * 3 * row // bottom,) * 3
        )
    return np.asarray(image)


def to_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "half size": lambda pixels: resized(pixels, 0.5),
    "one and a half": lambda pixels: resized(pixels, 1.5),
    "quality 60": lambda pixels: recompressed(pixels, 60),
    "cropped evenly": lambda pixels: cropped(pixels, 0.03, 0.03, 0.03, 0.03),
    "cropped unevenly": lambda pixels: cropped(pixels, 0.02, 0.04, 0.03, 0.02),
    "brighter": lambda pixels: brightened(pixels, 25),
    "darker": lambda pixels: brightened(pixels, -15),
    "more contrast": lambda pixels: brightened(pixels, 0, 1.25),
    "less contrast": lambda pixels: brightened(pixels, 0, 0.7),
    "annotated": annotated,
    "on a screen": on_screen,
    "all at once": lambda pixels: recompressed(
        brightened(resized(cropped(pixels, 0.03, 0.02, 0.04, 0.03), 0.7), 12, 1.1), 60
    ),
}
