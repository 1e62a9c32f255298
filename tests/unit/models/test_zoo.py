"""Every published checkpoint of the paper's models, in its publisher's form and at full size, and wrong ones.

Features are compared with networks that share no code with the conversion: a transformer and a residual network
written out here, torchvision's ResNet-101, timm's own filters of state dicts.
"""

from __future__ import annotations

import argparse
import gc
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
import upstream_files as upstream
from configurations import PAPER
from safetensors.torch import save_file
from small_encoders import CONVOLUTIONAL, FORMS, RESNETV2_ARGS, VIT_ARGS, settings_of, small_files, write_encoder
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor
from upstream_files import SMALL_RESNET, SMALL_VIT, Vit, fill
from urfm.config.models import CheckpointSettings, FormatName
from urfm.core.errors import UrfmError
from urfm.models.classifier import load_classifier
from urfm.models.encoders import FORMATS, from_checkpoint
from urfm.models.weights import read_file, tensors_in
from urfm.plan import settings

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def vit() -> dict[str, Tensor]:
    """A ViT-B/16's tensors under timm's names."""
    return fill(upstream.vit())


@pytest.fixture(scope="module")
def vit_features(vit: dict[str, Tensor], image: Tensor) -> Tensor:
    return transformer(vit, image)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose large files do not outlive the test."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()
    gc.collect()


def transformer(weights: dict[str, Tensor], image: Tensor, heads: int = 12, clip: bool = False) -> Tensor:
    """The class token after the last norm of a vision transformer, in torch's functions; CLIP's has its own ways."""
    eps = 1e-5 if clip else 1e-6

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    kernel = weights["patch_embed.proj.weight"]
    patches = F.conv2d(image, kernel, weights.get("patch_embed.proj.bias"), stride=kernel.shape[-1])
    x = torch.cat([weights["cls_token"].expand(len(image), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
    x = x + weights["pos_embed"]
    x = norm(x, "norm_pre") if clip else x
    for i in range(sum(name.endswith("attn.qkv.weight") for name in weights)):
        name = f"blocks.{i}"
        q, k, v = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").unflatten(-1, (3, heads, -1)).unbind(2)
        attended = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q, k, v)))
        x = x + linear(attended.transpose(1, 2).flatten(2), f"{name}.attn.proj")
        hidden = linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        hidden = hidden * torch.sigmoid(1.702 * hidden) if clip else F.gelu(hidden)
        x = x + linear(hidden, f"{name}.mlp.fc2")
    return norm(x[:, 0], "norm")


def simclr_v2_network(weights: dict[str, Tensor], image: Tensor, layers: tuple[int, ...] = (3, 4, 23, 3)) -> Tensor:
    """google-research/simclr's resnet.py with sk_ratio 0: `fixed_padding` before strided layers, then VALID or SAME."""

    def conv(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        before = (kernel.shape[-1] - 1) // 2  # SAME of an odd kernel without stride pads the same
        return F.conv2d(F.pad(x, (before, kernel.shape[-1] - 1 - before) * 2), kernel, stride=stride)

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, scale, shift = (
            weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    x = norm(conv(image, "net.0.0", 2), "net.0.1.0").relu()
    # TensorFlow's SAME: of an even side the window of 3 with stride 2 begins at the first pixel, none is padded before.
    x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    for stage, blocks in enumerate(layers, 1):
        for i in range(blocks):
            name, stride = f"net.{stage}.blocks.{i}", 2 if stage > 1 and i == 0 else 1
            shortcut = x
            if i == 0:
                shortcut = norm(conv(x, f"{name}.projection.shortcut", stride), f"{name}.projection.bn.0")
            x = norm(conv(x, f"{name}.net.0"), f"{name}.net.1.0").relu()
            x = norm(conv(x, f"{name}.net.2", stride), f"{name}.net.3.0").relu()
            x = (norm(conv(x, f"{name}.net.4"), f"{name}.net.5.0") + shortcut).relu()
    return x.mean((2, 3))


def convert(path: Path, form: str, **settings: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    checkpoint = CheckpointSettings.model_validate({"format": form, "file": path.name, **settings})
    return from_checkpoint(checkpoint, path.parent)


def features(record: dict[str, Any], tensors: dict[str, Tensor], image: Tensor) -> Tensor:
    """What the encoder's pooling gives, in timm's network."""
    with torch.device("meta"):
        model = timm.create_model(record["architecture"], num_classes=0, **record["model_args"])
    model.load_state_dict(tensors, strict=True, assign=True)
    with torch.inference_mode():
        return model.eval()(image)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


# The publishers' files at full size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [True, False])
def test_urfm(folder: Path, vit: dict[str, Tensor], image: Tensor, vit_features: Tensor, ema: bool) -> None:
    """`model` is a string; weights with `module.` and their moving average; decoder 768 wide for 768 channels."""
    decoder = fill(upstream.mae_decoder(768, 768))
    content = {
        "epoch": 1199,
        "model": "mae_vit_base_patch16_dec768d8b",
        "state_dict": {f"module.{name}": tensor for name, tensor in (vit | decoder).items()},
        "ema_state_dict": vit | decoder,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 6e-4}]},
    }
    content["state_dict" if ema else "ema_state_dict"] = {"not": torch.zeros(1)}
    torch.save(content, folder / "urfm.pth")
    tensors, record = convert(folder / "urfm.pth", "urfm", **({} if ema else {"ema": False}))
    assert (record["architecture"], record["input_size"]) == ("vit_base_patch16_224", 224)
    assert (record["mean"], record["std"]) == IMAGENET
    other = "state_dict" if ema else "ema_state_dict"
    assert record["provenance"]["dropped"] == sorted([*decoder, "optimizer", other])
    close(features(record, tensors, image), vit_features)


