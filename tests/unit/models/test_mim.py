"""The masked autoencoder against MAE's published definition, recomputed in float64 with numpy."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import upstream_files as upstream
from torch import nn
from upstream_files import fill
from urfm.config.models import CheckpointSettings, TeacherSettings
from urfm.core.errors import UrfmError
from urfm.models.checkpoints import read_mae
from urfm.models.mim import (
    MaskedAutoencoder,
    build_encoder,
    encoder_arguments,
    load_mae,
    mae_tensors,
    position_table,
)
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import patchify
from urfm.models.weights import Tensors, read_file, tensors_in
from urfm.training import optimisation

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}


def tiny(target_dim: int = 12, **options: object) -> MaskedAutoencoder:
    torch.manual_seed(0)
    encoder = build_encoder("vit_tiny_patch16_224", TINY, 64)
    return MaskedAutoencoder(encoder, target_dim, width=24, depth=1, heads=3, **options)  # type: ignore[arg-type]


def test_position_table_is_maes_formula() -> None:
    dim, (h, w) = 16, (3, 5)
    table = position_table(dim, (h, w), prefix=1)
    assert table.shape == (1 + h * w, dim)
    assert (table[0] == 0).all()
    for row in range(h):
        for column in range(w):
            for half, coordinate in ((0, column), (1, row)):  # the column comes first
                for i in range(dim // 4):
                    angle = coordinate / 10000 ** (i / (dim / 4))
                    value = table[1 + row * w + column, half * dim // 2 + i]
                    assert value == pytest.approx(math.sin(angle), abs=1e-6)
                    value = table[1 + row * w + column, half * dim // 2 + dim // 4 + i]
                    assert value == pytest.approx(math.cos(angle), abs=1e-6)
    with pytest.raises(UrfmError, match="divisible by 4"):
        position_table(18, (2, 2))


def test_patchify_is_maes_order() -> None:
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    # MAE: nchpwq -> nhwpqc
    expected = torch.einsum("nchpwq->nhwpqc", images.reshape(2, 3, 2, 2, 3, 2)).reshape(2, 6, 12)
    assert torch.equal(patches, expected)


def test_mask_keeps_the_smallest_noise() -> None:
    model = tiny()
    noise = torch.rand(5, 16, generator=torch.Generator().manual_seed(1))
    _, mask = model.predict(torch.zeros(5, 3, 64, 64), noise)
    assert mask.sum(dim=1).tolist() == [12.0] * 5  # keep = int(16 * 0.25)
    for one_noise, one_mask in zip(noise, mask, strict=True):
        assert set(one_noise.argsort()[:4].tolist()) == set((one_mask == 0).nonzero().flatten().tolist())


def test_hidden_pixels_do_not_reach_the_prediction() -> None:
    model = tiny().eval()
    noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(1))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    prediction, mask = model.predict(images, noise)
    patches = patchify(images, 16)
    other = torch.where(mask[:, :, None] == 1, torch.randn_like(patches), patches)
    changed = other.reshape(1, 4, 4, 16, 16, 3).permute(0, 5, 1, 3, 2, 4).reshape(1, 3, 64, 64)
    assert not torch.equal(changed, images)
    assert torch.equal(model.predict(changed, noise)[0], prediction)


def numpy_forward(tensors: Tensors, images: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MAE's forward_encoder and forward_decoder for its own names, from the paper in float64, without torch."""
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in tensors.items()}
    erf = np.vectorize(math.erf)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def block(x: np.ndarray, name: str, heads: int) -> np.ndarray:
        n, width = x.shape
        qkv = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").reshape(n, 3, heads, width // heads)
        q, k, v = (qkv[:, i].transpose(1, 0, 2) for i in range(3))
        scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(width // heads))
        attended = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(n, width)
        x = x + linear(attended, f"{name}.attn.proj")
        y = linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        return x + linear(y * 0.5 * (1 + erf(y / math.sqrt(2))), f"{name}.mlp.fc2")

    predictions, masks = [], []
    for image, one_noise in zip(images, noise, strict=True):
        count = len(one_noise)
        side = math.isqrt(count)
        patches = image.reshape(3, side, 16, side, 16).transpose(1, 3, 0, 2, 4).reshape(count, -1)
        kernel = weights["patch_embed.proj.weight"]
        x = patches @ kernel.reshape(len(kernel), -1).T + weights["patch_embed.proj.bias"]
        x = x + weights["pos_embed"][0, 1:]
        order = np.argsort(one_noise)
        keep = int(count * (1 - 0.75))
        visible = sorted(order[:keep])  # any order: attention does not see it
        x = np.concatenate([weights["cls_token"][0] + weights["pos_embed"][0, :1], x[visible]])
        for i in range(2):
            x = block(x, f"blocks.{i}", 2)
        x = linear(norm(x, "norm"), "decoder_embed")
        full = np.repeat(weights["mask_token"][0], count, axis=0)
        full[visible] = x[1:]
        x = np.concatenate([x[:1], full]) + weights["decoder_pos_embed"][0]
        x = block(x, "decoder_blocks.0", 3)
        predictions.append(linear(norm(x, "decoder_norm"), "decoder_pred")[1:])
        masks.append([0 if i in visible else 1 for i in range(count)])
    return np.array(predictions), np.array(masks)


@pytest.mark.parametrize("loss_on", ["masked", "all"])
@pytest.mark.parametrize("target_norm", ["none", "layernorm"])
def test_loss_against_an_independent_computation(loss_on: str, target_norm: str) -> None:
    model = tiny(loss_on=loss_on, target_norm=target_norm)
    rng = np.random.default_rng(0)
    for parameter in model.parameters():  # away from zero biases and unit scales
        parameter.data += 0.1 * torch.from_numpy(rng.standard_normal(parameter.shape).astype(np.float32))
    images = rng.standard_normal((3, 3, 64, 64)).astype(np.float32)
    noise = rng.random((3, 16)).astype(np.float32)
    target = (5 * rng.standard_normal((3, 16, 12)) + 2).astype(np.float32)

    prediction, mask = numpy_forward(mae_tensors(model), images.astype(np.float64), noise)
    truth = target.astype(np.float64)
    if target_norm == "layernorm":
        truth = (truth - truth.mean(-1, keepdims=True)) / np.sqrt(truth.var(-1, keepdims=True) + 1e-5)
    error = ((prediction - truth) ** 2).mean(-1)
    expected = error.mean() if loss_on == "all" else error[mask == 1].mean()

    loss = model(torch.from_numpy(images), torch.from_numpy(target), torch.from_numpy(noise))
    assert loss.item() == pytest.approx(expected, rel=2e-5)


def test_names_and_shapes_are_maes() -> None:
    with torch.device("meta"):
        encoder = build_encoder("vit_base_patch16_224", {}, 224)
    assert shapes(encoder.state_dict()) == upstream.vit()
    model = MaskedAutoencoder(build_encoder("vit_tiny_patch16_224", TINY, 224), 768, width=512, depth=8, heads=16)
    size = upstream.Vit(width=32, depth=2, heads=2)
    assert shapes(mae_tensors(model)) == upstream.vit(size) | upstream.mae_decoder(512, 768, size)


def shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


# An encoder of TINY's size on 64 pixels, with a decoder of one block and three heads.
SIZE = upstream.Vit(width=32, depth=2, heads=2, grid=4)


def norm_pix(target: np.ndarray) -> np.ndarray:
    """norm_pix_loss of models_mae.py: each patch by its own mean and unbiased variance."""
    return (target - target.mean(-1, keepdims=True)) / np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("loss_on", ["masked", "all"])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_file_of_mae_gives_maes_loss(tmp_path: Path, normalised: bool, loss_on: str) -> None:
    """mae_pretrain_vit_*_full.pth, read into our model in float64: the loss on pixels for a given mask."""
    torch.save(
        {"model": fill(upstream.vit(SIZE) | upstream.mae_decoder(24, 768, SIZE, depth=1))}, tmp_path / "full.pth"
    )
    tensors = tensors_in(read_file(tmp_path / "full.pth")["model"], tmp_path / "full.pth")
    model = tiny(768, loss_on=loss_on)
    load_mae(model, tensors, tmp_path / "full.pth")
    rng = np.random.default_rng(0)
    images, noise = rng.standard_normal((3, 3, 64, 64)), rng.random((3, 16))

    prediction, mask = numpy_forward(tensors, images, noise)
    target = images.reshape(3, 3, 4, 16, 4, 16).transpose(0, 2, 4, 3, 5, 1).reshape(3, 16, 768)  # nchpwq -> nhwpqc
    error = ((prediction - (norm_pix(target) if normalised else target)) ** 2).mean(-1)
    expected = error.mean() if loss_on == "all" else (error * mask).sum() / mask.sum()

    settings = TeacherSettings(name="pixels", kind="pixels", norm_pix=normalised)
    teacher = load_teacher(settings, tmp_path, 64, mean=(0.0,) * 3, std=(1.0,) * 3)
    pixels = torch.from_numpy(images)
    loss = model.double()(pixels, teacher.double().tokens(pixels), torch.from_numpy(noise))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_our_model_goes_out_as_maes_file_and_comes_back(tmp_path: Path) -> None:
    """With its decoder into our model, without it as an encoder; positions are those that MAE would compute."""
    model = tiny()
    torch.save({"model": mae_tensors(model), "epoch": 399, "args": argparse.Namespace()}, tmp_path / "ours.pth")
    written = read_file(tmp_path / "ours.pth", (argparse.Namespace,))["model"]
    assert shapes(written) == upstream.vit(SIZE) | upstream.mae_decoder(24, 12, SIZE, depth=1)

    again = MaskedAutoencoder(build_encoder("vit_tiny_patch16_224", TINY, 64), 12, width=24, depth=1, heads=3)
    inputs = torch.randn(2, 3, 64, 64), torch.randn(2, 16, 12), torch.rand(2, 16)
    assert not torch.equal(again(*inputs), model(*inputs))
    load_mae(again, written, tmp_path / "ours.pth")
    assert torch.equal(again(*inputs), model(*inputs))

    checkpoint = read_mae(tmp_path / "ours.pth", CheckpointSettings(format="mae", file="ours.pth"))
    assert set(checkpoint.dropped) == set(upstream.mae_decoder(24, 12, SIZE, depth=1))
    assert checkpoint.tensors.keys() == model.encoder.state_dict().keys()
    assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in model.encoder.state_dict().items())
    with pytest.raises(UrfmError, match=r"enc\.pth: .* missing: mask_token"):
        load_mae(again, checkpoint.tensors, "enc.pth")

    for name, width in (("pos_embed", 32), ("decoder_pos_embed", 24)):
        # get_2d_sincos_pos_embed: np.meshgrid(w, h) puts the column into the half that is called h.
        column, row = np.meshgrid(np.arange(4.0), np.arange(4.0))
        omega = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
        halves = [np.einsum("m,d->md", place.reshape(-1), omega) for place in (column, row)]
        table = np.concatenate([part for half in halves for part in (np.sin(half), np.cos(half))], axis=1)
        expected = np.concatenate([np.zeros((1, width)), table]).astype(np.float32)
        np.testing.assert_allclose(written[name][0].numpy(), expected, rtol=0, atol=1e-7)


