"""FLOP of the networks: torch counts them while the project's own networks run on the meta device, without values.

Matrix products and convolutions count, two for each multiplication with addition, forward and backward as they are
called. Norms, activations, the loss and the optimiser do not: on a card they take memory bandwidth, which utilisation
stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from urfm.config.models import CheckpointSettings, TeacherSettings
from urfm.config.pretraining import PretrainSettings
from urfm.models.classifier import build
from urfm.models.clip import TOWERS
from urfm.models.encoders import FORMATS
from urfm.models.mim import MaskedAutoencoder, build_encoder
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import PATCH_SIZE

BATCH = 2  # batch norm wants more than one image

Shape = tuple[str, tuple[tuple[str, Any], ...], int | None]  # architecture, model_args, input size


class Cost(NamedTuple):
    """Of a network: FLOP of an image, without and with its backward pass, and parameters."""

    forward: int
    step: int
    parameters: int


def count(run: Callable[[], object]) -> int:
    """FLOP of one image while `run` handles BATCH of them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // BATCH


def shape(architecture: str, model_args: dict[str, Any], input_size: int | None) -> Shape:
    """A network in a form by which its counts are kept."""
    arguments = ((name, tuple(value) if isinstance(value, list) else value) for name, value in model_args.items())
    return architecture, tuple(sorted(arguments)), input_size


def checkpoint_shape(settings: CheckpointSettings) -> Shape:
    """The network of an upstream file; where nobody states its input size, the architecture's own."""
    form = FORMATS.get(settings.format)
    architecture = settings.architecture or (form.architecture if form else "")
    return shape(architecture, (form.model_args if form else {}) | settings.model_args, settings.input_size)


@cache
def classifier(network: Shape) -> Cost:
    """A network without its last layer, which is next to nothing of it."""
    architecture, arguments, size = network
    with torch.device("meta"):
        model = build(architecture, dict(arguments), size)
        images = torch.empty(BATCH, 3, *[size or model.pretrained_cfg["input_size"][-1]] * 2)
    step = count(lambda: model.train()(images).sum().backward())
    with torch.no_grad():
        forward = count(lambda: model.eval()(images))
    return Cost(forward, step, parameters(model))


class Sketch(MaskedAutoencoder):
    """Nothing is drawn, for there are no values."""

    def _initialise(self) -> None:
        pass


class Student(NamedTuple):
    """Of a pre-training run: FLOP of an image in a step, FLOP of its teacher for an image, and parameters."""

    step: int
    teacher: int
    parameters: int


def pretraining(settings: PretrainSettings) -> Student:
    """The masked autoencoder of a run, and the teacher that looks on."""
    network = shape(settings.architecture, settings.model_args, settings.input_size)
    looked, dim = teacher(settings.teacher.model_dump_json(), settings.input_size, patch_size(network))
    decoder = tuple(settings.decoder.model_dump().items())
    step, size = autoencoder(network, dim, decoder, settings.mask_ratio)
    return Student(step, looked, size)


def encoder(network: Shape) -> Any:
    """An encoder that can be masked."""
    architecture, arguments, size = network
    assert size is not None
    with torch.device("meta"):
        return build_encoder(architecture, dict(arguments), size)


@cache
def patch_size(network: Shape) -> int:
    """Pixels of a side of an encoder's patches."""
    return int(encoder(network).patch_embed.patch_size[0])


@cache
def autoencoder(network: Shape, dim: int, decoder: tuple[tuple[str, int], ...], mask_ratio: float) -> tuple[int, int]:
    """FLOP of an image in a step, and parameters: the encoder, and a decoder to targets of `dim` channels."""
    sizes: dict[str, Any] = dict(decoder)
    with torch.device("meta"):
        model = Sketch(encoder(network), dim, **sizes, mask_ratio=mask_ratio, loss_on="all").to("meta")
        images = torch.empty(BATCH, 3, *model.encoder.patch_embed.img_size)
        target, noise = torch.empty(BATCH, model.patches, dim), torch.empty(BATCH, model.patches)
    return count(lambda: model(images, target, noise).backward()), parameters(model)


@cache
def teacher(settings_json: str, student: int, patch: int = PATCH_SIZE) -> tuple[int, int]:
    """FLOP for an image, and channels of a token; no file is needed."""
    settings = TeacherSettings.model_validate_json(settings_json)
    size = settings.sees(student)
    if settings.kind not in TOWERS:
        network = load_teacher(settings, Path(), student, patch_size=patch)
        return count(lambda: network.tokens(torch.zeros(BATCH, 3, size, size))), network.dim
    with torch.device("meta"):
        tower = build(TOWERS[settings.kind].architecture, settings.model_args, None)
        tower.set_input_size(img_size=(size, size))
        images = torch.empty(BATCH, 3, size, size)
    with torch.no_grad():
        return count(lambda: tower.forward_features(images)), int(tower.embed_dim)


def parameters(model: torch.nn.Module) -> int:
    """Numbers that a network holds."""
    return sum(parameter.numel() for parameter in model.parameters())