@pytest.mark.parametrize("full", [False, True])
def test_mae(folder: Path, vit: dict[str, Tensor], image: Tensor, vit_features: Tensor, full: bool) -> None:
    """Encoder alone, or with decoder and what a run of its code leaves: Deblur-MIM's files are of this form."""
    decoder = fill(upstream.mae_decoder(512, 768)) if full else {}
    content: dict[str, Any] = {"model": vit | decoder}
    if full:
        content |= {
            "optimizer": {"state": {}, "param_groups": []},
            "epoch": 399,
            "scaler": {},
            "args": argparse.Namespace(),
        }
    torch.save(content, folder / "mae.pth")
    tensors, record = convert(folder / "mae.pth", "mae")
    assert (record["mean"], record["std"]) == IMAGENET
    assert record["provenance"]["dropped"] == sorted([*decoder, "optimizer"] if full else [])
    close(features(record, tensors, image), vit_features)


def test_supervised_vit_of_timm(folder: Path, vit: dict[str, Tensor], image: Tensor, vit_features: Tensor) -> None:
    head = fill({"head.weight": (1000, 768), "head.bias": (1000,)})
    save_file(vit | head, folder / "orig_in21k_ft_in1k.safetensors", metadata={"format": "pt"})
    path = folder / "orig_in21k_ft_in1k.safetensors"
    tensors, record = convert(path, "timm", architecture="vit_base_patch16_224.orig_in21k_ft_in1k")
    assert (record["mean"], record["std"]) == ([0.5] * 3, [0.5] * 3)
    assert record["provenance"]["dropped"] == ["head.bias", "head.weight"]
    close(features(record, tensors, image), vit_features)


def test_moco_v3(folder: Path, vit: dict[str, Tensor], image: Tensor, vit_features: Tensor) -> None:
    """main_moco.py saves the whole model: base and momentum encoder with projectors of three layers, the predictor."""
    projector = {"0.weight": (4096, 768), **upstream.batch_norm("1", 4096), "3.weight": (4096, 4096)}
    projector |= {**upstream.batch_norm("4", 4096), "6.weight": (256, 4096)}
    projector |= {f"7.{name}": (256,) for name in ("running_mean", "running_var")} | {"7.num_batches_tracked": ()}
    left = fill({f"base_encoder.head.{name}": shape for name, shape in projector.items()})
    left |= fill({"momentum_encoder.cls_token": (1, 1, 768), "momentum_encoder.head.0.weight": (4096, 768)})
    left |= fill({"predictor.0.weight": (4096, 256), "predictor.3.weight": (256, 4096)})
    whole = {f"base_encoder.{name}": tensor for name, tensor in vit.items()} | left
    state = {f"module.{name}": tensor for name, tensor in whole.items()}
    content = {"epoch": 300, "arch": "vit_base", "state_dict": state, "optimizer": {"state": {}}, "scaler": {}}
    torch.save(content, folder / "vit-b-300ep.pth.tar")
    tensors, record = convert(folder / "vit-b-300ep.pth.tar", "moco_v3")
    assert (record["mean"], record["std"]) == IMAGENET
    assert record["provenance"]["dropped"] == sorted([*left, "optimizer"])
    close(features(record, tensors, image), vit_features)


