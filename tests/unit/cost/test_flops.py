"""FLOP of the networks against closed forms and published numbers."""

from __future__ import annotations

from typing import Any

import pytest
from configurations import PAPER
from urfm.config.models import CheckpointSettings, TeacherSettings
from urfm.config.pretraining import PretrainSettings
from urfm.cost import flops, training
from urfm.plan import settings
from urfm.targets.size import token_shape

WIDTH, DEPTH, PATCHES, PATCH = 768, 12, 196, 3 * 16 * 16  # of a ViT-B/16 at 224 pixels


def blocks(tokens: int, width: int, depth: int) -> int:
    """Multiplications of transformer blocks: queries, keys, values and projection, the MLP, and attention twice."""
    return depth * (tokens * 12 * width**2 + 2 * tokens**2 * width)


def recipe(run: str, **changes: Any) -> PretrainSettings:
    return PretrainSettings.model_validate({**settings.pretraining.pretraining(PAPER, run), **changes})


def test_a_vit_against_its_closed_form() -> None:
    """Backward is twice forward, but that nobody asks for the gradient of the pixels."""
    forward = 2 * (PATCHES * PATCH * WIDTH + blocks(PATCHES + 1, WIDTH, DEPTH))
    cost = flops.classifier(flops.shape("vit_base_patch16_224", {}, 224))
    assert cost.forward == forward
    assert cost.step == 3 * forward - 2 * PATCHES * PATCH * WIDTH
    assert cost.parameters == 85_798_656  # timm, without its head


def test_masked_pretraining_against_its_closed_form() -> None:
    """The encoder sees 49 of 196 patches and the class token; the decoder, and the teacher, all of them."""
    cost = flops.pretraining(recipe("urfm"))
    patches = PATCHES * PATCH * WIDTH
    encoder = patches + blocks(50, WIDTH, DEPTH)
    decoder = 50 * WIDTH * 768 + blocks(PATCHES + 1, 768, 8) + (PATCHES + 1) * 768 * 768
    assert cost.step == 2 * (3 * (encoder + decoder) - patches)
    assert cost.teacher == 2 * (patches + blocks(PATCHES + 1, WIDTH, DEPTH))
    smaller = flops.pretraining(recipe("urfm", decoder={"width": 512, "depth": 8, "heads": 16}))
    assert [round(found.step / 1e9) for found in (smaller, cost)] == [58, 97]  # docs/cost.md
    assert flops.pretraining(recipe("mim_us")).teacher == 0  # pixels are their own target


@pytest.mark.parametrize(
    ("architecture", "published"),  # thousand million multiplications, of timm and torchvision
    [
        ("vit_base_patch16_224", 17.58),
        ("vit_large_patch16_224", 61.6),
        ("vit_huge_patch14_224", 167.4),
        ("resnet101", 7.8),
    ],
)
def test_published_numbers(architecture: str, published: float) -> None:
    cost = flops.classifier(flops.shape(architecture, {}, None))
    assert cost.forward / 2e9 == pytest.approx(published, rel=0.01)
    assert cost.step / cost.forward == pytest.approx(3, rel=0.02)


def test_every_model_and_teacher_is_counted() -> None:
    """Networks of every form of checkpoint without a file; tokens as wide as the size of stored targets says."""
    counted = {
        name: flops.classifier(training.shape(PAPER, name)).forward
        for name, record in PAPER["models"].items()
        if "baseline" not in record
    }
    assert min(counted.values()) > 1e10
    assert counted["simclr_imagenet"] < counted["usfm"] == counted["urfm"] < counted["urfm_released_huge"]
    small = CheckpointSettings(format="efficientnet_lite0")
    assert flops.classifier(flops.checkpoint_shape(small)).forward / 2e9 == pytest.approx(0.4, rel=0.05)  # published
    for name, record in PAPER["teachers"].items():
        teacher = TeacherSettings.model_validate(settings.pretraining.teacher(PAPER, name))
        forward, dim = flops.teacher(teacher.model_dump_json(), 224)
        assert (forward, dim) == (0, 768) if name == "pixels" else (forward > 0 and dim == token_shape(record, 224)[1])
