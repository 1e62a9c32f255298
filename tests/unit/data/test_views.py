"""Crop boxes against torchvision's RandomResizedCrop, resizing against Pillow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms.v2 import RandomResizedCrop
from urfm.data.streams import Stream, generator
from urfm.data.views import View, draw_view, take_view


@pytest.mark.parametrize(
    ("height", "width", "scale"), [(300, 400, (0.2, 1.0)), (512, 100, (0.08, 1.0)), (64, 64, (0.5, 0.6))]
)
def test_boxes_are_distributed_as_torchvisions(height: int, width: int, scale: tuple[float, float]) -> None:
    views = [draw_view(generator(Stream.CROP, 0, 0, i), height, width, scale, flip=True) for i in range(1500)]
    torch.manual_seed(0)
    theirs = [RandomResizedCrop(8, scale=scale).make_params([torch.empty(3, height, width)]) for _ in range(1500)]
    for ours, name in (("top", "top"), ("left", "left"), ("height", "height"), ("width", "width")):
        a = np.array([getattr(view, ours) for view in views])
        b = np.array([params[name] for params in theirs])
        assert stats.ks_2samp(a, b).pvalue > 1e-3, name
    for view in views:
        assert 0 <= view.top <= height - view.height
        assert 0 <= view.left <= width - view.width
    flips = np.mean([view.flip for view in views])
    assert abs(flips - 0.5) < 4 * 0.5 / math.sqrt(1500)


def test_fallback_is_torchvisions_central_box() -> None:
    # A strip in which no box of the allowed ratio and area fits.
    for height, width in ((10, 1000), (1000, 10)):
        params = RandomResizedCrop(8, scale=(0.9, 1.0)).make_params([torch.empty(3, height, width)])
        view = draw_view(generator(Stream.CROP, 1), height, width, (0.9, 1.0), flip=False)
        assert view == View(params["top"], params["left"], params["height"], params["width"], False)
    assert draw_view(generator(Stream.CROP, 1), 1, 1, (0.2, 1.0), flip=False) == View(0, 0, 1, 1, False)


def test_views_depend_on_their_key_only() -> None:
    def draw(*key: int) -> View:
        return draw_view(generator(Stream.CROP, *key), 300, 400, (0.2, 1.0), flip=True)

    assert draw(3, 5, 7) == draw(3, 5, 7)
    assert len({draw(3, 5, 7), draw(3, 7, 5), draw(4, 5, 7), draw(3, 5, 8)}) == 4
    assert not any(draw_view(generator(Stream.CROP, 0, i), 30, 40, (0.2, 1.0), flip=False).flip for i in range(50))


def test_cut_and_resize_agree_with_pillow() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 90, 3), dtype=np.uint8)
    view = View(10, 20, 77, 51, flip=True)
    ours = take_view(image, view, 32)
    assert ours.shape == (3, 32, 32)
    assert ours.dtype == torch.uint8
    box = Image.fromarray(image[10:87, 20:71]).resize((32, 32), Image.Resampling.BICUBIC)
    theirs = np.asarray(box.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).transpose(2, 0, 1)
    difference = np.abs(ours.numpy().astype(int) - theirs.astype(int))
    assert difference.max() <= 3  # of 255, on white noise: both round between the two passes
    assert difference.mean() < 0.5


def test_overshoot_of_the_filter_is_clamped() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 255
    enlarged = take_view(image, View(0, 0, 8, 8, flip=False), 64)[0, 0].numpy().astype(int)
    assert (np.diff(enlarged) >= -60).all()
    assert enlarged[:16].max() == 0
    assert enlarged[-16:].min() == 255