@pytest.mark.parametrize("full", [False, True])
def test_dino(folder: Path, vit: dict[str, Tensor], image: Tensor, vit_features: Tensor, full: bool) -> None:
    """The published backbone is bare; a run's checkpoint holds student and teacher, each with a head."""
    content: dict[str, Any] = vit
    head = fill({"head.mlp.0.weight": (2048, 768), "head.last_layer.weight_g": (65536, 1)}) if full else {}
    if full:
        teacher = {f"backbone.{name}": tensor for name, tensor in vit.items()} | head
        student = {"module.backbone.cls_token": torch.zeros(1, 1, 768)}
        content = {"student": student, "teacher": teacher, "args": argparse.Namespace(), "epoch": 400}
        content |= {"dino_loss": {"center": torch.zeros(1, 65536)}}
    torch.save(content, folder / "dino.pth")
    tensors, record = convert(folder / "dino.pth", "dino")
    assert (record["mean"], record["std"]) == IMAGENET
    assert record["provenance"]["dropped"] == sorted([*head, "student", "dino_loss"] if full else [])
    close(features(record, tensors, image), vit_features)


def test_simclr_of_vissl(folder: Path, image: Tensor) -> None:
    weights = fill(upstream.torchvision_resnet())
    trunk = {f"_feature_blocks.{name}": tensor for name, tensor in weights.items()}
    heads = fill({"0.clf.0.weight": (2048, 2048), "0.clf.0.bias": (2048,), "1.clf.0.weight": (128, 2048)})
    model = {"model": {"trunk": trunk, "heads": heads}, "meta": {"inputs": "1"}}
    state = {"base_model": model, "optimizer": {"optim": {"state": {}}}, "phase_idx": 999, "train": True}
    torch.save({"phase_idx": 999, "iteration": 312, "loss": {}, "classy_state_dict": state}, folder / "final.torch")
    tensors, record = convert(folder / "final.torch", "simclr")
    assert (record["architecture"], record["mean"], record["std"]) == ("resnet101", *IMAGENET)
    assert record["provenance"]["dropped"] == [
        "classy_state_dict.base_model.meta",
        "classy_state_dict.base_model.model.heads",
        "classy_state_dict.optimizer",
    ]
    with torch.device("meta"):
        direct = torchvision.models.resnet101()
    direct.fc = torch.nn.Identity()
    direct.load_state_dict(weights, strict=True, assign=True)
    with torch.inference_mode():
        close(features(record, tensors, image), direct.eval()(image))


def test_simclr_v2(folder: Path, image: Tensor) -> None:
    """Exactly the network that was trained, in pixels from 0 to 1; with torchvision's max pooling it is another."""
    weights = fill(upstream.simclr_v2())
    head = fill({"layers.0.weight": (2048, 2048), **upstream.batch_norm("layers.1", 2048)})
    torch.save({"resnet": weights, "head": head}, folder / "r101_1x_sk0.pth")
    tensors, record = convert(folder / "r101_1x_sk0.pth", "simclr_v2")
    assert (record["mean"], record["std"]) == ([0.0] * 3, [1.0] * 3)
    assert record["provenance"]["dropped"] == ["fc.bias", "fc.weight", "head"]
    pixels = image.sigmoid()
    with torch.inference_mode():
        expected = simclr_v2_network(weights, pixels)
    close(features(record, tensors, pixels), expected)
    padded = features({**record, "model_args": {"preact": False}}, tensors, pixels)
    assert (padded - expected).abs().max() > 0.01 * expected.abs().max()


def test_usfm(folder: Path, image: Tensor) -> None:
    weights = fill(upstream.usfm())
    index = {"rel_pos_bias.relative_position_index": torch.zeros(197, 197, dtype=torch.long)}
    torch.save(weights | index, folder / "USFM_latest.pth")
    tensors, record = convert(folder / "USFM_latest.pth", "usfm")
    assert (record["mean"], record["std"]) == IMAGENET
    assert record["provenance"]["dropped"] == ["mask_token", *index]
    arguments = {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False}
    assert (record["architecture"], record["model_args"]) == ("beit_base_patch16_224", arguments)
    model = timm.create_model("beit_base_patch16_224", num_classes=0, global_pool="token", **arguments).eval()
    result = model.load_state_dict(weights, strict=False)
    assert (result.missing_keys, result.unexpected_keys) == ([], ["mask_token"])
    with torch.inference_mode():
        expected = model(image)
        model.load_state_dict(tensors, strict=True)
        assert torch.equal(model(image), expected)


