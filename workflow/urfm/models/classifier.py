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
from urfm.config.networks import known_arguments
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.models.weights import check_fit, load_strictly


def timm_config(architecture: str) -> Any:
    """timm's PretrainedCfg of an architecture (input size, normalisation, names); an unknown one is an UrfmError."""
    if not isinstance(architecture, str):  # of a json that somebody else may have written
        raise UrfmError(f"architecture: {str(architecture)[:60]} is not the name of a network")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        raise UrfmError(f"architecture: timm has no {architecture!r}{f'; did you mean {close[0]}?' if close else ''}")
    return timm.get_pretrained_cfg(architecture)


def build(
    architecture: str, model_args: dict[str, Any], input_size: int | None, num_classes: int = 0, **options: Any
) -> Any:
    """A timm network (of any class, hence untyped) with fresh weights; nothing else here asks timm for one.

    `input_size` (pixels) matters only to networks that are built for one size, such as ViTs.
    """
    size = {} if input_size is None else {"img_size": input_size}
    if timm_config(architecture).fixed_input_size:
        options |= size
    try:
        known_arguments(size)
        arguments = {**known_arguments(model_args), **options}
        return timm.create_model(architecture, pretrained=False, num_classes=num_classes, **arguments)
    except (AssertionError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UrfmError(
            f"architecture {architecture}: timm refuses {model_args} with {options} ({error}); "
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
    network = record["architecture"], record["model_args"], record["input_size"], num_classes
    tensors = safetensors.torch.load_file(path) if record["weights"] == "file" else None
    if tensors is not None:  # a network that the file does not fill takes no memory
        with torch.device("meta"):
            sketch = build(*network, global_pool=options["global_pool"])
        check_fit(sketch, tensors, path, *_not_of_the_file(sketch, pooling))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(*network, **options)
        classifier = model.get_classifier()
        if not isinstance(classifier, nn.Linear | nn.Conv2d):  # timm's resnetv2 has a 1 x 1 convolution
            raise UrfmError(
                f"architecture {record['architecture']}: its classifier is not one linear layer; use another"
            )
        nn.init.trunc_normal_(classifier.weight, std=2e-5)
        assert classifier.bias is not None
        nn.init.zeros_(classifier.bias)
    if tensors is not None:
        load_strictly(model, tensors, path, *_not_of_the_file(model, pooling))
    return model


def _not_of_the_file(model: Any, pooling: Pooling) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Beginnings of names: of what an encoder's file need not have, and of what it may have for nothing."""
    classifier = model.get_classifier()
    new = tuple(f"{name}." for name, module in model.named_modules() if module is classifier)
    return ((*new, "fc_norm."), ("norm.",)) if pooling == "mean" else (new, ())
