"""Three lines of Python: an encoder's vector of an image, and that the library itself stays light."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import urfm
from PIL import Image
from safetensors.torch import load_file
from small_encoders import VIT_ARGS, write_encoder
from urfm import load
from urfm.core.errors import UrfmError


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pixels_of(picture: Image.Image, record: dict[str, Any]) -> torch.Tensor:
    size = record["input_size"]
    plain = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64) / 255
    plain = (plain - record["mean"]) / record["std"]
    return torch.from_numpy(plain.transpose(2, 0, 1).astype(np.float32))[None]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vector_of_a_vision_transformer(tmp_path: Path, picture: Image.Image, pooling: Any) -> None:
    """The class token after the norm, or the mean of the patch tokens before it, standardised."""
    path = write_encoder(tmp_path, "mae")
    encoder = load(path, pooling)
    features = encoder.embed(picture)
    assert (features.shape, features.dtype) == ((24,), np.float32)

    model = timm.create_model("vit_base_patch16_224", num_classes=0, **VIT_ARGS).eval()
    model.load_state_dict(load_file(path.with_suffix(".safetensors")))
    with torch.inference_mode():
        if pooling == "cls":
            expected = model(pixels_of(picture, encoder.record))[0]
        else:
            model.norm = torch.nn.Identity()
            mean = model.forward_features(pixels_of(picture, encoder.record))[0, 1:].mean(0)
            expected = (mean - mean.mean()) / (mean.var(correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(torch.from_numpy(features), expected, rtol=1e-4, atol=1e-5)


def test_vector_of_a_convolutional_network(tmp_path: Path, picture: Image.Image) -> None:
    assert load(write_encoder(tmp_path, "simclr")).embed(picture).shape == (32,)


def test_all_forms_of_an_image_are_one(tmp_path: Path, picture: Image.Image) -> None:
    encoder = load(write_encoder(tmp_path, "mae"))
    grey = picture.convert("L")
    expected = encoder.embed(grey)
    array = np.asarray(grey)
    grey.save(tmp_path / "scan.png")
    Image.fromarray(array.astype(np.uint16) * 257).save(tmp_path / "scan16.png")
    with Image.open(tmp_path / "scan16.png") as wide:
        forms = [array, array[..., None], array[..., None].repeat(3, 2), str(tmp_path / "scan.png"), wide]
        for form in [*forms, tmp_path / "scan16.png", grey.convert("RGB")]:
            np.testing.assert_array_equal(encoder.embed(form), expected)


def test_an_encoder_is_found_by_file_and_by_folder(tmp_path: Path, picture: Image.Image) -> None:
    path = write_encoder(tmp_path, "mae")
    vectors = [load(place).embed(picture) for place in (path, str(path.with_suffix(".safetensors")), tmp_path)]
    assert all(np.array_equal(vector, vectors[0]) for vector in vectors)
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"other{suffix}").touch()
    with pytest.raises(UrfmError, match=r"found encoder\.json, other\.json"):
        load(tmp_path)
    with pytest.raises(UrfmError, match="no such file"):
        load(tmp_path / "absent.json")
    path.with_suffix(".safetensors").write_bytes(b"other")
    with pytest.raises(UrfmError, match="its content changed"):
        load(path)


@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), np.float32), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(tmp_path: Path, wrong: Any) -> None:
    with pytest.raises(UrfmError, match=r"expected uint8 \(H, W\)"):
        load(write_encoder(tmp_path, "mae")).embed(wrong)


def test_pictures_without_a_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UrfmError, match=r"mode=F.*no agreed range"):
        load(write_encoder(tmp_path, "mae")).embed(Image.fromarray(np.zeros((4, 4), np.float32)))


def test_the_library_is_light_until_an_encoder_is_wanted() -> None:
    program = "import sys; from urfm import load; print({'torch', 'timm', 'pandas'} & set(sys.modules))"
    environment = {"PYTHONPATH": str(Path(urfm.__file__).parents[1]), "PATH": os.defpath}
    assert subprocess.check_output([sys.executable, "-c", program], text=True, env=environment).strip() == "set()"
