"""Outlines of lesions as the archives publish them: against the boxes of BUS-BRA's table, and damaged files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from urfm.data.outlines import lesion_mask


def test_masks_of_bus_bra_fill_its_boxes(real_data: Path) -> None:
    """`BBOX` of bus_data.csv is the mask's column and row, counted from 1, width and height; within a pixel."""
    folder = real_data / "BUSBRA"
    with open(folder / "bus_data.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:200:10]
    for row in rows:
        path = folder / "Images" / f"{row['ID']}.png"
        with Image.open(path) as image:
            width, height = image.size
        mask = lesion_mask("busbra", path, width, height)
        assert mask is not None
        x, y = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        found = [x[0] + 1, y[0] + 1, np.ptp(x) + 1, np.ptp(y) + 1]
        assert np.abs(np.array(json.loads(row["BBOX"])) - found).max() <= 1


def test_polygons_of_liver735(real_data: Path) -> None:
    for name, outlined in (("Benign", True), ("Malignant", True), ("Normal", False)):
        path = real_data / "AUL" / name / "image" / "1.jpg"
        with Image.open(path) as image:
            mask = lesion_mask("aul", path, *image.size)
        assert (mask is not None) is outlined


def test_a_polygon_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "Benign" / "segmentation" / "mass"
    folder.mkdir(parents=True)
    image = tmp_path / "Benign" / "image" / "1.jpg"
    (folder / "1.json").write_text("[[10.2, 5], [29.9, 5], [30, 14], [10, 14.0]]")
    mask = lesion_mask("aul", image, 40, 20)
    assert mask is not None
    assert mask.shape == (20, 40)
    assert mask.sum() == pytest.approx(21 * 10, abs=21)
    assert mask[10, 20]
    assert not mask[10, 35]


@pytest.mark.parametrize(
    "content", ["", "[[1, 2]]", "[1, 2, 3]", '{"a": 1}', "[[1, 2], [3, 4], [1e999, 2]]", "[" * 9999]
)
def test_what_is_no_polygon_is_named(tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "Benign" / "segmentation" / "mass"
    folder.mkdir(parents=True)
    (folder / "1.json").write_text(content)
    assert lesion_mask("aul", tmp_path / "Benign" / "image" / "1.jpg", 40, 20) is None
    assert "not used: unreadable" in capsys.readouterr().err


def test_a_mask_of_another_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("Images", "Masks"):
        (tmp_path / name).mkdir()
    Image.new("1", (30, 20), 1).save(tmp_path / "Masks" / "mask_0001-l.png")
    image = tmp_path / "Images" / "bus_0001-l.png"
    assert lesion_mask("busbra", image, 30, 20) is not None
    assert lesion_mask("busbra", image, 31, 20) is None
    assert "30 x 20 pixels, the image 31 x 20" in capsys.readouterr().err
    Image.new("1", (30, 20), 0).save(tmp_path / "Masks" / "mask_0001-l.png")
    assert lesion_mask("busbra", image, 30, 20) is None  # empty
    assert lesion_mask("generic", image, 30, 20) is None
    assert lesion_mask("busbra", tmp_path / "Images" / "bus_0002-l.png", 30, 20) is None
