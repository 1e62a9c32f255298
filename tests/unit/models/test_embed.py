"""Three lines of Python: an encoder's vector of an image, and that the library itself stays light."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
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
from urfm.core.files import read_json


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


def test_own_pictures_are_blurred_at_their_own_size(tmp_path: Path) -> None:
    """By OpenCV's blur of the whole picture, before it is squashed: a path, an array or an open picture."""
    path = write_encoder(tmp_path, "mae")
    record = read_json(path)
    path.write_text(json.dumps(record | {"blur_sigma": 1.1}))
    encoder = load(path)
    for size in ((300, 200), (900, 1300)):
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
        picture.save(tmp_path / "own.png")
        soft = Image.fromarray(cv2.GaussianBlur(np.asarray(picture), (0, 0), 1.1))
        for own in (tmp_path / "own.png", np.asarray(picture), picture):
            torch.testing.assert_close(encoder.prepare(own), pixels_of(soft, record)[0], rtol=1e-5, atol=1e-5)
        assert (encoder.prepare(picture) - pixels_of(picture, record)[0]).abs().max() > 0.01


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


HOSTILE = [
    ("model_args", {"checkpoint_path": "weights.pth"}, r"'checkpoint_path' is none of a network's sizes"),
    ("model_args", {"pretrained_cfg": {"file": "weights.pth"}}, "'pretrained_cfg' is none of"),
    ("model_args", {"pretrained_cfg_overlay": {"file": "weights.pth"}}, "'pretrained_cfg_overlay' is none of"),
    ("model_args", {"cache_dir": "/tmp"}, "'cache_dir' is none of"),
    ("model_args", {"pretrained": True}, "'pretrained' is none of"),
    ("model_args", {"embed_dim": "24"}, "embed_dim: '24' is not a whole number"),
    ("model_args", {"embed_dim": True}, "embed_dim: 'True' is not a whole number"),
    ("model_args", {"depth": [[2]]}, "depth: .* is not a whole number"),
    ("model_args", {"depth": 10**9}, "depth: '1000000000' is not a whole number of at most 20,000"),
    ("model_args", {"qkv_bias": {"a": 1}}, "qkv_bias: .* is not true or false"),
    ("model_args", {"drop_rate": float("nan")}, "drop_rate: 'nan' is not a number"),
    ("model_args", {"act_layer": "/tmp/x.py"}, "act_layer: '/tmp/x.py' is not a word of timm's"),
    ("model_args", ["depth", 2], "expected names with values"),
    ("model_args", {"embed_dim": 20_000, "num_heads": 2, "depth": 20}, "does not fit VisionTransformer"),
    ("architecture", "local-dir:/tmp", "timm has no 'local-dir:/tmp'"),
    ("architecture", "hf-hub:somebody/network", "timm has no 'hf-hub:somebody/network'"),
    ("architecture", ["vit_base_patch16_224"], "is not the name of a network"),
    ("input_size", 10**9, "img_size: '1000000000' is not a whole number"),
    ("input_size", "32", "img_size: '32' is not a whole number"),
]


@pytest.mark.parametrize(("key", "value", "message"), HOSTILE)
def test_a_hostile_export_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    """Nothing that its json says makes timm read a file, ask a hub, or take memory that its weights do not need."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    path = write_encoder(tmp_path, "mae")
    torch.save(Trap(), tmp_path / "weights.pth")
    record = read_json(path)
    if isinstance(value, dict):
        value = record[key] | {name: text_or(tmp_path, inner) for name, inner in value.items()}
    path.write_text(json.dumps(record | {key: value}))
    with pytest.raises(UrfmError, match=message):
        load(path)
    assert not (tmp_path / "executed").exists()


def text_or(folder: Path, value: Any) -> Any:
    """`weights.pth` is the one in the folder."""
    if isinstance(value, dict):
        return {name: text_or(folder, inner) for name, inner in value.items()}
    return str(folder / value) if value == "weights.pth" else value


def test_one_place_asks_timm_for_networks() -> None:
    """Where what may be said of a network is checked."""
    home = Path(urfm.__file__).parent
    asking = [path for path in home.rglob("*.py") if re.search(r"timm\.create_model\((?!\")", path.read_text("utf-8"))]
    assert [path.relative_to(home).as_posix() for path in asking] == ["models/classifier.py"]


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
