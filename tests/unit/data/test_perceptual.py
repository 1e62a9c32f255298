"""The perceptual hash: copies are near, other pictures are far, furniture does not count."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from near_copies import COPIES, on_screen, picture
from urfm.data.images.decode import decode
from urfm.data.leakage.near_duplicates import near_images, unpack, window_distances
from urfm.data.leakage.perceptual import perceptual_hash

LIMIT = 36


def distance(one: np.ndarray, other: np.ndarray) -> int:
    words = unpack(pd.Series([perceptual_hash(one), perceptual_hash(other)]))
    return int(window_distances(words[:1], words[1:]).min())


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_near(name: str) -> None:
    for seed in range(4):
        original = picture(seed)
        assert distance(original, COPIES[name](original)) <= LIMIT, seed


def test_other_pictures_are_far_on_the_same_screen_too() -> None:
    pictures = [picture(seed) for seed in range(12)]
    for shown in (pictures, [on_screen(pixels) for pixels in pictures]):
        words = unpack(pd.Series([perceptual_hash(pixels) for pixels in shown]))
        first, second = np.triu_indices(len(words), 1)
        assert window_distances(words[first], words[second]).min() > LIMIT + 10


def test_grey_stored_as_colour_has_the_same_hash() -> None:
    assert perceptual_hash(picture(0)) == perceptual_hash(np.repeat(picture(0), 3, axis=2))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 3), (300, 2, 1), (5, 5, 3)])
def test_any_shape_has_a_hash_or_none(shape: tuple[int, ...]) -> None:
    assert perceptual_hash(np.zeros(shape, np.uint8)) == ""
    assert perceptual_hash(np.full(shape, 255, np.uint8)) == ""
    assert len(perceptual_hash(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))) in (0, 192)


def test_a_page_with_text_only_holds_no_picture() -> None:
    page = on_screen(np.zeros((200, 200, 1), np.uint8))
    assert perceptual_hash(page[:, : page.shape[1] - 20]) == ""  # without the grey bar


@pytest.mark.data
def test_busbra_has_no_near_duplicates_and_its_copies_are_found(real_data: Path) -> None:
    """1,875 images, no two alike: 1.75 million pairs of different patients; and copies of 40 of them."""
    paths = sorted((real_data / "BUSBRA" / "Images").glob("*.png"))
    assert len(paths) == 1875
    hashes = [perceptual_hash(decode(path)) for path in paths]
    patients = np.array([int(path.stem[4:8]) for path in paths])
    false = sum(len(first) for first, _, _ in near_images(unpack(pd.Series(hashes)), LIMIT, patients))
    assert false <= 1  # less than one in a million

    chosen = np.random.default_rng(0).choice(len(paths), 40, replace=False)
    originals = unpack(pd.Series([hashes[number] for number in chosen]))
    for name, copy in COPIES.items():
        copies = unpack(pd.Series([perceptual_hash(copy(decode(paths[number]))) for number in chosen]))
        assert (window_distances(originals, copies).min(axis=1) <= LIMIT).mean() >= 0.95, name