@pytest.mark.parametrize("kind", ["clip", "biomedclip"])
def test_vision_towers(folder: Path, image: Tensor, kind: str) -> None:
    """OpenAI's in half precision. timm's own filter gives the same tensors, and the transformer the same features."""
    weights = fill(upstream.openai_clip() if kind == "clip" else upstream.biomedclip())
    if kind == "clip":
        weights = {name: tensor.half() for name, tensor in weights.items()}
        save_file(weights, folder / "weights")
        (folder / "weights").rename(path := folder / "open_clip_model.safetensors")
    else:
        torch.save(weights, path := folder / "open_clip_pytorch_model.bin")
    tensors, record = convert(path, kind)
    assert (record["mean"], record["std"]) == CLIP
    with torch.device("meta"):
        model = timm.create_model(record["architecture"], num_classes=0)
    theirs = checkpoint_filter_fn(dict(weights), model)
    theirs = {name: tensor.float() for name, tensor in theirs.items() if not name.startswith("head.")}
    assert theirs.keys() == tensors.keys()
    assert all(torch.equal(theirs[name], tensors[name]) for name in theirs)
    assert len(record["provenance"]["dropped"]) + len(tensors) == len(weights)
    assert "logit_scale" in record["provenance"]["dropped"]
    with torch.inference_mode():
        close(features(record, tensors, image), transformer(theirs, image, clip=kind == "clip"))


@pytest.mark.parametrize(
    ("architecture", "model_args", "size"),
    [
        ("vit_large_patch16_224", {}, Vit(1024, 24, 16)),
        ("vit_huge_patch14_224", {}, Vit(1280, 32, 16, patch=14, grid=16)),  # MAE's
        ("vit_huge_patch14_224", {"patch_size": 16}, Vit(1280, 32, 16)),  # URFM's
    ],
)
def test_larger_architectures_have_the_published_shapes(
    architecture: str, model_args: dict[str, Any], size: Vit
) -> None:
    with torch.device("meta"):
        model = timm.create_model(architecture, num_classes=0, **model_args)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == upstream.vit(size)


# Wrong files ----------------------------------------------------------------------------------------------------------


def test_every_format_is_in_these_tests() -> None:
    assert set(FORMS) == set(FORMATS) - {"efficientnet_lite0", "timm"}  # which are in test_encoders.py


# What holds the same under the same names: a bare ViT is DINO's form, and BiomedCLIP's trunk under timm's names.
ALIKE = {"biomedclip": {"dino"}}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_another_format_is_refused(tmp_path: Path, form: str) -> None:
    taken = ALIKE.get(form, set()) | {form}
    for other, content in small_files().items():
        path = tmp_path / f"{other}.pth"
        torch.save(content, path)
        if other in taken:
            convert(path, form, **settings_of(form))
        else:
            with pytest.raises(UrfmError, match=rf"{other}\.pth: "):
                convert(path, form, **settings_of(form))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('executed')",))


def damaged(kind: str, content: Any, path: Path) -> None:
    torch.save(content, path)
    data = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "a bit":
        with zipfile.ZipFile(path) as archive:
            entry = max(archive.infolist(), key=lambda entry: entry.file_size)
        data[entry.header_offset + len(entry.filename) + 200] ^= 1
        path.write_bytes(data)
    elif kind == "program":
        torch.save({"extra": Hostile(), **content}, path)
    elif kind == "namespace of programs":
        torch.save({"args": argparse.Namespace(hook=Hostile()), **content}, path)


@pytest.mark.parametrize("kind", ["truncated", "a bit", "program", "namespace of programs"])
@pytest.mark.parametrize("form", FORMS)
def test_damaged_and_hostile_files_are_a_sentence(tmp_path: Path, form: str, kind: str) -> None:
    damaged(kind, small_files()[form], tmp_path / "file.pth")
    with pytest.raises(UrfmError, match=r"file\.pth: (cannot be read as weights|damaged, the checksum)"):
        convert(tmp_path / "file.pth", form, **settings_of(form))