def test_initialisation_is_maes() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(build_encoder("vit_tiny_patch16_224", {"depth": 2}, 64), 50, width=64, depth=1, heads=4)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            bound = math.sqrt(6 / (module.in_features + module.out_features))  # Xavier, uniform
            assert module.weight.abs().max() <= bound, name
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05), name
            assert (module.bias == 0).all(), name
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6
    kernel = model.encoder.patch_embed.proj.weight
    assert kernel.abs().max() <= math.sqrt(6 / (768 + 192))
    assert kernel.std().item() == pytest.approx(math.sqrt(2 / (768 + 192)), rel=0.05)
    assert model.encoder.cls_token is not None
    assert model.encoder.cls_token.std().item() == pytest.approx(0.02, rel=0.2)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"encoder.pos_embed", "decoder_pos_embed"}


def test_what_pretraining_decays_is_what_mae_decays() -> None:
    """add_weight_decay of timm 0.3.2, which main_pretrain.py calls, on the names of MAE's model."""
    encoder = build_encoder("vit_tiny_patch16_224", {"embed_dim": 32, "depth": 2, "num_heads": 2}, 32)
    model = MaskedAutoencoder(encoder, 768, width=16, depth=1, heads=2)
    names = {id(parameter): name.removeprefix("encoder.") for name, parameter in model.named_parameters()}
    others, decayed = optimisation.weight_decay_groups(model, 0.05)
    size = upstream.Vit(width=32, depth=2, heads=2, grid=2)
    expected = upstream.vit(size) | upstream.mae_decoder(16, 768, size, depth=1)
    for name in ("pos_embed", "decoder_pos_embed"):  # requires_grad=False
        del expected[name]
    no_decay = {name for name, shape in expected.items() if len(shape) == 1 or name.endswith(".bias")}
    assert {names[id(parameter)] for parameter in others["params"]} == no_decay
    assert {names[id(parameter)] for parameter in decayed["params"]} == expected.keys() - no_decay
    assert {"cls_token", "mask_token"} <= expected.keys() - no_decay


