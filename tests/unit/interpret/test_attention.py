"""Attention and class activation maps against timm's own softmax, a linear network and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn
from urfm.config.models import TeacherSettings
from urfm.interpret import attention
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.models.teachers import load_teacher

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_attention_is_the_softmax_that_timm_applies() -> None:
    """Without the fused kernel, timm hands the softmax to its dropout: caught there."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, **TINY).eval()
    layer = model.blocks[-1].attn
    layer.fused_attn = False
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode(), attention.watched(layer) as calls, attention.watched(layer.attn_drop) as softmax:
        model(images)
        found = attention.cls_attention(layer, calls[0][0], model.num_prefix_tokens)
    expected = softmax[0][0][:, :, 0, 1:].mean(dim=1)
    assert found.shape == (2, 16)
    assert torch.allclose(found, expected, atol=1e-6)


def test_encoders_attention_is_that_of_its_own_forward_pass_on_the_whole_image() -> None:
    model = MaskedAutoencoder(
        build_encoder("vit_tiny_patch16_224", TINY, 32), 12, width=16, depth=1, heads=2, mask_ratio=0.75
    ).eval()
    other = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, **TINY).eval()
    other.load_state_dict(model.encoder.state_dict())
    layer, images = other.blocks[-1].attn, torch.randn(2, 3, 32, 32)
    layer.fused_attn = False
    with torch.inference_mode(), attention.watched(layer.attn_drop) as softmax:
        other(images)
        found = attention.encoder_map(model, images)
    assert torch.allclose(found, softmax[0][0][:, :, 0, 1:].mean(dim=1), atol=1e-6)


class Linear(nn.Module):
    """Tokens (B, patches, dim) to the logits of their mean, so that Grad-CAM is known."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.layer, self.weights = nn.Identity(), weights

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.layer(tokens)[:, 1:].mean(dim=1) @ self.weights.T


def test_grad_cam_of_a_linear_network_is_its_class_activation_map() -> None:
    """Gradient of the mean of n patches is w / n: the map is relu(w . token) / n (Zhou et al. 2016)."""
    weights, tokens = torch.randn(3, 5), torch.randn(4, 1 + 9, 5, requires_grad=True)
    model = Linear(weights)
    maps, chosen = attention.grad_cam(model, model.layer, 1, tokens)
    assert torch.equal(chosen, model(tokens).argmax(dim=1))
    expected = torch.einsum("bpc,bc->bp", tokens[:, 1:], weights[chosen]).relu() / 9
    assert torch.allclose(maps, expected, atol=1e-6)
    assert not maps.requires_grad


@pytest.mark.parametrize(("patches", "keep", "masks"), [(196, 49, 4), (36, 9, 4), (10, 4, 3), (4, 4, 1)])
def test_complementary_masks_show_every_patch(patches: int, keep: int, masks: int) -> None:
    noise = attention.complementary_noise(patches, keep, seed=1)
    assert noise.shape == (masks, patches)
    visible = noise.argsort(dim=1)[:, :keep]
    assert set(visible.flatten().tolist()) == set(range(patches))
    if patches == masks * keep:
        assert visible.flatten().bincount().tolist() == [1] * patches


def test_reconstruction_and_its_explained_variance() -> None:
    model = MaskedAutoencoder(
        build_encoder("vit_tiny_patch16_224", TINY, 32), 12, width=16, depth=1, heads=2, mask_ratio=0.75
    ).eval()
    images, target = torch.randn(2, 3, 32, 32), torch.randn(2, 16, 12)
    noise = attention.complementary_noise(16, 4, seed=0)
    with torch.inference_mode():
        maps, predictions, masks = attention.reconstruct(model, images, noise)
    assert (maps > 0).all()
    assert (maps.sum(dim=1) < 1).all()  # the rest is the class token's own
    assert masks.sum(dim=0).tolist() == [3.0] * 16  # seen once of four times
    assert torch.allclose(attention.explained(target, target.expand(4, -1, -1, -1), masks), torch.ones(2))
    mean = target.mean(dim=1, keepdim=True).expand(4, 2, 16, 12)
    assert torch.allclose(attention.explained(target, mean, masks), torch.zeros(2), atol=1e-6)
    # R² and the loss of training, averaged over the masks, are one number in two scales.
    with torch.inference_mode():
        losses = [model(images[:1], target[:1], row[None]) for row in noise]
    deviation = (target[:1] - target[:1].mean(dim=1, keepdim=True)).square().mean()
    found = attention.explained(target[:1], predictions[:, :1], masks)
    assert found.item() == pytest.approx(1 - (torch.stack(losses).mean() / deviation).item(), abs=1e-5)


def test_a_teacher_without_class_token_shows_the_length_of_its_output(tmp_path: object) -> None:
    teacher = load_teacher(TeacherSettings(name="p", kind="pixels"), tmp_path, 32)  # type: ignore[arg-type]
    black_and_white = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    black_and_white[..., :16] = 255
    values, tokens = attention.teacher_map(teacher, black_and_white)
    assert values.shape == (1, 4)
    assert torch.allclose(values, tokens.square().sum(dim=-1).sqrt())


def test_concentration_and_likeness() -> None:
    lesion = np.zeros((4, 4))
    lesion[:2, :2] = 1  # a quarter
    assert attention.concentration(np.ones((4, 4)), lesion) == pytest.approx(1)
    assert attention.concentration(lesion, lesion) == pytest.approx(4)
    assert attention.concentration(1 - lesion, lesion) == 0
    assert np.isnan(attention.concentration(np.zeros((4, 4)), lesion))
    ramp = np.arange(16.0).reshape(4, 4)
    assert attention.likeness(ramp, np.exp(ramp)) == pytest.approx(1)
    assert attention.likeness(ramp, -ramp) == pytest.approx(-1)
    assert np.isnan(attention.likeness(ramp, np.zeros((4, 4))))


def test_colours_are_those_of_the_components() -> None:
    """Tokens on a line have one colour channel that orders them; the prediction is measured on the same line."""
    line = np.linspace(-1, 1, 50)[:, None] * np.array([[3.0, 4.0, 0.0, 0.0]])
    noise = np.random.default_rng(0).normal(0, 1e-3, line.shape)
    target, prediction = attention.colours(line + noise, np.zeros((2, 4)))
    assert abs(np.corrcoef(target[:, 0], np.arange(50))[0, 1]) > 0.99
    assert prediction[:, 0] == pytest.approx(0.5, abs=0.05)
    assert target.min() >= 0
    assert target.max() <= 1


def test_the_first_right_and_outlined_image_is_drawn() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"label": list("aaab"), "predicted": list("baab"), "area": [0.1, float("nan"), 0.2, 0.1]})
    assert attention.choose(table) == 2
    assert attention.choose(table.assign(area=float("nan"))) == 1
    assert attention.choose(table.assign(predicted=list("bbba"))) == 0
