"""Networks of timm, loaded strictly, and the classifier around an encoder in the form of `urfm.models.encoders`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from urfm.config.fields import Pooling
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.models.weights import load_strictly


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


def load_classifier(path_json: Path, num_classes: int, pooling: Pooling, drop_path: float, seed: int) -> nn.Module:
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
        if not isinstance(classifier, nn.Linear | nn.Conv2d):  # timm's resnetv2 has a 1 x 1 convolution
            raise UrfmError(
                f"architecture {record['architecture']}: its classifier is not one linear layer; use another"
            )
        nn.init.trunc_normal_(classifier.weight, std=2e-5)
        assert classifier.bias is not None
        nn.init.zeros_(classifier.bias)
    if record["weights"] == "file":
        new = tuple(f"{name}." for name, module in model.named_modules() if module is classifier)
        mean = pooling == "mean"
        load_strictly(
            model,
            safetensors.torch.load_file(path),
            path,
            may_be_new=(*new, "fc_norm.") if mean else new,
            may_be_left=("norm.",) if mean else (),
        )
    return model
