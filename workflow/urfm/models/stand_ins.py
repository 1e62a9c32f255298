"""Stand-ins for upstream weight files, for demonstration where there are none (stage `stand_in`).

A network of timm with random weights, at whatever size the configuration asks for, written under the names and in the
form of the model's publisher, so that everything that reads such a file is exercised. Nothing here may pass for the
published model: a file beside it says what it is (`urfm.core.files.stand_in_mark`) and marks every result made from it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from pydantic import NonNegativeInt

from urfm.config.models import CheckpointSettings
from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, sha256, stand_in_mark, write_json
from urfm.core.progress import say
from urfm.models.classifier import build
from urfm.models.clip import openai_names
from urfm.models.encoders import FORMATS
from urfm.models.weights import Tensors

CHOICES = {"FORMATS": "checkpoint.format", "STAND_INS": "checkpoint.format"}  # of urfm.core.code

ENCODER = {"num_classes": 0}
CLASSIFIER = {"num_classes": 1000}  # of ImageNet, which some files carry


class StandInSettings(Settings):
    """Settings of the stage: the checkpoint that is stood in for, as `models` or `teachers` describe it."""

    checkpoint: CheckpointSettings
    seed: NonNegativeInt


class StandIn(NamedTuple):
    """How the tensors of a network of timm become the content of a publisher's file, and what that network is."""

    content: Callable[[Tensors], dict[str, Any]]
    options: dict[str, Any]  # passed to timm


def bare(tensors: Tensors) -> dict[str, Any]:
    """Tensors and nothing around them."""
    return dict(tensors)


def mae(tensors: Tensors) -> dict[str, Any]:
    return {"model": tensors}


def urfm(tensors: Tensors) -> dict[str, Any]:
    """Weights of a process group and their moving average, here the same; `model` is a string."""
    return {"epoch": 0, "model": "stand-in", "state_dict": _prefixed("module.", tensors), "ema_state_dict": tensors}


def moco_v3(tensors: Tensors) -> dict[str, Any]:
    return {"state_dict": _prefixed("module.base_encoder.", tensors)}


def vissl(tensors: Tensors) -> dict[str, Any]:
    trunk = _prefixed("_feature_blocks.", tensors)
    return {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": {}}}}}


def simclr_v2(tensors: Tensors) -> dict[str, Any]:
    """Separius/SimCLRv2-Pytorch's numbered layers (urfm.models.checkpoints.read_simclr_v2)."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace("stem.conv.", "net.0.0.").replace("stem.norm.", "net.0.1.0.")
        name = re.sub(r"^stages\.(\d+)\.", lambda match: f"net.{int(match[1]) + 1}.", name)
        name = name.replace("downsample.conv.", "projection.shortcut.").replace("downsample.norm.", "projection.bn.0.")
        name = re.sub(r"\.conv(\d)\.", lambda match: f".net.{2 * int(match[1]) - 2}.", name)
        name = re.sub(r"\.norm(\d)\.", lambda match: f".net.{2 * int(match[1]) - 1}.0.", name)
        if name.startswith("head.fc."):  # timm's classifier is a convolution
            name, tensor = name.removeprefix("head."), tensor.flatten(1) if tensor.ndim > 1 else tensor
        renamed[name] = tensor
    return {"resnet": renamed, "head": {}}


def usfm(tensors: Tensors) -> dict[str, Any]:
    return {**tensors, "mask_token": torch.zeros_like(tensors["cls_token"])}


def biomedclip(tensors: Tensors) -> dict[str, Any]:
    return _prefixed("visual.trunk.", tensors)


def _prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


STAND_INS: dict[str, StandIn] = {
    "timm": StandIn(bare, CLASSIFIER),
    "mae": StandIn(mae, ENCODER),
    "urfm": StandIn(urfm, ENCODER),
    "moco_v3": StandIn(moco_v3, ENCODER),
    "dino": StandIn(bare, ENCODER),
    "simclr": StandIn(vissl, ENCODER),
    "simclr_v2": StandIn(simclr_v2, CLASSIFIER),
    "usfm": StandIn(usfm, {**ENCODER, "global_pool": "token"}),  # its final norm comes before pooling
    "clip": StandIn(openai_names, ENCODER),
    "biomedclip": StandIn(biomedclip, ENCODER),
}


def content(settings: StandInSettings) -> dict[str, Any]:
    """What the file holds: fresh weights as timm draws them, at the architecture's own input size.

    Equal settings give equal weights; files of other names have others.
    """
    checkpoint = settings.checkpoint
    if checkpoint.format not in STAND_INS:
        raise UrfmError(f"stand_ins: format {checkpoint.format} needs no file, so nothing stands in for one")
    form, stand_in = FORMATS[checkpoint.format], STAND_INS[checkpoint.format]
    digest = hashlib.sha256(f"{settings.seed} {checkpoint.file}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:4]))
    architecture = checkpoint.architecture or form.architecture
    model = build(architecture, form.model_args | checkpoint.model_args, None, **stand_in.options)
    return stand_in.content(dict(model.state_dict()))


def write_stand_in(settings: StandInSettings, root: Path) -> Path:
    """Write a stand-in below `root`, its mark first, so that no moment shows weights without it.

    A file that is there without a mark is somebody's and is never touched.
    """
    path = root / settings.checkpoint.file
    if path.is_file() and not stand_in_mark(path).is_file():
        raise UrfmError(
            f"{path}: is no stand-in, and is left alone; take its model or teacher out of `stand_ins`, or name another "
            "checkpoint_root"
        )
    tensors = content(settings)
    mark = {"what": "random weights, for demonstration only: not the published model", **settings.model_dump()}
    write_json(stand_in_mark(path), mark)
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
        else:
            buffer = io.BytesIO()  # into a file, torch would write the temporary's name too
            torch.save(tensors, buffer)
            temporary.write_bytes(buffer.getvalue())
    write_json(stand_in_mark(path), {**mark, "sha256": sha256(path)})
    return path


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Write random weights in the form of an upstream file.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(StandInSettings.model_fields))
    parser.add_argument("--root", type=Path, required=True, help="the checkpoint root")
    arguments = parser.parse_args()
    settings = parse_settings(StandInSettings, arguments.settings)
    path = write_stand_in(settings, arguments.root)
    say(f"{path}: random weights in the format {settings.checkpoint.format}, a stand-in for the published file")


if __name__ == "__main__":
    run(main)