@pytest.mark.parametrize("form", FORMS)
def test_a_namespace_is_read_only_where_the_publisher_writes_one(tmp_path: Path, form: str) -> None:
    content = {**small_files()[form], "args": argparse.Namespace(lr=1.0)}
    if form in ("dino", "usfm", "clip", "biomedclip"):
        content = {"teacher" if form == "dino" else "state_dict": small_files()[form], "args": content["args"]}
    torch.save(content, tmp_path / "file.pth")
    if form in ("mae", "dino"):
        convert(tmp_path / "file.pth", form, **settings_of(form))
    else:
        with pytest.raises(UrfmError, match=r"argparse\.Namespace"):
            convert(tmp_path / "file.pth", form, **settings_of(form))


def test_old_files_of_torch_are_read(tmp_path: Path) -> None:
    """Before 1.6 torch wrote no zip archive; VISSL's and MoCo's files may be of that time."""
    torch.save({"model": fill(upstream.vit(SMALL_VIT))}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(tmp_path / "old.pth")
    tensors, _ = convert(tmp_path / "old.pth", "mae", model_args=VIT_ARGS)
    assert torch.equal(tensors["cls_token"], fill(upstream.vit(SMALL_VIT))["cls_token"])


def test_bombs_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as source, zipfile.ZipFile(tmp_path / "bomb.pth", "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(UrfmError, match=r"bomb\.pth: would unpack to more"):
        read_file(tmp_path / "bomb.pth")

    torch.save({"a": torch.zeros(1).expand(1 << 40)}, tmp_path / "wide.pth")
    with pytest.raises(UrfmError, match=r"wide\.pth: 'a' claims"):
        tensors_in(read_file(tmp_path / "wide.pth"), tmp_path / "wide.pth")


def test_two_names_of_one_tensor_are_refused(tmp_path: Path) -> None:
    vit = fill(upstream.vit(SMALL_VIT))
    state = {f"base_encoder.{name}": tensor for name, tensor in vit.items()} | {"cls_token": vit["cls_token"]}
    torch.save({"state_dict": state}, tmp_path / "twice.pth")
    with pytest.raises(UrfmError, match=r"twice\.pth: two of its names mean the same tensor"):
        convert(tmp_path / "twice.pth", "moco_v3", model_args=VIT_ARGS)


def test_selective_kernels_are_named(tmp_path: Path) -> None:
    weights = fill(upstream.simclr_v2(SMALL_RESNET)) | fill({"net.1.blocks.0.net.2.main_conv.0.weight": (16, 8, 3, 3)})
    torch.save({"resnet": weights}, tmp_path / "r50_1x_sk1.pth")
    with pytest.raises(UrfmError, match=r"not known to the architecture: net\.1\.blocks\.0\.net\.2\.main_conv\.0"):
        convert(tmp_path / "r50_1x_sk1.pth", "simclr_v2", model_args=RESNETV2_ARGS)


def test_only_urfm_has_a_moving_average() -> None:
    with pytest.raises(ValueError, match=r"checkpoint\.ema: only format urfm"):
        CheckpointSettings(format="mae", file="mae.pth", ema=False)


# In fine-tuning and in the configuration -----------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("form", FORMS)
def test_classifiers_of_all_encoders(tmp_path: Path, form: str, pooling: Any) -> None:
    """Logits near zero before training, a gradient for every parameter; no class token in convolutional networks."""
    path = write_encoder(tmp_path, form)
    if pooling == "cls" and form in CONVOLUTIONAL:
        with pytest.raises(UrfmError, match="pooling"):
            load_classifier(path, 3, pooling, 0.1, seed=0)
        return
    model = load_classifier(path, 3, pooling, 0.1, seed=0)
    size = json.loads(path.read_text())["input_size"]
    logits = model(torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 3)
    assert logits.abs().max() < 1e-2
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_checkpoints_of_the_configuration() -> None:
    """Each entry is complete, and names a network that timm knows."""
    for name, record in PAPER["models"].items():
        if "checkpoint" in record:
            checkpoint = CheckpointSettings.model_validate(settings.models.encoder(PAPER, name)["checkpoint"])
            assert timm.is_model(checkpoint.architecture or FORMATS[checkpoint.format].architecture), name
    assert {*FORMATS, "random"} == set(get_args(FormatName))
