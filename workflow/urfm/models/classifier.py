"""Networks of timm, loaded strictly, and the classifier around an encoder in the form of `urfm.models.encoders`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import timm
import torch
from torch import nn

from urfm.errors import UrfmError
from urfm.files import read_json, verify_sha256

Pooling = Literal["mean", "cls"]


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


def load_tensors(
    model: nn.Module,
    tensors: dict[str, torch.Tensor],
    source: str,
    may_be_new: tuple[str, ...],
    may_be_left: tuple[str, ...],
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
        load_tensors(
            model,
            safetensors.torch.load_file(path),
            str(path),
            may_be_new=(*new, "fc_norm.") if mean else new,
            may_be_left=("norm.",) if mean else (),
        )
    return model