def test_every_trained_parameter_gets_a_gradient() -> None:
    model = tiny()
    model(torch.randn(2, 3, 64, 64), torch.randn(2, 16, 12), torch.rand(2, 16)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize("model_args", [{}, {"reg_tokens": 2}, {"no_embed_class": True}, {"class_token": False}])
def test_variants_of_the_transformer(model_args: dict[str, object]) -> None:
    if model_args == {"class_token": False}:
        model_args = {**model_args, "global_pool": ""}
    encoder = build_encoder("vit_tiny_patch16_224", {**TINY, **model_args}, 64)
    model = MaskedAutoencoder(encoder, 7, width=16, depth=1, heads=2)
    model(torch.randn(2, 3, 64, 64), torch.randn(2, 16, 7), torch.rand(2, 16)).backward()
    again = timm.create_model("vit_tiny_patch16_224", num_classes=0, **encoder_arguments({**TINY, **model_args}, 64))
    again.load_state_dict(encoder.state_dict(), strict=True)


@pytest.mark.parametrize(
    ("architecture", "model_args", "message"),
    [
        ("resnet18", {}, "timm refuses"),
        ("vit_tiny_patch16_225", {}, r"timm has no 'vit_tiny_patch16_225'; did you mean vit_tiny"),
        ("local-dir:/tmp", {}, r"timm has no 'local-dir:/tmp'"),
        ("vit_tiny_patch16_224", {"depht": 3}, r"'depht' is none of .*; did you mean depth\?"),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, "fc_norm"),
        ("beit_base_patch16_224", {"depth": 1}, "not a plain vision transformer"),
    ],
)
def test_unsuitable_architectures_are_refused(architecture: str, model_args: dict[str, object], message: str) -> None:
    with pytest.raises(UrfmError, match=message):
        build_encoder(architecture, model_args, 64)
